//! Messages that are published again, and workers' reports: who is told, and when.

mod rig;

use std::sync::Arc;

use amqp::{FieldTable, FieldValue, OwnedProperties};
use node::{DeclareQueue, Got, Publish, Session, Settlement, Sink};
use rig::Rig;

/// Keeps confirms and what was got.
#[derive(Default)]
struct Answers {
    confirms: Vec<(u64, bool)>,
    got: Vec<(u64, OwnedProperties, Vec<u8>)>,
}

impl Sink for Answers {
    fn confirmed(&mut self, _: u16, number: u64, _: bool) {
        self.confirms.push((number, true));
    }

    fn refused(&mut self, _: u16, number: u64) {
        self.confirms.push((number, false));
    }

    fn got(&mut self, _: u16, got: &Got<'_>) {
        let properties = OwnedProperties::decode(got.properties).expect("well-formed");
        self.got.push((got.delivery_tag, properties, got.message.body().to_vec()));
    }
}

fn session(rig: &Rig) -> Session {
    let mut session =
        rig.node.open_session("/", "guest", Box::<Answers>::default()).expect("guest may");
    session.open_channel(1).expect("new");
    session
}

fn declare(session: &mut Session, name: &str, arguments: &[(&str, FieldValue)]) {
    let mut table = FieldTable::new();
    arguments.iter().for_each(|(name, value)| table.insert(*name, value.clone()));
    let options = DeclareQueue { durable: true, arguments: table, ..DeclareQueue::default() };
    session.declare_queue(name, &options).expect("a good declaration");
}

fn publish(
    session: &mut Session,
    key: &str,
    id: &str,
    reply_to: Option<&str>,
    headers: &[(&str, FieldValue)],
) {
    let mut table = FieldTable::new();
    headers.iter().for_each(|(name, value)| table.insert(*name, value.clone()));
    let mut properties = Vec::new();
    OwnedProperties {
        delivery_mode: Some(2),
        message_id: Some(id.to_owned().into()),
        reply_to: reply_to.map(str::to_owned).map(Into::into),
        headers: Some(table),
        ..OwnedProperties::default()
    }
    .encode(&mut properties);
    publish_raw(session, "", key, &properties, b"body");
}

fn publish_raw(session: &mut Session, exchange: &str, key: &str, properties: &[u8], body: &[u8]) {
    let publish = Publish { exchange, routing_key: key.into(), mandatory: false, properties, body };
    session.publish(1, &publish).expect("accepted");
    assert!(session.flush().is_empty());
}

fn confirms(session: &mut Session) -> Vec<(u64, bool)> {
    assert!(session.flush().is_empty());
    session.release_confirms();
    let outbox = Arc::clone(session.outbox());
    outbox.with_sink(|sink: &mut Answers, _| std::mem::take(&mut sink.confirms)).expect("this sink")
}

fn get(session: &mut Session, queue: &str) -> Option<(u64, OwnedProperties, Vec<u8>)> {
    session.get(1, queue, false).expect("there");
    let outbox = Arc::clone(session.outbox());
    outbox.with_sink(|sink: &mut Answers, _| sink.got.pop()).expect("this sink")
}

fn settle(session: &mut Session, tag: u64, settlement: Settlement) {
    session.settle(1, tag, false, settlement).expect("open");
    assert!(session.flush().is_empty());
}

fn dedup() -> (&'static str, FieldValue) {
    ("x-message-deduplication", FieldValue::Bool(true))
}

#[test]
fn duplicate_is_not_confirmed_before_its_original_is_durable() {
    let mut rig = Rig::new(1 << 20);
    let (mut first, mut again) = (session(&rig), session(&rig));
    declare(&mut first, "q", &[dedup()]);
    rig.commit();
    publish(&mut first, "q", "x", None, &[]);
    again.select_confirms(1).expect("not transactional");
    publish(&mut again, "q", "x", None, &[]);
    let told = confirms(&mut again);
    drop((first, again));
    rig.crash();
    let mut after = session(&rig);
    let is_there = get(&mut after, "q").is_some();
    assert!(told.is_empty() || is_there, "confirmed ({told:?}) and lost");
}

#[test]
fn duplicate_in_a_batch_is_refused_with_its_original() {
    for is_transaction in [false, true] {
        let rig = Rig::new(1 << 20);
        let (mut client, mut other) = (session(&rig), session(&rig));
        let arguments = [
            dedup(),
            ("x-max-length", FieldValue::I32(1)),
            ("x-overflow", "reject-publish".into()),
        ];
        declare(&mut client, "q", &arguments);
        publish(&mut other, "q", "filler", None, &[]);
        if is_transaction {
            client.select_transactions(1).expect("not in confirm mode");
        } else {
            client.select_confirms(1).expect("not transactional");
        }
        let mut gather = |id: &str| {
            let mut properties = Vec::new();
            let message_id = Some(id.to_owned());
            OwnedProperties {
                message_id: message_id.map(Into::into),
                ..OwnedProperties::default()
            }
            .encode(&mut properties);
            let (routing_key, mandatory, body) = ("q", false, &b"x"[..]);
            let publish = Publish {
                exchange: "",
                routing_key: routing_key.into(),
                mandatory,
                properties: &properties,
                body,
            };
            client.publish(1, &publish).expect("allowed");
        };
        gather("x");
        gather("x");
        if is_transaction {
            assert!(client.commit(1).is_err(), "partial");
        } else {
            assert!(client.flush().is_empty());
            rig.commit();
            assert_eq!(confirms(&mut client), [(1, false), (2, false)]);
        }
        // It may be published again once there is room.
        let (tag, ..) = get(&mut other, "q").expect("the filler");
        settle(&mut other, tag, Settlement::Ack);
        publish(&mut other, "q", "x", None, &[]);
        publish(&mut other, "q", "x", None, &[]);
        assert!(get(&mut other, "q").is_some());
        assert!(get(&mut other, "q").is_none(), "once");
    }
}

#[test]
fn id_that_was_refused_is_looked_for_again_once_it_is_accepted() {
    let rig = Rig::new(1 << 20);
    let mut client = session(&rig);
    let arguments =
        [dedup(), ("x-max-length", FieldValue::I32(1)), ("x-overflow", "reject-publish".into())];
    declare(&mut client, "q", &arguments);
    for is_later in [false, true] {
        let id = format!("x-{is_later}");
        publish(&mut client, "q", &format!("filler-{is_later}"), None, &[]);
        publish(&mut client, "q", &id, None, &[]);
        rig.commit();
        if is_later {
            rig.pass_ms(5);
        }
        let (tag, ..) = get(&mut client, "q").expect("the filler");
        settle(&mut client, tag, Settlement::Ack);
        publish(&mut client, "q", &id, None, &[]);
        if is_later {
            // The ledger writer sees the refused message, but not yet the accepted one.
            rig.node.maintain();
        }
        let (tag, ..) = get(&mut client, "q").expect("accepted, as it was refused before");
        publish(&mut client, "q", &id, None, &[]);
        assert!(get(&mut client, "q").is_none(), "twice in the queue (later: {is_later})");
        settle(&mut client, tag, Settlement::Ack);
        rig.maintain(2);
    }
}

#[test]
fn duplicate_of_what_missed_its_deadline_and_was_rejected_is_answered() {
    let rig = Rig::new(1 << 20);
    let mut client = session(&rig);
    for queue in ["q", "r1", "r2"] {
        declare(&mut client, queue, &[]);
    }
    let all = ("x-notify", FieldValue::from("all"));
    let headers = [all.clone(), ("x-deadline", FieldValue::I32(100))];
    publish(&mut client, "q", "x", Some("r1"), &headers);
    let (tag, ..) = get(&mut client, "q").expect("there");
    rig.pass_ms(200);
    rig.maintain(2);
    assert!(get(&mut client, "r1").is_some(), "the deadline was told");
    settle(&mut client, tag, Settlement::Reject);
    rig.maintain(2);
    publish(&mut client, "q", "x", Some("r2"), &[all]);
    rig.maintain(4);
    assert!(get(&mut client, "q").is_none(), "a duplicate");
    assert!(get(&mut client, "r2").is_some(), "nobody answers");
}

#[test]
fn duplicate_that_asks_where_its_original_did_not_is_told() {
    let rig = Rig::new(1 << 20);
    let mut client = session(&rig);
    declare(&mut client, "q", &[dedup()]);
    declare(&mut client, "r", &[]);
    publish(&mut client, "q", "x", Some("r"), &[]);
    publish(&mut client, "q", "x", Some("r"), &[("x-notify", "all".into())]);
    let (tag, ..) = get(&mut client, "q").expect("there");
    settle(&mut client, tag, Settlement::Ack);
    rig.maintain(4);
    assert!(get(&mut client, "r").is_some(), "it asked, and the original did not");
}

#[test]
fn report_outlives_a_rollback() {
    let rig = Rig::new(1 << 20);
    let mut client = session(&rig);
    declare(&mut client, "q", &[]);
    declare(&mut client, "r", &[]);
    publish(&mut client, "q", "x", Some("r"), &[("x-notify", "all".into())]);
    client.open_channel(2).expect("new");
    client.select_transactions(1).expect("not in confirm mode");
    let (tag, ..) = get(&mut client, "q").expect("there");
    let mut plain = Vec::new();
    OwnedProperties::default().encode(&mut plain);
    publish_raw(&mut client, "amq.wilco.report", "x", &plain, b"42");
    settle(&mut client, tag, Settlement::Ack);
    client.rollback(1).expect("transactional");
    settle(&mut client, tag, Settlement::Ack);
    client.commit(1).expect("transactional");
    rig.maintain(4);
    let (.., body) = get(&mut client, "r").expect("the outcome");
    assert_eq!(body, b"42");
}

#[test]
fn error_text_of_the_last_attempt_is_told_with_the_delivery_limit() {
    let rig = Rig::new(1 << 20);
    let mut client = session(&rig);
    declare(&mut client, "q", &[("x-delivery-limit", FieldValue::I32(0))]);
    declare(&mut client, "r", &[]);
    publish(&mut client, "q", "x", Some("r"), &[("x-notify", "all".into())]);
    let (tag, ..) = get(&mut client, "q").expect("there");
    let headers: FieldTable = [("x-outcome", FieldValue::from("failed"))].into_iter().collect();
    let mut properties = Vec::new();
    OwnedProperties { headers: Some(headers), ..OwnedProperties::default() }
        .encode(&mut properties);
    publish_raw(&mut client, "amq.wilco.report", "x", &properties, b"no disk");
    settle(&mut client, tag, Settlement::Requeue);
    rig.maintain(4);
    let (_, told, _) = get(&mut client, "r").expect("the outcome");
    let headers = told.headers.expect("headers");
    assert_eq!(headers.get("x-reason").and_then(FieldValue::as_str), Some("delivery-limit"));
    assert_eq!(headers.get("x-error").and_then(FieldValue::as_str), Some("no disk"));
}
