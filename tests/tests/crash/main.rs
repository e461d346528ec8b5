//! `kill -9` under load, again and again, on one data directory.
//!
//! After every restart the queues are read and compared with what the clients know:
//!
//! - a message whose confirm arrived, and that nobody acknowledged, is there;
//! - an ack followed on its channel by a publish whose confirm arrived is durable;
//! - messages of one publisher are in order, none is there twice, and none is unknown;
//! - a transaction is there as a whole or not at all.
//!
//! What a client cannot know (a publish without a confirm, an ack without a later confirm) may have
//! gone either way. `WILCO_TEST_SEED` replays the choices, not the timing.

mod load;
mod model;
mod survey;
mod tracked;

use end_to_end::{Broker, Random};
use load::{Client, Role};
use model::Model;
use std::time::{Duration, Instant};

/// How many rounds, unless `WILCO_TEST_ROUNDS` says otherwise.
const ROUNDS: u32 = 60;

/// Queues that publishers fill and consumers read.
const QUEUES: [&str; 9] =
    ["single", "second", "fan-1", "fan-2", "tx-1", "tx-2", "work", "done", "markers"];

#[test]
fn what_was_confirmed_survives_kill_nine_and_what_was_acked_stays_gone() {
    let test = "what_was_confirmed_survives_kill_nine_and_what_was_acked_stays_gone";
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("wilco.toml");
    // Small segments: several are filled, deleted and compacted within a round.
    std::fs::write(&config, "[store]\nsegment_bytes = 1048576\n").expect("a file");
    let arguments = ["--config", config.to_str().expect("a path in UTF-8")];
    let Some(mut broker) = Broker::own_with(test, None, &arguments) else { return };

    let rounds = std::env::var("WILCO_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut random = Random::seeded();
    let seed = random.state();
    println!("WILCO_TEST_SEED={seed}");
    let start = Instant::now();
    let mut model = Model::default();
    survey::declare(&mut broker.raw());
    for round in 1..=rounds {
        run_load(&mut broker, &mut model, &mut random);
        if random.percent(25) {
            // A crash during recovery is a crash like any other.
            broker.start_and_kill_after(Duration::from_millis(random.below(40)));
        }
        broker.start();
        let verdict = survey::check(&broker, &mut model, &mut random);
        verdict.unwrap_or_else(|wrong| panic!("seed {seed}, round {round}: {wrong}"));
    }
    println!("{rounds} rounds in {:?}: {}", start.elapsed(), model.totals());
    assert!(rounds < ROUNDS || model.totals().is_load(), "too little happened: {}", model.totals());
}

/// Lets all clients work for a moment, kills the broker, and records what they saw.
fn run_load(broker: &mut Broker, model: &mut Model, random: &mut Random) {
    let roles = [
        Role::Publisher { exchange: "", keys: &["single"] },
        Role::Publisher { exchange: "", keys: &["single", "second"] },
        Role::Publisher { exchange: "fan", keys: &[""] },
        Role::Publisher { exchange: "", keys: &["work"] },
        Role::Transaction { keys: &["tx-1", "tx-2"] },
        Role::Consumer { queue: "single" },
        Role::Consumer { queue: "second" },
        Role::Consumer { queue: "fan-1" },
        Role::Consumer { queue: "tx-1" },
        Role::Mover { from: "work", to: "done" },
    ];
    let clients: Vec<_> = roles
        .into_iter()
        .enumerate()
        .map(|(index, role)| {
            let raw = broker.raw();
            let next = model.next_sequence(index);
            let random = Random::new(random.draw());
            Client::new(index, role, raw, next, random)
        })
        .collect();
    let threads: Vec<_> =
        clients.into_iter().map(|client| std::thread::spawn(|| client.run())).collect();
    std::thread::sleep(Duration::from_millis(60 + random.below(350)));
    broker.kill_nine();
    for thread in threads {
        model.take_down(thread.join().expect("a client found something wrong"));
    }
}
