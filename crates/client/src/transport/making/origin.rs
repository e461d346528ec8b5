//! Where a delivery comes from, and who is to be told what became of it: what its properties say.

use ::amqp::{ByteSlice, Properties, TableRef};

use ::outcome::{DURATION_MS_MAX, Notify, OutcomeMessage, OutcomeRequest, traceparent};

use crate::ledger::Key;
use crate::transport::properties::{PUBLISHED_AT, QUEUES};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) queue: String,
    /// Empty if its producer gave it none: then nobody can be told, and nothing is known of it later.
    pub(crate) id: Vec<u8>,
    pub(crate) correlation_id: Option<Vec<u8>>,
    /// Ms since the epoch, by its producer's clock; 0 if that is not known.
    pub(crate) published_at_ms: u64,
    /// Ms since the epoch, by its producer's clock.
    pub(crate) deadline_at_ms: Option<u64>,
    /// Over how many queues its producer has spread it.
    pub(crate) queue_count: u16,
    /// Of which trace it says it is.
    pub(crate) traceparent: Option<String>,
    reply_to: Option<String>,
    notify: Option<Notify>,
}

/// When its producer no longer waits for a message, ms since the epoch. A time stamp in seconds is too coarse
/// for that: without the precise one, the producer alone knows.
/// `number` is the number in a header.
pub(crate) fn deadline_at_ms(number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let deadline = number("x-deadline").filter(|deadline| *deadline <= DURATION_MS_MAX)?;
    number(PUBLISHED_AT)?.checked_add(deadline)
}

impl Origin {
    /// Reads the properties of a delivery. What cannot be read is taken as not given.
    pub(crate) fn read(queue: &str, encoded: &[u8]) -> Self {
        let properties = Properties::decode(encoded).unwrap_or_default();
        let headers = properties.headers.unwrap_or(TableRef::new(&[]));
        let header = |name: &str| headers.get(name).ok().flatten();
        let number = |name: &str| u64::try_from(header(name)?.as_i64()?).ok();
        let mut request = OutcomeRequest::default();
        if let Some(Ok(value)) = header("x-notify").map(|value| value.to_owned()) {
            // What makes no sense is not asked for.
            let _ = request.take_argument("x-notify", &value);
        }
        let published_at_ms = number(PUBLISHED_AT);
        let published_at_ms =
            published_at_ms.or_else(|| properties.timestamp?.checked_mul(1000)).unwrap_or(0);
        Self {
            queue: queue.to_owned(),
            id: properties.message_id.map(|id| id.to_vec()).unwrap_or_default(),
            correlation_id: properties.correlation_id.map(|id| id.to_vec()),
            published_at_ms,
            deadline_at_ms: deadline_at_ms(number),
            queue_count: number(QUEUES).and_then(|it| u16::try_from(it).ok()).unwrap_or(1),
            traceparent: traceparent(&properties).map(str::to_owned),
            reply_to: properties.reply_to.map(|name| name.to_str_lossy().into_owned()),
            notify: request.notify,
        }
    }

    pub(crate) fn key(&self) -> Key<'_> {
        Key { queue: &self.queue, id: &self.id }
    }

    /// The queue to which progress is to be sent, if its producer wants to be told everything.
    pub(crate) fn progress_to(&self) -> Option<&str> {
        let wants_all = self.notify == Some(Notify::All) && !self.id.is_empty();
        self.reply_to.as_deref().filter(|name| wants_all && !name.is_empty())
    }

    /// The queue to which this outcome is to be sent, if its producer wants it.
    pub(crate) fn to_be_told(&self, outcome: &OutcomeMessage<'_>) -> Option<&str> {
        let reply_to = self.reply_to.as_deref().filter(|name| !name.is_empty())?;
        self.notify.is_some_and(|it| it.wants(outcome.verdict.outcome)).then_some(reply_to)
    }
}

#[cfg(test)]
mod tests {
    use ::amqp::{FieldTable, OwnedProperties};

    use super::*;

    #[test]
    fn what_is_missing_or_of_another_type_is_not_given() {
        let nothing = Origin::read("q", b"no properties");
        assert!(nothing.id.is_empty());
        assert_eq!((nothing.published_at_ms, nothing.deadline_at_ms), (0, None));
        let mut headers = FieldTable::new();
        headers.push("x-notify", "failed");
        headers.push("x-deadline", 500_i64);
        headers.push("x-published-at", "yesterday");
        let properties = OwnedProperties {
            headers: Some(headers),
            message_id: Some("a".into()),
            reply_to: Some("answers".into()),
            timestamp: Some(7),
            ..OwnedProperties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let origin = Origin::read("q", &encoded);
        assert_eq!((origin.published_at_ms, origin.deadline_at_ms), (7000, None));
        assert_eq!(
            (origin.notify, origin.reply_to.as_deref()),
            (Some(Notify::Failed), Some("answers"))
        );
    }
}
