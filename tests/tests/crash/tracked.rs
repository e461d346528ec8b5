//! Tracked messages under `kill -9`: each has one outcome, and its producer gets one outcome
//! message.

use end_to_end::{
    Broker, Random, Told, eventually,
    raw::{Args, Frame, Raw, publish, publish_with},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How many rounds, unless `WILCO_TEST_TRACKED_ROUNDS` says otherwise.
const ROUNDS: u32 = 10;
/// The most messages of one producer in one round.
const PUBLISH_COUNT_MAX: u64 = 1_000;
/// How many unconfirmed messages a producer allows itself.
const WINDOW: usize = 100;
/// How many ids are looked up over HTTP in each round.
const LOOKUPS: usize = 25;

/// The broker is gone.
struct Gone;

/// What a producer knows: its ids, and which of them were confirmed.
type Published = BTreeMap<String, bool>;

#[test]
fn each_tracked_message_has_one_outcome_after_kill_nine() {
    let test = "each_tracked_message_has_one_outcome_after_kill_nine";
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("wilco.toml");
    std::fs::write(&config, "[store]\nsegment_bytes = 1048576\n").expect("a file");
    let arguments = ["--config", config.to_str().expect("a path in UTF-8")];
    let Some(mut broker) = Broker::own_with(test, None, &arguments) else { return };
    let rounds = std::env::var("WILCO_TEST_TRACKED_ROUNDS").ok();
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut random = Random::seeded();
    println!("WILCO_TEST_SEED={}", random.state());
    let mut raw = broker.raw();
    for queue in ["tasks", "answers", "scratch"] {
        raw.declare(1, queue);
    }
    drop(raw);
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for round in 1..=rounds {
        let published = run_load(&mut broker, round, &mut random);
        if random.percent(25) {
            broker.start_and_kill_after(Duration::from_millis(random.below(40)));
        }
        broker.start();
        settle_all(&broker, &published, &mut told);
        look_up(&broker, &published, &told, &mut random);
    }
    println!("{rounds} rounds, {} outcomes", told.len());
}

/// Lets producers and workers work for a moment, and kills the broker.
fn run_load(broker: &mut Broker, round: u32, random: &mut Random) -> Published {
    let producers: Vec<_> = (0..2)
        .map(|index| {
            let (raw, random) = (broker.raw(), Random::new(random.draw()));
            let stem = format!("r{round}-p{index}");
            std::thread::spawn(move || produce(raw, &stem, random))
        })
        .collect();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (raw, random) = (broker.raw(), Random::new(random.draw()));
            std::thread::spawn(move || work(raw, random))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(60 + random.below(300)));
    broker.kill_nine();
    workers.into_iter().for_each(|worker| worker.join().expect("a worker found something wrong"));
    let published = producers.into_iter().map(|producer| producer.join().expect("a producer"));
    published.flatten().collect()
}

/// A message with an id that asks for every outcome.
fn message(id: &str, persistent: bool) -> Vec<u8> {
    let headers = Args::new().short("x-notify").u8(b'S').long(b"all");
    // Headers, delivery mode, reply-to, message id.
    let flags = Args::new().u16(0x2000 | 0x1000 | 0x0200 | 0x0080).table(&headers);
    let properties = flags.u8(if persistent { 2 } else { 1 }).short("answers").short(id);
    publish_with(1, "", "tasks", id.as_bytes(), &properties)
}

fn produce(mut raw: Raw, stem: &str, mut random: Random) -> Published {
    let mut published = Published::new();
    raw.confirm_select(1);
    let mut unconfirmed: BTreeMap<u64, String> = BTreeMap::new();
    for number in 1..=PUBLISH_COUNT_MAX {
        let id = format!("{stem}-{number}");
        raw.send(&message(&id, random.percent(70)));
        published.insert(id.clone(), false);
        unconfirmed.insert(number, id);
        while unconfirmed.len() >= WINDOW {
            let Some(frame) = raw.next_frame() else { return published };
            take_confirm(&frame, &mut unconfirmed, &mut published);
        }
    }
    while let Some(frame) = raw.next_frame() {
        take_confirm(&frame, &mut unconfirmed, &mut published);
    }
    published
}

fn take_confirm(frame: &Frame, unconfirmed: &mut BTreeMap<u64, String>, published: &mut Published) {
    assert!(frame.is(60, 80), "a confirm: {frame:?}");
    let mut fields = frame.fields();
    let (tag, multiple) = (fields.u64(), fields.u8() & 1 == 1);
    let later = unconfirmed.split_off(&(tag + 1));
    let mut confirmed = std::mem::replace(unconfirmed, later);
    if !multiple {
        let rest: Vec<u64> = confirmed.keys().copied().filter(|number| *number != tag).collect();
        for number in rest {
            let id = confirmed.remove(&number).expect("just seen");
            unconfirmed.insert(number, id);
        }
    }
    for id in confirmed.into_values() {
        published.insert(id, true);
    }
}

fn work(mut raw: Raw, mut random: Random) {
    let _ = try_work(&mut raw, &mut random);
}

fn try_work(raw: &mut Raw, random: &mut Random) -> Result<(), Gone> {
    raw.method(1, 60, 10, &Args::new().u32(0).u16(30).u8(0));
    let consume = Args::new().u16(0).short("tasks").short("").u8(0).table(&Args::new());
    raw.method(1, 60, 20, &consume);
    loop {
        let frame = raw.next_frame().ok_or(Gone)?;
        if !frame.is(60, 60) {
            continue;
        }
        let mut fields = frame.fields();
        fields.short();
        let tag = fields.u64();
        match random.below(100) {
            0..60 => raw.ack(1, tag, false),
            // Multiple; neither is requeued.
            60..70 => raw.method(1, 60, 120, &Args::new().u64(tag).u8(0)),
            // Given back.
            70..85 => raw.method(1, 60, 120, &Args::new().u64(tag).u8(0b10)),
            _ => {}
        }
    }
}

/// Publishes again what was not confirmed, processes everything, and takes all outcome messages.
fn settle_all(broker: &Broker, published: &Published, told: &mut BTreeMap<String, String>) {
    let mut raw = broker.raw();
    raw.confirm_select(1);
    let unconfirmed: BTreeSet<&String> =
        published.iter().filter(|(_, confirmed)| !**confirmed).map(|(id, _)| id).collect();
    for id in &unconfirmed {
        raw.send(&message(id, true));
        raw.expect(60, 80);
    }
    let client = broker.client();
    client.confirm_select();
    let mut wanted: BTreeSet<&String> = published.keys().collect();
    eventually("every message has its outcome message", || {
        while let Some(delivery) = client.get("tasks") {
            client.ack(&delivery);
        }
        while let Some(delivery) = client.get("answers") {
            let answer = Told::read(&delivery);
            let id = answer.message_id.clone();
            if answer.is_duplicate {
                assert!(unconfirmed.contains(&id), "nobody published {id} again");
            } else {
                let before = told.insert(id.clone(), answer.outcome.clone());
                assert_eq!(before, None, "{id} has a second outcome: {answer:?}");
            }
            assert_eq!(answer.queue_count, 1, "{answer:?}");
            client.ack(&delivery);
        }
        wanted.retain(|id| !told.contains_key(*id));
        wanted.is_empty()
    });
    // Confirmed after the acks, so they are durable.
    client.confirmed("", "scratch", "");
    raw.send(&publish(1, "", "scratch", b""));
    raw.expect(60, 80);
}

/// The ledger says the same as the outcome messages.
fn look_up(
    broker: &Broker,
    published: &Published,
    told: &BTreeMap<String, String>,
    random: &mut Random,
) {
    let ids: Vec<&String> = published.keys().collect();
    for _ in 0..LOOKUPS.min(ids.len()) {
        let id = ids[random.below(ids.len() as u64) as usize];
        let settled = broker.settled(id);
        assert_eq!(settled["outcome"].text(), told[id], "{id}: {settled:?}");
    }
}
