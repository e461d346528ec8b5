//! Whatever comes in one write is answered as if it had come method by method: a random history is
//! sent step by step, each step answered before the next, and then again cut into arbitrary pieces
//! without waiting.
//!
//! What may differ is left out of the comparison: how confirms are gathered, and how the replies,
//! deliveries and returns of one channel are ordered among each other. `PIPELINING_SEED` replays
//! one seed.

#[path = "../common/mod.rs"]
mod common;
mod heard;
mod script;

use std::time::Duration;

use amqp::{ChannelFlow, ChannelOpen, Method, QueueDelete};
use tokio::io::AsyncWriteExt;

use common::{Client, encoded, open_node};
use heard::Heard;
use script::{CHANNELS, Random, Script, queue_names};

const SEEDS: std::ops::Range<u64> = 1..13;
const STEPS: usize = 200;

/// A channel apart from the history: an answer there shows that everything before it has been
/// answered.
const MARK: u16 = 50;

fn mark() -> Vec<u8> {
    encoded(MARK, &ChannelFlow { active: true }.into())
}

/// Listens until the mark is answered and this many messages are confirmed.
async fn listen(reader: &mut common::Reader, heard: &mut Heard, confirmed_count: usize) {
    let mut is_marked = false;
    while !is_marked || heard.confirmed_count() < confirmed_count {
        let heard_so_far = (is_marked, heard.confirmed_count(), confirmed_count);
        let received = reader.frame_or(|| format!("of mark and confirms: {heard_so_far:?}")).await;
        match received.channel {
            MARK => is_marked |= matches!(received.method(), Method::ChannelFlowOk(_)),
            _ => heard.take(&received),
        }
    }
}

/// Step by step; the script depends on what is heard.
async fn one_at_a_time(client: &mut Client, random: Random) -> (Vec<u8>, Heard) {
    let (mut script, mut heard) = (Script::new(random), Heard::default());
    let mut all = Vec::new();
    for step in 0..STEPS {
        let bytes = if step == 0 { Script::declare_queues() } else { script.step(&mut heard) };
        all.extend_from_slice(&bytes);
        client.send(&[bytes, mark()].concat()).await;
        let expected = heard.confirmed_count_when_done();
        listen(&mut client.reader, &mut heard, expected).await;
    }
    (all, heard)
}

/// The same bytes in pieces.
async fn in_pieces(client: &mut Client, mut random: Random, all: &[u8], expected: usize) -> Heard {
    let mut heard = Heard::default();
    let Client { reader, writer } = client;
    let write = async {
        let mut left = all;
        while !left.is_empty() {
            // Often within a frame, now and then a lot at once.
            let most = if random.percent(70) { 300 } else { 60_000 };
            let count = (1 + random.below(most) as usize).min(left.len());
            writer.write_all(&left[..count]).await.expect("open");
            left = &left[count..];
            if random.percent(20) {
                tokio::time::sleep(Duration::from_micros(random.below(500))).await;
            }
        }
        writer.write_all(&mark()).await.expect("open");
    };
    tokio::join!(write, listen(reader, &mut heard, expected));
    heard
}

async fn clean_up(client: &mut Client) {
    for queue in queue_names() {
        let delete = QueueDelete { queue: &queue, ..QueueDelete::default() };
        client.send(&encoded(MARK, &delete.into())).await;
        loop {
            let received = client.reader.frame().await;
            if received.channel == MARK {
                break assert!(matches!(received.method(), Method::QueueDeleteOk(_)));
            }
        }
    }
}

async fn connect(node: &std::sync::Arc<node::Node>) -> Client {
    let mut client = Client::connect(node).await;
    client.open_channel(MARK).await;
    client.send(&encoded(script::DECLARING, &ChannelOpen {}.into())).await;
    assert!(matches!(client.reader.frame().await.method(), Method::ChannelOpenOk(_)));
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pipelined_is_answered_as_if_it_came_one_by_one() {
    let given = std::env::var("PIPELINING_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = given.map_or_else(|| SEEDS.collect(), |seed: u64| vec![seed]);
    let directory = tempfile::tempdir().expect("a directory");
    let node = open_node(directory.path());
    for seed in seeds {
        println!("PIPELINING_SEED={seed}");
        let mut client = connect(&node).await;
        let (all, slowly) = one_at_a_time(&mut client, Random::new(seed)).await;
        let [replies, deliveries, returns, _] = slowly.counts();
        assert!(replies > 20 && deliveries + returns > 10, "a history in which nothing happens");
        clean_up(&mut client).await;
        for cutting in 0..3 {
            let mut client = connect(&node).await;
            let cuts = Random::new(seed << 8 | cutting);
            let at_once = in_pieces(&mut client, cuts, &all, slowly.confirmed_count()).await;
            for channel in 1..=CHANNELS {
                let (expected, told) = (slowly.on(channel), at_once.on(channel));
                assert_eq!(told, expected, "PIPELINING_SEED={seed}, cut {cutting}, {channel}");
            }
            clean_up(&mut client).await;
        }
    }
    tokio::task::spawn_blocking(move || node.close()).await.expect("closed");
}
