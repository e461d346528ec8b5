//! The record: its twelve header bytes, its two checks, and the iteration over a range of bytes,
//! record by record.
//!
//! Owns the format of a record. Never looks inside a payload, except that of a group, which is a
//! sequence of records. Invariants: both checks cover the record's position, so bytes that were
//! written elsewhere (an old copy of the log inside a message, a reused block) are not a record
//! here; twelve zero bytes are never a record; a group's member is never taken for a record of its
//! own.

use std::iter;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_SIZE: usize = 12;

/// The kind that belongs to the log: a payload of whole records that are recovered together or not
/// at all.
pub const GROUP: u8 = 0xFF;

/// Offset of the CRC in the header; it covers the bytes before it.
const CRC_OFFSET: usize = 8;

/// A record, borrowed from somebody's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Position of the record's first header byte.
    pub position: u64,
    /// What the record is; the owner's to define, never [`GROUP`].
    pub kind: u8,
    /// The owner's.
    pub flags: u8,
    /// The owner's bytes.
    pub payload: &'a [u8],
}

impl RecordRef<'_> {
    /// Bytes the record takes in the log, header included.
    pub fn size_bytes(&self) -> u64 {
        (RECORD_HEADER_SIZE + self.payload.len()) as u64
    }

    /// The position after the record.
    pub fn end(&self) -> u64 {
        self.position + self.size_bytes()
    }
}

/// What a record's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead {
    /// What the record is; the owner's to define, except [`GROUP`].
    pub kind: u8,
    /// The owner's.
    pub flags: u8,
    /// Bytes of payload.
    pub payload_len: u32,
}

/// Whether a record stands on its own or inside a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Top,
    Member,
}

impl RecordHead {
    /// The sixteen bits that tell a header from other bytes, without the payload.
    fn check(self, position: u64, place: Place) -> u16 {
        let fields = u64::from(self.payload_len)
            | u64::from(self.kind) << 32
            | u64::from(self.flags) << 40
            | u64::from(place == Place::Member) << 48;
        let mixed = (position.wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ fields)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 48) as u16
    }

    /// The header's bytes, with the CRC still zero.
    pub(crate) fn encode(self, position: u64, place: Place) -> [u8; RECORD_HEADER_SIZE] {
        let mut bytes = [0; RECORD_HEADER_SIZE];
        bytes[..4].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&self.check(position, place).to_le_bytes());
        bytes
    }

    /// Bytes of the record, header included.
    pub(crate) fn size(self) -> u64 {
        RECORD_HEADER_SIZE as u64 + u64::from(self.payload_len)
    }
}

/// Reads the header at the front of `bytes` if its check holds for this position.
pub(crate) fn parse_head(bytes: &[u8], position: u64) -> Option<(RecordHead, Place)> {
    let &[l0, l1, l2, l3, kind, flags, c0, c1, ..] = bytes.get(..RECORD_HEADER_SIZE)? else {
        return None;
    };
    let head = RecordHead { kind, flags, payload_len: u32::from_le_bytes([l0, l1, l2, l3]) };
    let check = u16::from_le_bytes([c0, c1]);
    if check == head.check(position, Place::Top) {
        Some((head, Place::Top))
    } else if check == head.check(position, Place::Member) && kind != GROUP {
        Some((head, Place::Member))
    } else {
        None
    }
}

/// The CRC, as stored (never zero), of a record whose header and payload are `record`.
pub(crate) fn record_crc(record: &[u8], position: u64) -> u32 {
    let mut front = [0; 16];
    front[..8].copy_from_slice(&position.to_le_bytes());
    front[8..].copy_from_slice(&record[..CRC_OFFSET]);
    match crc32c::crc32c_append(crc32c::crc32c(&front), &record[RECORD_HEADER_SIZE..]) {
        0 => 1,
        crc => crc,
    }
}

/// Writes the CRC into a complete record.
pub(crate) fn seal(record: &mut [u8], position: u64) {
    let crc = record_crc(record, position);
    record[CRC_OFFSET..RECORD_HEADER_SIZE].copy_from_slice(&crc.to_le_bytes());
}

/// Whether a complete record's CRC holds.
pub(crate) fn is_sealed(record: &[u8], position: u64) -> bool {
    record[CRC_OFFSET..RECORD_HEADER_SIZE] == record_crc(record, position).to_le_bytes()
}

/// The record at the front of `bytes` if its header check holds and all of it is there. The CRC is
/// not checked.
pub(crate) fn record_at(bytes: &[u8], position: u64) -> Option<RecordRef<'_>> {
    let (head, _) = parse_head(bytes, position)?;
    let end = usize::try_from(head.size()).ok()?;
    let payload = bytes.get(RECORD_HEADER_SIZE..end)?;
    Some(RecordRef { position, kind: head.kind, flags: head.flags, payload })
}

/// All records of a byte range whose first byte stands at `start`, groups flattened.
///
/// CRCs are not checked: this is for bytes that never left memory, or that
/// [`Reader::read_range`](crate::Reader::read_range) has checked. Ends at the first bytes that are
/// not a complete record.
pub fn records(bytes: &[u8], start: u64) -> impl Iterator<Item = RecordRef<'_>> {
    let mut at = 0;
    iter::from_fn(move || {
        loop {
            let position = start + at as u64;
            let rest = bytes.get(at..)?;
            // A group's payload is nothing but records, so only its header has to be skipped.
            if let (RecordHead { kind: GROUP, .. }, _) = parse_head(rest, position)? {
                at += RECORD_HEADER_SIZE;
                continue;
            }
            let record = record_at(rest, position)?;
            at += RECORD_HEADER_SIZE + record.payload.len();
            return Some(record);
        }
    })
}

/// Whether a group's payload, whose first byte stands at `position`, consists of members from end
/// to end.
pub(crate) fn is_whole_group(payload: &[u8], position: u64) -> bool {
    let mut at = 0;
    while at < payload.len() {
        match parse_head(&payload[at..], position + at as u64) {
            Some((head, Place::Member)) => match usize::try_from(head.size()) {
                Ok(size) if size <= payload.len() - at => at += size,
                _ => return false,
            },
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    #[test]
    fn every_single_bit_error_in_a_header_is_seen_by_its_check() {
        for position in [0, 1, 77, 1 << 40] {
            for payload_len in [0, 1, 1024, u32::MAX] {
                let head = RecordHead { kind: 3, flags: 0, payload_len };
                let bytes = head.encode(position, Place::Top);
                for bit in 0..64 {
                    let mut bad = bytes;
                    bad[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(parse_head(&bad, position), None, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn zeros_are_no_record_at_any_position() {
        for position in 0..1_000_000 {
            assert!(!is_sealed(&[0; 12], position));
        }
    }

    #[test]
    fn a_record_is_no_record_at_another_position() {
        let mut batch = Batch::new(1000);
        batch.append(1, 2, &[b"abc"]);
        assert!(record_at(batch.as_bytes(), 1000).is_some());
        assert!((1001..9000).all(|position| !is_sealed(batch.as_bytes(), position)));
    }
}
