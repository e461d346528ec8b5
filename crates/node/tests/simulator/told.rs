//! Outcome messages: what they say, and whether it is true.

use amqp::{FieldValue, OwnedProperties};
use outcome::Outcome;

use crate::message::Seen;
use crate::model::{Cause, Item, Key, Model, State};
use crate::topology::{EXCLUSIVE, Name, QUEUES, REPLIES};
use crate::wire::Delivered;

/// A decoded outcome message.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The message it is about, or whose duplicate asked.
    pub number: u32,
    pub id: String,
    /// Empty: the message reached none.
    pub queue: String,
    pub outcome: Outcome,
    pub reason: String,
    pub is_late: bool,
    pub is_duplicate: bool,
    pub queue_count: i64,
    pub error: Option<String>,
    pub result: Vec<u8>,
}

/// What a worker reports on a message before settling it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub is_error: bool,
    pub text: String,
}

impl Told {
    pub(crate) fn read(delivered: &Delivered) -> Self {
        let properties = OwnedProperties::decode(&delivered.properties).expect("well-formed");
        assert_eq!(properties.kind, Some("outcome".into()), "only outcomes go to {REPLIES}");
        let headers = properties.headers.as_ref().expect("an outcome has headers");
        let text = |name: &str| headers.get(name).and_then(FieldValue::as_str).map(str::to_owned);
        let flag = |name: &str| headers.get(name) == Some(&FieldValue::Bool(true));
        let correlation_id =
            properties.correlation_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let number = correlation_id.strip_prefix('m').and_then(|digits| digits.parse().ok());
        let told = Self {
            number: number.unwrap_or_else(|| panic!("of what is this the outcome: {properties:?}")),
            id: text("x-message-id").expect("it names the message"),
            queue: text("x-queue").expect("it names the queue"),
            outcome: text("x-outcome").and_then(|name| Outcome::parse(&name)).expect("it has one"),
            reason: text("x-reason").expect("there is a reason"),
            is_late: flag("x-late"),
            is_duplicate: flag("x-duplicate"),
            queue_count: headers.get("x-queues").and_then(FieldValue::as_i64).expect("a number"),
            error: text("x-error"),
            result: delivered.body.clone(),
        };
        let late = if told.is_late { "-late" } else { "" };
        let event_id = format!("{}{late}.{}.{}", told.outcome.name(), told.queue, told.id);
        assert_eq!(properties.message_id, Some(event_id.into()), "the id of the event");
        told
    }

    /// What distinguishes it from all other outcome messages that its producer gets.
    pub(crate) fn event(&self) -> String {
        let late = if self.is_late { "-late" } else { "" };
        let again = if self.is_duplicate { " again" } else { "" };
        format!("{}{late} in {}{again}", self.outcome.name(), self.queue)
    }

    pub(crate) fn seen(&self) -> Seen {
        let event = Some(self.event());
        Seen { number: self.number, deaths: Vec::new(), origin: None, event, delivery_count: None }
    }

    /// The queue, if its name is one of ours.
    fn queue_name(&self) -> Option<Name> {
        QUEUES.iter().chain(&EXCLUSIVE).find(|name| **name == self.queue).copied()
    }
}

impl Model {
    /// An outcome message came out of [`REPLIES`]: checks that it may, and returns which item it
    /// is.
    pub(crate) fn observe_told(&mut self, told: &Told) -> Key {
        let key = (told.number, REPLIES, told.event());
        self.check_told(told);
        let (now_ms, step) = (self.now_ms, self.step);
        let item = self
            .items
            .entry(key.clone())
            .or_insert_with(|| Item { is_stored: true, ..Item::new(REPLIES, step) });
        assert_eq!(item.state, State::Ready, "{key:?} comes out at {now_ms} once more");
        key
    }

    /// Checks that it says what happened, to a producer who asked.
    fn check_told(&mut self, told: &Told) {
        let message = self.messages[told.number as usize].clone();
        assert!(message.is_tracked && message.asks.reply_to, "nobody asked: {told:?}");
        assert!(message.id.as_ref().is_none_or(|id| *id == told.id), "{told:?} of {message:?}");
        let queue = told.queue_name();
        let of_queue = queue.and_then(|queue| self.kinds.get(queue)).and_then(|kind| kind.notify);
        let notify = message.asks.notify.or(of_queue);
        assert!(notify.is_some_and(|notify| notify.wants(told.outcome)), "not asked for: {told:?}");
        if told.outcome == Outcome::Unroutable {
            assert_eq!((message.queue_count, told.queue_count), (0, 1), "{told:?}");
            return;
        }
        if !told.is_duplicate {
            assert_eq!(told.queue_count, message.queue_count as i64, "{told:?}");
        }
        if told.outcome == Outcome::DeadlineMissed && !told.is_duplicate {
            let at_ms = message.deadline_at_ms;
            assert!((1..=self.now_ms).contains(&at_ms), "it is {}: {told:?}", self.now_ms);
            return;
        }
        let Some(queue) = queue else { return };
        let key = (told.number, queue, String::new());
        let original = self
            .originals
            .get(&told.number)
            .and_then(|originals| originals.iter().find(|original| original.1 == queue).cloned());
        let key = match (told.is_duplicate, original) {
            (false, _) => key,
            (true, Some(original)) => original,
            (true, None) => return,
        };
        let same = self.ids.get(&told.id).into_iter().flatten();
        let same = same.filter(|number| self.items.contains_key(&(**number, queue, String::new())));
        if told.is_duplicate && same.count() > 1 {
            // It is unknown which of them the queue took for the original.
            return;
        }
        let kind = self.kinds.get(queue).copied().unwrap_or(crate::topology::PLAIN);
        let now_ms = self.now_ms;
        let report = self.reports.get(&(key.0, queue));
        let Some(item) = self.items.get_mut(&key) else {
            if message.routed.contains(&queue) && told.reason == "queue-deleted" {
                // When its transaction was committed, the queue was gone.
                return;
            }
            panic!("{told:?}: it was never in {queue}");
        };
        if item.may_be_duplicate || (told.is_duplicate && told.outcome == Outcome::DeadlineMissed) {
            return;
        }
        let cause = match item.state {
            State::Held => panic!("{told:?}: it is held"),
            State::Ready => Cause::Died,
            State::Gone { cause, .. } => cause,
        };
        let is_expired = item.expires_ms.is_some_and(|(from_ms, _)| from_ms <= now_ms);
        let fits = match told.outcome {
            _ if cause == Cause::Lost => true,
            Outcome::Processed => cause == Cause::Taken,
            Outcome::Failed => cause == Cause::Rejected || kind.redeliveries_max().is_some(),
            Outcome::Expired => is_expired && cause != Cause::Taken,
            _ => cause == Cause::Removed || kind.length_max.is_some() && cause != Cause::Taken,
        };
        assert!(fits, "{told:?}: it is {item:?}");
        if told.is_late {
            let deadline_at_ms = self.messages[key.0 as usize].deadline_at_ms;
            assert!((1..=now_ms).contains(&deadline_at_ms), "it is {now_ms}: {told:?}");
        }
        if matches!(cause, Cause::Taken | Cause::Rejected)
            && matches!(told.outcome, Outcome::Processed | Outcome::Failed)
            && told.reason != "delivery-limit"
        {
            let error = report.filter(|report| report.is_error).map(|report| report.text.clone());
            let result = report.filter(|report| !report.is_error).map(|report| &*report.text);
            let said = (told.error.clone(), told.result.as_slice());
            assert_eq!(said, (error, result.unwrap_or_default().as_bytes()), "{told:?}");
        }
        // A producer who was told so is never told otherwise.
        item.state = State::Gone { cause, is_stored: true };
    }
}
