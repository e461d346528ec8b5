//! What may be done to a message by its id, and what the ledger knows after being lost.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amqp::{FieldTable, FieldValue};
use node::embedded::{Delivery, Event, Link};
use node::{ByIdError, Consume, DeclareQueue, Node, Options, Properties, Settlement, StoreOptions};
use outcome::{IdHash, Outcome, Stage, Timeline};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait to see that nothing happens.
const QUIET: Duration = Duration::from_millis(100);

/// A node in a directory, and a link with channel 1 in confirm mode.
struct Case {
    node: Arc<Node>,
    link: Link,
    channel: u16,
}

impl Case {
    fn new(directory: &Path) -> Self {
        let store = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
        let options = Options { data: directory.to_owned(), store, ..Options::default() };
        let node = Node::open(options).expect("a directory");
        let mut link = Link::open(&node, "/", "guest").expect("guest may");
        let channel = link.open_channel().expect("a new channel");
        link.select_confirms(channel).expect("a new channel");
        Self { node, link, channel }
    }

    fn declare(&mut self, queue: &str, arguments: &[(&str, FieldValue)]) {
        let arguments: FieldTable =
            arguments.iter().map(|(name, value)| (*name, value.clone())).collect();
        let options = DeclareQueue { durable: true, arguments, ..DeclareQueue::default() };
        self.link.declare_queue(queue, &options).expect("a good declaration");
    }

    fn publish(&mut self, queue: &str, id: &str, body: &[u8]) {
        let properties = Properties {
            message_id: Some(id.into()),
            delivery_mode: Some(2),
            ..Properties::default()
        };
        self.link.publish(self.channel, "", queue, &properties, body).expect("may be published");
        assert!(self.link.wait_for_confirms(self.channel).expect("confirms").is_empty());
    }

    fn consume(&mut self, queue: &str) {
        let options = Consume { tag: queue, ..Consume::default() };
        self.link.consume(self.channel, queue, &options).expect("the queue is there");
    }

    fn next(&mut self) -> Delivery {
        match self.link.next_event(Some(PATIENCE)) {
            Some(Event::Delivered(delivery)) => delivery,
            other => panic!("a message was to come: {other:?}"),
        }
    }

    fn settle(&mut self, delivery: &Delivery, settlement: Settlement) {
        self.link.settle(self.channel, delivery.tag, settlement).expect("it is unsettled");
    }

    fn timeline(&self, id: &str) -> Timeline {
        Timeline::new(self.node.ledger().events(IdHash::new("/", id)).expect("a good disk"))
    }

    /// The outcome, with its reason, of a message that was published once, when there is one.
    fn outcome(&self, queue: &str, id: &str) -> (Outcome, String) {
        self.outcome_of(1, queue, id)
    }

    /// The same for the last of this many publications.
    fn outcome_of(&self, count: usize, queue: &str, id: &str) -> (Outcome, String) {
        let start = Instant::now();
        loop {
            let timeline = self.timeline(id);
            let newest = timeline.newest().filter(|_| timeline.publications.len() == count);
            let story = newest.and_then(|newest| newest.queues.iter().find(|q| q.name == queue));
            if let Some((_, _, settled)) = story.and_then(|story| story.settled.as_ref()) {
                return (settled.verdict.outcome, settled.verdict.reason_name().to_owned());
            }
            assert!(start.elapsed() < PATIENCE, "{id} has no outcome: {timeline:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn cancel(&self, queue: &str, id: &str) -> Result<(), ByIdError> {
        self.node.cancel_message("/", queue, id)
    }

    fn retry(&self, queue: &str, id: &str) -> Result<(), ByIdError> {
        self.node.retry_message("/", queue, id, |_| true)
    }

    fn close(self) {
        self.link.close();
        self.node.close();
    }
}

#[test]
fn a_queued_message_can_be_cancelled_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut case = Case::new(directory.path());
    case.declare("q", &[]);
    case.publish("q", "a", b"first");
    case.publish("q", "b", b"second");
    assert_eq!(case.cancel("q", "a"), Ok(()));
    assert_eq!(case.outcome("q", "a"), (Outcome::Dropped, "cancelled".to_owned()));
    assert_eq!(case.cancel("q", "a"), Err(ByIdError::Settled));
    assert_eq!(case.cancel("q", "never"), Err(ByIdError::Unknown));
    assert_eq!(case.cancel("nowhere", "b"), Err(ByIdError::Unknown));
    case.consume("q");
    let delivery = case.next();
    assert_eq!(delivery.message.body(), b"second", "the cancelled one is gone");
    assert_eq!(case.cancel("q", "b"), Err(ByIdError::Delivered));
    case.settle(&delivery, Settlement::Ack);
    assert_eq!(case.outcome("q", "b").0, Outcome::Processed);
    assert_eq!(case.cancel("q", "b"), Err(ByIdError::Settled));
    case.close();
}

#[test]
fn a_cancelled_message_stays_away_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut case = Case::new(directory.path());
    case.declare("q", &[]);
    case.publish("q", "a", b"first");
    assert_eq!(case.cancel("q", "a"), Ok(()));
    case.close();
    let case = Case::new(directory.path());
    assert_eq!(case.node.message_count(), 0);
    assert_eq!(case.cancel("q", "a"), Err(ByIdError::Settled));
    case.close();
}

#[test]
fn a_failed_message_can_be_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut case = Case::new(directory.path());
    case.declare("q", &[]);
    case.publish("q", "a", b"body");
    assert_eq!(case.retry("q", "a"), Err(ByIdError::NotFailed), "it is queued");
    assert_eq!(case.retry("q", "never"), Err(ByIdError::Unknown));
    case.consume("q");
    let delivery = case.next();
    assert_eq!(case.retry("q", "a"), Err(ByIdError::NotFailed), "it is being worked on");
    case.settle(&delivery, Settlement::Reject);
    assert_eq!(case.outcome("q", "a").0, Outcome::Failed);
    assert_eq!(case.retry("q", "a"), Ok(()));
    let again = case.next();
    assert_eq!(again.message.body(), b"body");
    let properties = again.message.properties().expect("well-formed");
    assert_eq!(properties.message_id, Some("a".into()));
    case.settle(&again, Settlement::Ack);
    assert_eq!(case.outcome_of(2, "q", "a").0, Outcome::Processed);
    assert_eq!(case.retry("q", "a"), Err(ByIdError::NotFailed), "it was processed");
    case.close();
}

#[test]
fn a_retry_takes_the_dead_lettered_copy_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut case = Case::new(directory.path());
    let dead = [
        ("x-dead-letter-exchange", FieldValue::from("")),
        ("x-dead-letter-routing-key", FieldValue::from("dead")),
    ];
    case.declare("q", &dead);
    case.declare("dead", &[]);
    case.publish("q", "a", b"body");
    case.consume("q");
    let delivery = case.next();
    case.settle(&delivery, Settlement::Reject);
    assert_eq!(case.outcome("q", "a").0, Outcome::Failed);
    assert_eq!(case.node.message_count(), 1, "the copy");
    assert_eq!(case.retry("q", "a"), Ok(()));
    let again = case.next();
    case.settle(&again, Settlement::Ack);
    assert_eq!(case.outcome_of(2, "q", "a").0, Outcome::Processed);
    case.consume("dead");
    assert!(case.link.next_event(Some(QUIET)).is_none(), "the copy is still there");
    assert_eq!(case.node.message_count(), 0);
    case.close();
}

#[test]
fn what_is_not_kept_cannot_be_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut case = Case::new(directory.path());
    case.declare("q", &[]);
    case.publish("q", "large", &[b'x'; 70_000]);
    case.publish("q", "small", b"x");
    case.consume("q");
    for id in ["large", "small"] {
        let delivery = case.next();
        case.settle(&delivery, Settlement::Reject);
        assert_eq!(case.outcome("q", id).0, Outcome::Failed);
    }
    assert_eq!(case.retry("q", "large"), Err(ByIdError::ContentGone));
    case.link.session().delete_queue("q", false, false).expect("nobody forbids it");
    case.link.wait_until_durable().expect("a good disk");
    assert_eq!(case.retry("q", "small"), Err(ByIdError::QueueGone("q".to_owned())));
    case.close();
}

#[test]
fn a_lost_ledger_is_made_anew_from_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut case = Case::new(directory.path());
    case.declare("q", &[]);
    for id in ["done", "failed", "waiting"] {
        case.publish("q", id, b"body");
    }
    case.consume("q");
    for settlement in [Settlement::Ack, Settlement::Reject] {
        let delivery = case.next();
        case.settle(&delivery, settlement);
    }
    let waiting = case.next();
    assert_eq!(waiting.message.body(), b"body");
    assert_eq!(case.outcome("q", "failed").0, Outcome::Failed);
    let before = ["done", "failed"].map(|id| case.timeline(id));
    case.close();
    std::fs::remove_dir_all(directory.path().join("ledger")).expect("there is a ledger");
    let case = Case::new(directory.path());
    assert_eq!(["done", "failed"].map(|id| case.timeline(id)), before);
    let timeline = case.timeline("waiting");
    let newest = timeline.newest().expect("it is in the log");
    assert!(newest.published.is_some() && newest.stage() != Stage::Settled, "{newest:?}");
    assert_eq!(case.retry("q", "failed"), Ok(()));
    assert_eq!(case.node.message_count(), 2);
    case.close();
}
