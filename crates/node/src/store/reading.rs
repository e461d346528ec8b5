//! Bodies that are no longer in memory: read back from the append buffer or from the log.
//!
//! A queue's backlog is in the log in nearly the order in which it is consumed, so reading one
//! message reads ahead a stretch of the log, which is kept by the thread that asked. What is at a
//! position never changes, so such a buffer is never stale.

use std::cell::RefCell;

use broker::Message;
use segment_log::{LogError, RecordRef, records};

use super::Store;
use super::records::MessageRecord;

/// How far a read looks ahead.
const READ_AHEAD_BYTES: usize = 256 << 10;

struct ReadAhead {
    store: u64,
    start: u64,
    bytes: Vec<u8>,
    /// Where the record after the last requested one begins, relative to `start`.
    next: usize,
}

thread_local! {
    static READ_AHEAD: RefCell<ReadAhead> =
        const { RefCell::new(ReadAhead { store: 0, start: 0, bytes: Vec::new(), next: 0 }) };
}

impl Store {
    /// The message at a position.
    pub(crate) fn read_message(&self, position: u64) -> Result<Message, LogError> {
        READ_AHEAD.with_borrow_mut(|ahead| {
            if ahead.store == self.serial
                && let Some(message) = ahead.find(position)
            {
                return Ok(message);
            }
            if let Some(message) = self.read_unwritten(position) {
                return Ok(message);
            }
            ahead.store = 0;
            self.reader.read_range(position, READ_AHEAD_BYTES, &mut ahead.bytes)?;
            (ahead.store, ahead.start, ahead.next) = (self.serial, position, 0);
            ahead.find(position).ok_or(LogError::Corrupt { position })
        })
    }

    /// The message at a position that has not been written yet.
    fn read_unwritten(&self, position: u64) -> Option<Message> {
        let appending = self.appending.lock();
        let in_flight = appending.in_flight.as_ref().and_then(|batch| batch.read(position));
        let record = in_flight.or_else(|| appending.batch.read(position))?;
        message_of(&record)
    }
}

impl ReadAhead {
    fn find(&mut self, position: u64) -> Option<Message> {
        let at = usize::try_from(position.checked_sub(self.start)?).ok()?;
        if at >= self.bytes.len() {
            return None;
        }
        // Starts where the last search ended if that helps, so a backlog in order takes one step.
        let from = if self.next <= at { self.next } else { 0 };
        for record in records(&self.bytes[from..], self.start + from as u64) {
            let record_at = (record.position - self.start) as usize;
            if record.position == position {
                self.next = record_at + segment_log::RECORD_HEADER_SIZE + record.payload.len();
                return message_of(&record);
            }
            if record.position > position {
                return None;
            }
        }
        None
    }
}

fn message_of(record: &RecordRef<'_>) -> Option<Message> {
    Message::from_encoded(MessageRecord::parse(record)?.message)
}
