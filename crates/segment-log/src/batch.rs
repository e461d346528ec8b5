//! The append buffer: records built in memory at the positions they will have in the log.
//!
//! Owns the bytes until [`Log::write`](crate::Log::write) has taken them. Never touches the disk.
//! Invariant: outside an open group the bytes are whole, sealed records, the first of them at
//! [`start`](Batch::start).

use crate::record::{GROUP, Place, RECORD_HEADER_SIZE, RecordHead, RecordRef, record_at, seal};

/// Capacity up to which [`Batch::reset`] always keeps the allocation.
const KEPT_CAPACITY_BYTES: usize = 8 << 20;

/// A reusable buffer of records whose first byte will stand at `start`.
#[derive(Debug, Default)]
pub struct Batch {
    start: u64,
    bytes: Vec<u8>,
    /// Offset in `bytes` of the open group's header.
    open_group: Option<usize>,
}

impl Batch {
    /// An empty batch; `start` is the log's next position at the time the batch is written.
    pub fn new(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// The position of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The position after the last byte, which is that of the next record.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Bytes in the batch, headers included.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The batch as it will stand in the log.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a group has been begun and not ended; such a batch cannot be written.
    pub fn has_open_group(&self) -> bool {
        self.open_group.is_some()
    }

    /// Appends a record whose payload is the concatenation of `parts`; returns its position.
    ///
    /// # Panics
    /// If `kind` is [`GROUP`], or the payload exceeds `u32::MAX` bytes: the caller bounds both.
    pub fn append(&mut self, kind: u8, flags: u8, parts: &[&[u8]]) -> u64 {
        assert_ne!(kind, GROUP, "kind 0xFF belongs to the log");
        let len = parts.iter().map(|part| part.len()).sum();
        let place = if self.open_group.is_some() { Place::Member } else { Place::Top };
        let position = self.end();
        let head = RecordHead { kind, flags, payload_len: payload_len(len) };
        let at = self.bytes.len();
        self.bytes.reserve(RECORD_HEADER_SIZE + len);
        self.bytes.extend_from_slice(&head.encode(position, place));
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        seal(&mut self.bytes[at..], position);
        position
    }

    /// Begins a group: whatever is appended until [`end_group`](Self::end_group) is recovered as a
    /// whole or not at all.
    ///
    /// # Panics
    /// If a group is already open: groups do not nest.
    pub fn begin_group(&mut self) {
        assert!(self.open_group.is_none(), "groups do not nest");
        self.open_group = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[0; RECORD_HEADER_SIZE]);
    }

    /// Ends the group. An empty group leaves nothing behind.
    ///
    /// # Panics
    /// If no group is open, or its records together exceed `u32::MAX` bytes.
    pub fn end_group(&mut self) {
        assert!(self.open_group.is_some(), "end_group without begin_group");
        let Some(at) = self.open_group.take() else { return };
        let len = self.bytes.len() - at - RECORD_HEADER_SIZE;
        if len == 0 {
            self.bytes.truncate(at);
            return;
        }
        let position = self.start + at as u64;
        let head = RecordHead { kind: GROUP, flags: 0, payload_len: payload_len(len) };
        self.bytes[at..at + RECORD_HEADER_SIZE].copy_from_slice(&head.encode(position, Place::Top));
        seal(&mut self.bytes[at..], position);
    }

    /// A record still in the buffer, on its own or a member of a group; `None` if none begins
    /// there.
    pub fn read(&self, position: u64) -> Option<RecordRef<'_>> {
        let at = usize::try_from(position.checked_sub(self.start)?).ok()?;
        record_at(self.bytes.get(at..)?, position)
    }

    /// Empties the batch for new records from `start` on. The allocation is kept unless it has
    /// grown far beyond its last use.
    pub fn reset(&mut self, start: u64) {
        let used = self.bytes.len();
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_CAPACITY_BYTES && used < self.bytes.capacity() / 4 {
            self.bytes.shrink_to(KEPT_CAPACITY_BYTES);
        }
        self.open_group = None;
        self.start = start;
    }
}

fn payload_len(len: usize) -> u32 {
    assert!(u32::try_from(len).is_ok(), "a record holds at most 4 GiB");
    len as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records;

    #[test]
    fn parts_become_one_payload() {
        let mut batch = Batch::new(40);
        assert_eq!(batch.append(7, 1, &[b"ab", b"", b"c"]), 40);
        assert_eq!(batch.append(8, 0, &[]), 55);
        assert_eq!(batch.end(), 67);
        let found: Vec<_> = records(batch.as_bytes(), 40).collect();
        assert_eq!(found[0], RecordRef { position: 40, kind: 7, flags: 1, payload: b"abc" });
        assert_eq!(found[1], RecordRef { position: 55, kind: 8, flags: 0, payload: b"" });
        assert_eq!(batch.read(40), Some(found[0]));
        assert_eq!(batch.read(41), None);
        assert_eq!(batch.read(67), None);
    }

    #[test]
    fn group_members_are_read_by_their_own_positions() {
        let mut batch = Batch::new(0);
        batch.append(1, 0, &[b"before"]);
        batch.begin_group();
        let a = batch.append(2, 0, &[b"a"]);
        let b = batch.append(3, 0, &[b"bb"]);
        batch.end_group();
        batch.append(4, 0, &[b"after"]);
        let kinds: Vec<_> = records(batch.as_bytes(), 0).map(|record| record.kind).collect();
        assert_eq!(kinds, [1, 2, 3, 4]);
        assert_eq!(batch.read(a).map(|record| record.payload), Some(&b"a"[..]));
        assert_eq!(batch.read(b).map(|record| record.payload), Some(&b"bb"[..]));
    }

    #[test]
    fn an_empty_group_leaves_nothing() {
        let mut batch = Batch::new(9);
        batch.begin_group();
        batch.end_group();
        assert!(batch.is_empty());
        assert_eq!(batch.end(), 9);
    }

    #[test]
    fn reset_gives_back_an_absurd_allocation() {
        let mut batch = Batch::new(0);
        batch.append(1, 0, &[&vec![0; 32 << 20]]);
        batch.reset(1);
        assert!(batch.bytes.capacity() >= 32 << 20, "kept while it may be needed again");
        batch.append(1, 0, &[b"small"]);
        batch.reset(2);
        assert!(batch.bytes.capacity() <= KEPT_CAPACITY_BYTES);
    }
}
