//! The same de-duplicated ids from several threads at once, in orders that cross.

use std::sync::mpsc;
use std::time::Duration;

use amqp::{FieldTable, FieldValue, OwnedProperties};
use node::{DeclareQueue, Node, Options, Publish, Session, Sink, StoreOptions};

const ROUNDS: usize = 60;
const IDS: usize = 64;
/// No thread needs a fraction of this, unless it waits for another.
const PATIENCE: Duration = Duration::from_secs(60);

struct Nowhere;

impl Sink for Nowhere {}

/// The indices of a round's ids, in a different order for each thread.
fn order(thread: usize, at: usize) -> usize {
    match thread {
        0 => at,
        1 => IDS - 1 - at,
        2 => at * 7 % IDS,
        _ => (at + IDS / 2) % IDS,
    }
}

fn publish_all(session: &mut Session, thread: usize, in_transaction: bool) {
    // Batches of different lengths, so that they overlap in all ways.
    let batch = [IDS, 10, 7, 1][thread];
    for round in 0..ROUNDS {
        for at in 0..IDS {
            let mut properties = Vec::new();
            let id = format!("{round}-{}", order(thread, at));
            OwnedProperties { message_id: Some(id.into()), ..OwnedProperties::default() }
                .encode(&mut properties);
            let publish = Publish {
                exchange: "",
                routing_key: "q".into(),
                mandatory: false,
                properties: &properties,
                body: b"x",
            };
            session.publish(1, &publish).expect("allowed");
            if (at + 1) % batch == 0 || at + 1 == IDS {
                match in_transaction {
                    true => session.commit(1).expect("nothing is refused"),
                    false => assert!(session.flush().is_empty()),
                }
            }
        }
    }
}

#[test]
fn crossed_ids_from_four_threads_are_enqueued_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
    let data = directory.path().join("data");
    let node = Node::open(Options { data, store, ..Options::default() }).expect("a new store");
    let session = || {
        let mut session = node.open_session("/", "guest", Box::new(Nowhere)).expect("guest may");
        session.open_channel(1).expect("new");
        session
    };
    let mut arguments = FieldTable::new();
    arguments.insert("x-message-deduplication", FieldValue::Bool(true));
    let options = DeclareQueue { durable: true, arguments, ..DeclareQueue::default() };
    session().declare_queue("q", &options).expect("a good declaration");
    let (done, is_done) = mpsc::channel();
    for thread in 0..4 {
        let (mut session, done) = (session(), done.clone());
        std::thread::spawn(move || {
            let in_transaction = thread == 2;
            if in_transaction {
                session.select_transactions(1).expect("not in confirm mode");
            }
            publish_all(&mut session, thread, in_transaction);
            done.send(()).expect("somebody waits");
        });
    }
    for _ in 0..4 {
        is_done.recv_timeout(PATIENCE).expect("no thread waits for another for ever");
    }
    assert_eq!(node.message_count(), (ROUNDS * IDS) as u64);
    node.close();
}
