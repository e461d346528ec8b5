//! What the committer passes to the ledger writer: the records that matter, without bodies.
//!
//! *Invariant:* bounded. Past [`BYTES_MAX`] it is dropped, and says so once it is taken.

use std::time::Duration;

use broker::Message;
use segment_log::RecordRef;

use super::IDLE;
use super::outcome_records::{NOTES, OUTCOMES};
use super::records::{FLAG_TRACKED, MESSAGE, MessageRecord};
use crate::locks::{Condvar, Mutex};

/// The most bytes that may wait for the ledger writer.
const BYTES_MAX: usize = 64 << 20;
/// Position, kind, flags, size of the body, size of the payload.
const ENTRY_HEADER_BYTES: usize = 18;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct CommittedRecords {
    state: Mutex<CommittedState>,
    changed: Condvar,
}

#[derive(Default)]
struct CommittedState {
    bytes: Vec<u8>,
    spare: Vec<u8>,
    end: u64,
    overflowed: bool,
    has_work: bool,
    /// `end` when the ledger writer last took what there was.
    taken_end: u64,
    /// The ledger writer sleeps until something happens.
    idles: bool,
    closed: bool,
}

/// What one batch of the log has for the ledger writer.
#[derive(Default)]
pub(crate) struct CommittedBatch {
    bytes: Vec<u8>,
}

/// Everything that waited.
pub(crate) struct Taken {
    pub bytes: Vec<u8>,
    /// All records before this position are in here or were dropped.
    pub end: u64,
    pub overflowed: bool,
}

/// A committed record; that of a message lacks the body.
pub(crate) struct CommittedRecord<'a> {
    pub record: RecordRef<'a>,
    pub body_bytes: u32,
}

/// Whether the ledger is made from records such as this one.
pub(crate) fn is_wanted(record: &RecordRef<'_>) -> bool {
    match record.kind {
        MESSAGE => record.flags & FLAG_TRACKED != 0,
        OUTCOMES | NOTES => true,
        _ => false,
    }
}

/// Size of the body of a message's record, 0 for other records.
pub(crate) fn body_bytes(record: &RecordRef<'_>) -> u32 {
    if record.kind != MESSAGE {
        return 0;
    }
    let message = MessageRecord::parse(record).and_then(|parsed| Message::peek(parsed.message));
    message.map_or(0, |(_, body_bytes)| body_bytes)
}

impl CommittedBatch {
    pub(crate) fn take(&mut self, record: &RecordRef<'_>) {
        if !is_wanted(record) {
            return;
        }
        let body_bytes = body_bytes(record);
        let payload = &record.payload[..record.payload.len() - body_bytes as usize];
        self.bytes.extend_from_slice(&record.position.to_le_bytes());
        self.bytes.extend_from_slice(&[record.kind, record.flags]);
        self.bytes.extend_from_slice(&body_bytes.to_le_bytes());
        self.bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(payload);
    }
}

impl CommittedRecords {
    /// Adds the records of a batch that ends at `end`.
    pub(crate) fn push(&self, batch: CommittedBatch, end: u64) {
        let mut state = self.state.lock();
        state.end = end;
        if batch.bytes.is_empty() {
            let wakes = std::mem::take(&mut state.idles);
            drop(state);
            if wakes {
                self.changed.notify_one();
            }
            return;
        }
        if state.bytes.len() + batch.bytes.len() > BYTES_MAX {
            state.overflowed = true;
            state.bytes = Vec::new();
        }
        if !state.overflowed {
            match state.bytes.is_empty() {
                true => state.bytes = batch.bytes,
                false => state.bytes.extend_from_slice(&batch.bytes),
            }
        }
        let wakes = !std::mem::replace(&mut state.has_work, true);
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// The ledger writer has something to look at besides records.
    pub(crate) fn wake(&self) {
        self.state.lock().has_work = true;
        self.changed.notify_one();
    }

    /// From here on, records must be read from the log.
    pub(crate) fn overflow(&self) {
        let mut state = self.state.lock();
        state.overflowed = true;
        state.bytes = Vec::new();
    }

    pub(crate) fn take(&self) -> Taken {
        let mut state = self.state.lock();
        state.has_work = false;
        state.taken_end = state.end;
        let spare = std::mem::take(&mut state.spare);
        Taken {
            bytes: std::mem::replace(&mut state.bytes, spare),
            end: state.end,
            overflowed: std::mem::take(&mut state.overflowed),
        }
    }

    /// Gives back the memory of what was taken, for reuse.
    pub(crate) fn give_back(&self, mut bytes: Vec<u8>) {
        const KEPT_BYTES: usize = 4 << 20;
        bytes.clear();
        bytes.shrink_to(KEPT_BYTES);
        self.state.lock().spare = bytes;
    }

    /// Waits for something to do, but no longer than `most`. `false` when closed.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.has_work && !state.closed {
            self.changed.wait_for(&mut state, most);
        }
        !state.closed
    }

    /// The same where nothing is left to be done until more is committed or there is something else to
    /// look at.
    pub(crate) fn wait_for_more(&self) -> bool {
        let mut state = self.state.lock();
        if !state.has_work && !state.closed && !state.overflowed && state.taken_end == state.end {
            state.idles = true;
            self.changed.wait_for(&mut state, IDLE);
            state.idles = false;
        }
        !state.closed
    }

    /// Ends the ledger writer's life.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }
}

/// The records in what was taken.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = CommittedRecord<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, more) = rest.split_first_chunk::<ENTRY_HEADER_BYTES>()?;
        let len = u32::from_le_bytes([header[14], header[15], header[16], header[17]]) as usize;
        let (payload, more) = more.split_at_checked(len)?;
        rest = more;
        let mut position = [0; 8];
        position.copy_from_slice(&header[..8]);
        Some(CommittedRecord {
            record: RecordRef {
                position: u64::from_le_bytes(position),
                kind: header[8],
                flags: header[9],
                payload,
            },
            body_bytes: u32::from_le_bytes([header[10], header[11], header[12], header[13]]),
        })
    })
}
