//! When confirms go out, on a node whose commits are made by the test itself.

use std::sync::Arc;

use node::{Consume, DeclareQueue, Delivered, Node, Options, Properties, Publish};
use node::{Session, Sink, StoreOptions};
use segment_log::FaultyDisk;

/// Keeps the tags of confirms, and the last address to reply to.
#[derive(Default)]
struct Recorder {
    acks: Vec<(u64, bool)>,
    reply_to: Option<String>,
}

impl Sink for Recorder {
    fn confirmed(&mut self, _: u16, number: u64, multiple: bool) {
        self.acks.push((number, multiple));
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        let properties = Properties::decode(delivered.properties).expect("as published");
        self.reply_to = properties.reply_to.map(ToString::to_string);
    }
}

fn open() -> (Arc<Node>, Session) {
    let store = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
    let options = Options { store, ..Options::default() };
    let node = Node::open_on(FaultyDisk::new(1), options).expect("a new disk");
    let session = node.open_session("/", "guest", Box::<Recorder>::default()).expect("guest may");
    (node, session)
}

fn publish(session: &mut Session, key: &str, properties: &Properties<'_>) {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let publish = Publish {
        exchange: "",
        routing_key: key.into(),
        mandatory: false,
        properties: &encoded,
        body: b"body",
    };
    session.publish(1, &publish).expect("accepted");
}

fn acks(session: &mut Session) -> Vec<(u64, bool)> {
    assert!(session.flush().is_empty());
    session.release_confirms();
    let outbox = Arc::clone(session.outbox());
    outbox.with_sink(|sink: &mut Recorder, _| std::mem::take(&mut sink.acks)).expect("a recorder")
}

#[test]
fn confirm_of_a_reply_waits_for_those_before_it() {
    let (node, mut session) = open();
    session.open_channel(1).expect("new");
    session.declare_queue("q", &DeclareQueue { durable: true, ..Default::default() }).expect("new");
    let no_ack = Consume { no_ack: true, ..Consume::default() };
    session.consume(1, "amq.rabbitmq.reply-to", &no_ack).expect("a reply consumer");
    session.consume(1, "q", &no_ack).expect("a consumer");
    let asking =
        Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Properties::default() };
    publish(&mut session, "q", &asking);
    session.flush();
    let outbox = Arc::clone(session.outbox());
    let address = outbox.with_sink(|sink: &mut Recorder, _| sink.reply_to.clone()).flatten();
    let address = address.expect("the request was delivered");

    session.select_confirms(1).expect("not transactional");
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() };
    publish(&mut session, "q", &persistent);
    publish(&mut session, &address, &Properties::default());
    assert_eq!(acks(&mut session), [], "nothing is on disk yet");
    assert!(node.commit().expect("the disk works"));
    assert_eq!(acks(&mut session), [(2, true)]);
}

#[test]
fn transient_message_is_confirmed_at_once_unless_others_wait() {
    let (node, mut session) = open();
    session.open_channel(1).expect("new");
    session.declare_queue("q", &DeclareQueue { durable: true, ..Default::default() }).expect("new");
    session.select_confirms(1).expect("not transactional");
    publish(&mut session, "q", &Properties::default());
    assert_eq!(acks(&mut session), [(1, false)]);
    publish(&mut session, "q", &Properties { delivery_mode: Some(2), ..Properties::default() });
    publish(&mut session, "q", &Properties::default());
    assert_eq!(acks(&mut session), []);
    assert!(node.commit().expect("the disk works"));
    assert_eq!(acks(&mut session), [(3, true)]);
}
