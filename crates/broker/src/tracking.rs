//! What travels with a tracked message besides its content: its identity, and what its producer
//! asked for.
//!
//! A message is tracked when it has a `message_id` or asks for an outcome. The tracking is put in
//! front of its content, in memory and in the log, so an ordinary message carries none of this.
//!
//! | bytes | content, little-endian |
//! |------:|---|
//! | 16 | hash of virtual host and id |
//! | 1 | flags: 1 duplicates are looked for, 2 dead-letter copy, 4 outcome message, 8 unanswerable |
//! | 1 | `x-notify`: 0 not asked, 1 all, 2 processed, 3 failed |
//! | 2 | queues it was routed to |
//! | 4 | of an outcome message: the queue whose outcome it tells |
//! | 8 | deadline, ms since the epoch; 0 is none |
//! | 8 | who waits for its confirm; 0 is nobody |

use outcome::{Notify, Ticket};

use crate::QueueId;

/// Length of an encoded [`Tracking`].
pub const TRACKING_BYTES: usize = 40;

const DEDUPLICATED: u8 = 1;
const COPY: u8 = 2;
const OUTCOME: u8 = 4;
const UNANSWERABLE: u8 = 8;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tracking {
    /// Hash of its id within its virtual host.
    pub id: u128,
    /// Whether the queues it goes to check for duplicates of it.
    pub is_deduplicated: bool,
    /// Whether it is a copy that was published to a dead-letter exchange. A copy asks for nothing.
    pub is_copy: bool,
    /// Whether its publisher may not be sent outcomes. Then its queues ask for nothing on its behalf:
    /// whoever publishes to a shared exchange did not choose them, and is not to be refused for them.
    pub is_unanswerable: bool,
    /// For an outcome message, the queue whose outcome it reports. It is not tracked itself: `id`
    /// is that of the message it is about.
    pub outcome_of: Option<QueueId>,
    /// `x-notify`; `None` if the message does not specify it.
    pub notify: Option<Notify>,
    /// Queues it was routed to: outcomes to expect.
    pub queue_count: u16,
    /// The deadline, ms since the epoch; 0 for none.
    pub deadline_at_ms: u64,
    /// Identifies the confirm that is held for it.
    pub ticket: Option<Ticket>,
}

impl Tracking {
    /// The outcomes that are sent to its producer: what it asks for itself, or else its queue on its behalf.
    /// A queue asks neither for copies nor for publishers who may not be answered.
    pub fn notify_or(&self, of_queue: Option<Notify>) -> Option<Notify> {
        let may_ask = !self.is_copy && !self.is_unanswerable;
        self.notify.or(of_queue.filter(|_| may_ask))
    }

    /// The bytes that go in front of the content.
    pub fn encode(&self) -> [u8; TRACKING_BYTES] {
        let mut out = [0; TRACKING_BYTES];
        out[..16].copy_from_slice(&self.id.to_le_bytes());
        out[16] = u8::from(self.is_deduplicated) * DEDUPLICATED
            + u8::from(self.is_copy) * COPY
            + u8::from(self.outcome_of.is_some()) * OUTCOME
            + u8::from(self.is_unanswerable) * UNANSWERABLE;
        out[17] = self.notify.map_or(0, |notify| notify as u8);
        out[18..20].copy_from_slice(&self.queue_count.to_le_bytes());
        out[20..24].copy_from_slice(&self.outcome_of.map_or(0, |queue| queue.0).to_le_bytes());
        out[24..32].copy_from_slice(&self.deadline_at_ms.to_le_bytes());
        out[32..].copy_from_slice(&Ticket::number(self.ticket).to_le_bytes());
        out
    }

    /// What [`Tracking::encode`] wrote; `None` if there are not enough bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; TRACKING_BYTES] = bytes.first_chunk()?;
        let queue = u32::from_le_bytes(bytes[20..24].try_into().ok()?);
        Some(Self {
            id: u128::from_le_bytes(bytes[..16].try_into().ok()?),
            is_deduplicated: bytes[16] & DEDUPLICATED != 0,
            is_copy: bytes[16] & COPY != 0,
            is_unanswerable: bytes[16] & UNANSWERABLE != 0,
            outcome_of: (bytes[16] & OUTCOME != 0).then_some(QueueId(queue)),
            notify: Notify::from_number(bytes[17]),
            queue_count: u16::from_le_bytes([bytes[18], bytes[19]]),
            deadline_at_ms: u64::from_le_bytes(bytes[24..32].try_into().ok()?),
            ticket: Ticket::from_number(u64::from_le_bytes(bytes[32..].try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let tracking = Tracking {
            id: u128::MAX - 5,
            is_deduplicated: true,
            is_copy: false,
            is_unanswerable: true,
            outcome_of: Some(QueueId(77)),
            notify: Some(Notify::Failed),
            queue_count: 513,
            deadline_at_ms: 1 << 41,
            ticket: Ticket::from_number(u64::MAX),
        };
        assert_eq!(Tracking::decode(&tracking.encode()), Some(tracking));
        let plain = Tracking::default();
        assert_eq!(Tracking::decode(&plain.encode()), Some(plain));
        assert_eq!(Tracking::decode(&plain.encode()[1..]), None);
    }
}
