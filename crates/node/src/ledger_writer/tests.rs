//! What the ledger holds when the committed records cannot carry everything.

use std::sync::Arc;

use amqp::OwnedProperties;
use outcome::{Event, IdHash, What};
use segment_log::FaultyDisk;

use crate::node::Node;
use crate::session::{DeclareQueue, Publish, Session};
use crate::{Options, Settlement, Sink};

/// Counts deliveries by `basic.get`.
#[derive(Default)]
struct Got(u64);

impl Sink for Got {
    fn got(&mut self, _: u16, got: &crate::Got<'_>) {
        self.0 = got.delivery_tag;
    }
}

fn open(disk: &FaultyDisk) -> Arc<Node> {
    let options = Options { loopback_users: Vec::new(), ..Options::default() };
    Node::open_on(disk.clone(), options).expect("a good disk")
}

fn session(node: &Arc<Node>) -> Session {
    let mut session = node.open_session("/", "guest", Box::<Got>::default()).expect("guest may");
    session.open_channel(1).expect("new");
    let options = DeclareQueue { durable: true, ..DeclareQueue::default() };
    session.declare_queue("q", &options).expect("a good declaration");
    session
}

fn publish_and_ack(session: &mut Session, id: &str) {
    let mut properties = Vec::new();
    OwnedProperties { message_id: Some(id.to_owned().into()), ..OwnedProperties::default() }
        .encode(&mut properties);
    let publish = Publish {
        exchange: "",
        routing_key: "q".into(),
        mandatory: false,
        properties: &properties,
        body: b"body",
    };
    session.publish(1, &publish).expect("accepted");
    assert!(session.get(1, "q", false).expect("there"));
    let outbox = Arc::clone(session.outbox());
    let tag = outbox.with_sink(|got: &mut Got, _| got.0).expect("this wire");
    session.settle(1, tag, false, Settlement::Ack).expect("open");
    assert!(session.flush().is_empty());
}

/// Published, delivered, settled: each once.
fn assert_told_once(node: &Node, id: &str) {
    let events = node.ledger().events(IdHash::new("/", id)).expect("readable");
    let kind = |event: &Event<'_>| match &event.what {
        What::Published(_) => "published",
        What::Delivered { .. } => "delivered",
        What::Settled(_) => "settled",
        _ => "other",
    };
    let kinds: Vec<_> = events.iter().map(kind).collect();
    assert_eq!(kinds, ["published", "delivered", "settled"], "{id}");
}

#[test]
fn what_was_dropped_is_read_from_the_log() {
    let disk = FaultyDisk::new(1);
    let node = open(&disk);
    let mut session = session(&node);
    for round in 0..4 {
        publish_and_ack(&mut session, &format!("before-{round}"));
        node.commit().expect("a good disk");
        if round % 2 == 1 {
            node.engine.store.committed_records.overflow();
        }
        publish_and_ack(&mut session, &format!("after-{round}"));
        node.commit().expect("a good disk");
        node.writer.follow(false);
        // Records that come again from the committed records are recognised after the log was read.
        node.writer.follow(true);
    }
    for round in 0..4 {
        assert_told_once(&node, &format!("before-{round}"));
        assert_told_once(&node, &format!("after-{round}"));
    }
}

#[test]
fn what_was_not_followed_before_a_crash_is_followed_after_it() {
    let disk = FaultyDisk::new(2);
    let node = open(&disk);
    let mut before = session(&node);
    publish_and_ack(&mut before, "flushed");
    node.commit().expect("a good disk");
    node.writer.follow(true);
    publish_and_ack(&mut before, "followed");
    node.commit().expect("a good disk");
    node.writer.follow(false);
    publish_and_ack(&mut before, "fed");
    node.commit().expect("a good disk");
    // The node is gone without closing, and with it what was only in memory.
    disk.crash();
    std::mem::forget(before);
    let node = open(&disk);
    for id in ["flushed", "followed", "fed"] {
        assert_told_once(&node, id);
    }
}

#[test]
fn lost_ledger_is_made_anew_from_what_the_log_still_has() {
    let disk = FaultyDisk::new(3);
    let node = open(&disk);
    let mut before = session(&node);
    publish_and_ack(&mut before, "x");
    node.commit().expect("a good disk");
    node.writer.follow(true);
    disk.crash();
    std::mem::forget(before);
    let names = segment_log::Disk::list(&disk).expect("a good disk");
    for name in names.iter().filter(|name| name.starts_with("ledger-")) {
        segment_log::Disk::remove(&disk, name).expect("there");
    }
    assert_told_once(&open(&disk), "x");
}
