//! An error in a gathered publish or settlement is found later, and is reported once: by the next
//! method on its channel, or by the flush.

mod rig;

use amqp::FieldTable;
use node::embedded::Link;
use node::{
    BrokerError, ChannelError, Consume, DeclareExchange, DeclareQueue, Destination, Session,
    Settlement,
};

use rig::Rig;

type Act = fn(&mut Session, u16) -> Result<(), BrokerError>;

/// Methods of a channel, which report its error and do nothing else.
const OF_CHANNEL: [(&str, Act); 10] = [
    ("consume", |session, channel| consume(session, channel)),
    ("cancel", |session, channel| session.cancel(channel, "nobody")),
    ("get", |session, channel| session.get(channel, "q", false).map(drop)),
    ("set_prefetch", |session, channel| session.set_prefetch(channel, 1, false)),
    ("recover", |session, channel| session.recover(channel)),
    ("select_confirms", |session, channel| session.select_confirms(channel)),
    ("select_transactions", |session, channel| session.select_transactions(channel)),
    ("close_channel", |session, channel| session.close_channel(channel)),
    ("flush_channel", |session, channel| session.flush_channel(channel)),
    ("publish", |session, channel| {
        session.set_prefetch(3 - channel, 1, false)?;
        let (exchange, routing_key, mandatory) = ("", "q", false);
        let (properties, body) = (&[0, 0][..], &b"x"[..]);
        let publish = node::Publish {
            exchange,
            routing_key: routing_key.into(),
            mandatory,
            properties,
            body,
        };
        session.publish(channel, &publish)
    }),
];

/// Methods of no channel in particular, which do their work and leave the error to be reported by
/// others.
const OF_SESSION: [(&str, Act); 7] = [
    ("declare_queue", |session, _| {
        session.declare_queue("new", &DeclareQueue::default()).map(drop)
    }),
    ("delete_queue", |session, _| session.delete_queue("q", false, false).map(drop)),
    ("purge_queue", |session, _| session.purge_queue("q").map(drop)),
    ("declare_exchange", |session, _| {
        session.declare_exchange("new", "fanout", &DeclareExchange::default())
    }),
    ("delete_exchange", |session, _| session.delete_exchange("none", false)),
    ("bind", |session, _| {
        session.bind("amq.direct", &Destination::queue("q"), "key", &FieldTable::new())
    }),
    ("unbind", |session, _| {
        session.unbind("amq.direct", &Destination::queue("q"), "key", &FieldTable::new())
    }),
];

fn consume(session: &mut Session, channel: u16) -> Result<(), BrokerError> {
    session.consume(channel, "q", &Consume::default()).map(drop)
}

fn unknown_tag() -> BrokerError {
    BrokerError::precondition_failed("unknown delivery tag 99")
}

/// Does something after an ack of an unknown tag on channel 1; returns what it reported, and what
/// is left to be reported.
fn after_unknown_tag(act: Act, channel: u16) -> (Result<(), BrokerError>, Vec<ChannelError>) {
    let rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.session.open_channel(2).expect("a new channel");
    client.declare("q", &[]);
    client.session.settle(1, 99, false, Settlement::Ack).expect("gathered");
    let said = act(&mut client.session, channel);
    (said, client.session.flush())
}

#[test]
fn a_method_on_the_same_channel_tells_and_does_nothing_else() {
    for (name, act) in OF_CHANNEL {
        assert_eq!(after_unknown_tag(act, 1), (Err(unknown_tag()), vec![]), "{name}");
    }
}

#[test]
fn a_method_on_another_channel_leaves_it_to_be_told() {
    for (name, act) in OF_CHANNEL.iter().filter(|(name, _)| *name != "publish").chain(&OF_SESSION) {
        assert_eq!(after_unknown_tag(*act, 2), (Ok(()), vec![(1, unknown_tag())]), "{name}");
    }
}

#[test]
fn what_follows_a_wrong_ack_on_its_channel_is_not_carried_out() {
    let rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.publish("", "q", &["x"]);
    let got = client.get("q").expect("a message");
    client.session.settle(1, 99, false, Settlement::Ack).expect("gathered");
    client.session.settle(1, got.tag, false, Settlement::Ack).expect("gathered");
    assert_eq!(client.session.flush(), [(1, unknown_tag())]);
    assert_eq!(client.session.close_channel(1), Ok(()));
    client.session.open_channel(1).expect("closed");
    assert_eq!(client.bodies("q"), ["x"]);
}

#[test]
fn closing_the_session_tells_of_all_channels() {
    let rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.session.settle(1, 99, false, Settlement::Ack).expect("gathered");
    assert_eq!(client.session.close(), [(1, unknown_tag())]);
    assert_eq!(client.session.close(), []);
}

#[test]
fn a_link_tells_with_the_next_call_on_the_channel() {
    let rig = Rig::new(1 << 20);
    let mut link = Link::open(&rig.node, "/", "guest").expect("guest may");
    let (first, second) = (link.open_channel().expect("new"), link.open_channel().expect("new"));
    link.session().declare_queue("q", &DeclareQueue::default()).expect("new");
    let fail = |link: &mut Link| {
        link.session().settle(first, 99, false, Settlement::Ack).expect("gathered");
    };
    fail(&mut link);
    let properties = node::Properties::default();
    link.publish(second, "", "q", &properties, b"x").expect("nothing is wrong there");
    assert_eq!(link.publish(first, "", "q", &properties, b"x"), Err(unknown_tag()));
    link.publish(first, "", "q", &properties, b"x").expect("it was told");
    fail(&mut link);
    let options = Consume::default();
    assert_eq!(link.consume(first, "q", &options), Err(unknown_tag()));
    fail(&mut link);
    link.consume(second, "q", &options).expect("nothing is wrong there");
    assert_eq!(link.settle(first, 98, Settlement::Ack), Err(unknown_tag()));
    fail(&mut link);
    assert_eq!(link.close(), [(first, unknown_tag())]);
}
