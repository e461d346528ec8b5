//! The record kinds of the message log, byte by byte (little-endian; `docs/storage-format.md`).
//!
//! | kind | payload |
//! |---|---|
//! | 1 message | queue count `u16`, queue ids `u32` each; with flag *moved*: former position `u64`, first position `u64`; then the message's head (20 bytes) and content |
//! | 2 settled | queue id `u32`, reason `u8`, then positions: the first as `varint`, each further one as zigzag `varint` difference to the one before |
//! | | flag *carried*: compaction wrote it again, so it is counted already |
//! | 3 attempts | queue id `u32`, then position `u64` and delivery count `u16` each |
//! | 4 definition | a [`Change`] as it encodes itself |
//! | 5, 6, 7 | see [`super::outcome_records`] |
//!
//! *Invariant:* a message record names every queue that holds the message at this position, so the
//! record is dead when the same number of settlements name it.

use broker::queue::Attempt;
use broker::{Message, QueueId, Tracking};
use segment_log::{Batch, RecordRef};

use crate::definitions::Change;

pub(crate) const MESSAGE: u8 = 1;
pub(crate) const SETTLED: u8 = 2;
pub(crate) const ATTEMPTS: u8 = 3;
pub(crate) const DEFINITION: u8 = 4;

/// The record carries the position it was moved from, and its first position.
const FLAG_MOVED: u8 = 1;
/// The message is in the log only to free memory: a restart forgets it.
const FLAG_PAGED: u8 = 2;
/// The ledger must know about it: a producer's tracked message, or a dead-letter copy of one.
pub(crate) const FLAG_TRACKED: u8 = 4;
/// The settlements were in an older segment, and have been counted already.
pub(crate) const FLAG_CARRIED: u8 = 1;

/// Where a moved message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    pub from: u64,
    /// Its first position, which determines its place among the messages of its queues.
    pub origin: u64,
}

/// A parsed message record.
pub(crate) struct MessageRecord<'a> {
    queues: &'a [u8],
    pub moved: Option<Moved>,
    pub paged: bool,
    /// Whether the ledger must know about it.
    pub is_for_ledger: bool,
    /// Head and content, for [`Message::from_encoded`].
    pub message: &'a [u8],
}

impl<'a> MessageRecord<'a> {
    /// `None` when the payload is not a message record: written by something else, or a bug.
    pub(crate) fn parse(record: &RecordRef<'a>) -> Option<Self> {
        let (count, rest) = record.payload.split_first_chunk::<2>()?;
        let queues_bytes = usize::from(u16::from_le_bytes(*count)) * 4;
        let (queues, mut rest) = rest.split_at_checked(queues_bytes)?;
        let mut moved = None;
        if record.flags & FLAG_MOVED != 0 {
            let (from, more) = rest.split_first_chunk::<8>()?;
            let (origin, more) = more.split_first_chunk::<8>()?;
            let (from, origin) = (u64::from_le_bytes(*from), u64::from_le_bytes(*origin));
            moved = Some(Moved { from, origin });
            rest = more;
        }
        Some(Self {
            queues,
            moved,
            paged: record.flags & FLAG_PAGED != 0,
            is_for_ledger: record.flags & FLAG_TRACKED != 0,
            message: rest,
        })
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = QueueId> + use<'a> {
        self.queues
            .chunks_exact(4)
            .map(|id| QueueId(u32::from_le_bytes([id[0], id[1], id[2], id[3]])))
    }

    /// What travels with a tracked message.
    pub(crate) fn tracking(&self) -> Option<Tracking> {
        let (head, _) = Message::peek(self.message)?;
        if !head.is_tracked {
            return None;
        }
        Tracking::decode(&self.message[broker::message::HEAD_BYTES..])
    }

    pub(crate) fn queue_count(&self) -> u64 {
        self.queues.len() as u64 / 4
    }
}

/// Appends a message for these queues; returns its position.
pub(crate) fn append_message(
    batch: &mut Batch,
    queues: impl ExactSizeIterator<Item = QueueId>,
    message: &Message,
) -> u64 {
    // A tracked message survives a restart whatever its delivery mode: it must have an outcome.
    let paged = !message.head().persistent && !message.head().is_tracked;
    let head = message.encode_head();
    let is_for_ledger = message.followed().is_some();
    let flags = u8::from(paged) * FLAG_PAGED + u8::from(is_for_ledger) * FLAG_TRACKED;
    let mut prefix = [0; 2 + 4 * 8];
    if queues.len() <= 8 {
        let bytes = 2 + 4 * queues.len();
        prefix[..2].copy_from_slice(&(queues.len() as u16).to_le_bytes());
        for (slot, id) in prefix[2..].chunks_exact_mut(4).zip(queues) {
            slot.copy_from_slice(&id.0.to_le_bytes());
        }
        return batch.append(MESSAGE, flags, &[&prefix[..bytes], &head, message.content()]);
    }
    let prefix = encode_queues(queues);
    batch.append(MESSAGE, flags, &[&prefix, &head, message.content()])
}

/// Appends a message that compaction takes out of an old segment; returns its new position.
pub(crate) fn append_moved(
    batch: &mut Batch,
    queues: impl ExactSizeIterator<Item = QueueId>,
    moved: Moved,
    old: &MessageRecord<'_>,
) -> u64 {
    let mut prefix = encode_queues(queues);
    prefix.extend_from_slice(&moved.from.to_le_bytes());
    prefix.extend_from_slice(&moved.origin.to_le_bytes());
    let flags = FLAG_MOVED
        | (u8::from(old.paged) * FLAG_PAGED)
        | (u8::from(old.is_for_ledger) * FLAG_TRACKED);
    batch.append(MESSAGE, flags, &[&prefix, old.message])
}

fn encode_queues(queues: impl ExactSizeIterator<Item = QueueId>) -> Vec<u8> {
    // A message reaches at most 65,535 queues; routing refuses more.
    let mut prefix = Vec::with_capacity(18 + 4 * queues.len());
    prefix.extend_from_slice(&(queues.len() as u16).to_le_bytes());
    queues.for_each(|id| prefix.extend_from_slice(&id.0.to_le_bytes()));
    prefix
}

/// Appends settlements of one queue with one reason.
pub(crate) fn append_settled(
    batch: &mut Batch,
    queue: QueueId,
    reason: u8,
    positions: impl Iterator<Item = u64>,
    scratch: &mut Vec<u8>,
) {
    append_settled_with(0, batch, (queue, reason), positions, scratch);
}

/// Appends settlements that compaction takes out of an old segment.
pub(crate) fn append_carried(
    batch: &mut Batch,
    queue: QueueId,
    reason: u8,
    positions: impl Iterator<Item = u64>,
    scratch: &mut Vec<u8>,
) {
    append_settled_with(FLAG_CARRIED, batch, (queue, reason), positions, scratch);
}

fn append_settled_with(
    flags: u8,
    batch: &mut Batch,
    (queue, reason): (QueueId, u8),
    positions: impl Iterator<Item = u64>,
    scratch: &mut Vec<u8>,
) {
    scratch.clear();
    scratch.extend_from_slice(&queue.0.to_le_bytes());
    scratch.push(reason);
    let mut previous = None;
    for position in positions {
        match previous {
            None => push_varint(scratch, position),
            Some(before) => {
                let difference = position.wrapping_sub(before) as i64;
                push_varint(scratch, ((difference << 1) ^ (difference >> 63)) as u64);
            }
        }
        previous = Some(position);
    }
    if previous.is_some() {
        batch.append(SETTLED, flags, &[scratch]);
    }
}

/// A settled record's queue, reason and positions.
pub(crate) fn parse_settled(
    payload: &[u8],
) -> Option<(QueueId, u8, impl Iterator<Item = u64> + '_)> {
    let (queue, rest) = payload.split_first_chunk::<4>()?;
    let (&reason, mut rest) = rest.split_first()?;
    let mut previous = None;
    let positions = std::iter::from_fn(move || {
        let value = pop_varint(&mut rest)?;
        let position = match previous {
            None => value,
            Some(before) => {
                let difference = (value >> 1) as i64 ^ -((value & 1) as i64);
                u64::wrapping_add(before, difference as u64)
            }
        };
        previous = Some(position);
        previous
    });
    Some((QueueId(u32::from_le_bytes(*queue)), reason, positions))
}

/// Appends the delivery counts that deliveries have raised.
pub(crate) fn append_attempts(batch: &mut Batch, queue: QueueId, attempts: &[Attempt]) {
    let mut payload = queue.0.to_le_bytes().to_vec();
    for attempt in attempts {
        payload.extend_from_slice(&attempt.position.to_le_bytes());
        payload.extend_from_slice(&attempt.count.to_le_bytes());
    }
    batch.append(ATTEMPTS, 0, &[&payload]);
}

/// An attempts record's queue and counts.
pub(crate) fn parse_attempts(
    payload: &[u8],
) -> Option<(QueueId, impl Iterator<Item = Attempt> + '_)> {
    let (queue, rest) = payload.split_first_chunk::<4>()?;
    let attempts = rest.chunks_exact(10).filter_map(|bytes| {
        Some(Attempt {
            position: u64::from_le_bytes(bytes[..8].try_into().ok()?),
            count: u16::from_le_bytes(bytes[8..].try_into().ok()?),
        })
    });
    Some((QueueId(u32::from_le_bytes(*queue)), attempts))
}

/// Appends a change of the definitions; returns its position.
pub(crate) fn append_change(batch: &mut Batch, change: &Change) -> u64 {
    batch.append(DEFINITION, 0, &[&change.encode()])
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn pop_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn settled_positions_come_back(positions in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut batch = Batch::new(0);
            append_settled(&mut batch, QueueId(7), 3, positions.iter().copied(), &mut Vec::new());
            let record = batch.read(0).expect("one record");
            let (queue, reason, back) = parse_settled(record.payload).expect("well-formed");
            prop_assert_eq!((queue, reason), (QueueId(7), 3));
            prop_assert_eq!(back.collect::<Vec<_>>(), positions);
        }
    }
}
