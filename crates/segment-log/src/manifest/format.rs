//! What the manifest says, and how it is encoded.
//!
//! Owns the format (byte by byte in the crate's documentation) and the comparison with the segments
//! that exist. Never touches a file.

use std::sync::Arc;

use super::NAME;
use crate::disk::DiskFile;
use crate::error::LogError;
use crate::segment::{POSITION_MAX, Segment};

const MAGIC: [u8; 8] = *b"wilcoseg";
const VERSION: u32 = 1;
/// Bytes before the first entry.
const HEAD_BYTES: usize = 24;
/// Bytes of an entry: a segment's base and its end.
const ENTRY_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

/// What the log had and has lost: a segment, or the end of one. Somebody, or the file system,
/// deleted or cut its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Base of the segment.
    pub segment: u64,
    /// Position at which the loss begins: the segment's base if all of it is missing.
    pub base: u64,
    /// Position that the segment did not go beyond: its end if that is known, otherwise where the
    /// next one begins, or the manifest's limit.
    pub end: u64,
}

/// A segment in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) base: u64,
    /// Position after its last record; `None` for the segment being written.
    pub(crate) end: Option<u64>,
}

/// The contents of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The live segments, ascending.
    pub(crate) segments: Vec<Listed>,
    /// Position that the last one does not go beyond.
    pub(crate) limit: u64,
}

/// What reading the manifest found.
pub(crate) enum Found {
    None,
    Damaged,
    Good(Manifest),
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(encoded_len(self.segments.len()));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.limit.to_le_bytes());
        for Listed { base, end } in &self.segments {
            bytes.extend_from_slice(&base.to_le_bytes());
            bytes.extend_from_slice(&end.unwrap_or(0).to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Found, LogError> {
        let Some((bytes, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Ok(Found::Damaged);
        };
        if !bytes.starts_with(&MAGIC) || crc32c::crc32c(bytes).to_le_bytes() != *crc {
            return Ok(Found::Damaged);
        }
        let Some((head, list)) = bytes.split_at_checked(HEAD_BYTES) else {
            return Ok(Found::Damaged);
        };
        let version = number(&head[8..12]);
        if version != u64::from(VERSION) {
            let problem = format!("format version {version}, this is version {VERSION}");
            return Err(LogError::Format { path: NAME.to_owned(), problem });
        }
        let segments: Vec<Listed> = list.chunks_exact(ENTRY_BYTES).map(Listed::parse).collect();
        let limit = number(&head[16..24]);
        let is_sound = list.len() % ENTRY_BYTES == 0
            && segments.len() as u64 == number(&head[12..16])
            && segments
                .is_sorted_by(|a, b| a.base < b.base && a.end.is_none_or(|end| end <= b.base))
            && segments.iter().all(|listed| listed.end.is_none_or(|end| end > listed.base))
            && segments.last().is_none_or(|last| last.base <= limit)
            && limit <= POSITION_MAX;
        Ok(if is_sound { Found::Good(Self { segments, limit }) } else { Found::Damaged })
    }

    /// Where a segment ended when it was closed.
    pub(crate) fn end_of(&self, base: u64) -> Option<u64> {
        let at = self.segments.binary_search_by_key(&base, |listed| listed.base).ok()?;
        self.segments[at].end
    }

    /// The listed segments that are not among `there`, the bases that exist, ascending.
    pub(crate) fn missing(&self, there: &[u64]) -> Vec<Missing> {
        let after = |base| {
            let listed = self.segments.iter().map(|listed| listed.base);
            listed.chain(there.iter().copied()).filter(|other| *other > base).min()
        };
        let lost = self.segments.iter().filter(|lost| there.binary_search(&lost.base).is_err());
        lost.map(|&Listed { base, end }| {
            let end = end.or(after(base)).unwrap_or(self.limit).min(self.limit);
            Missing { segment: base, base, end }
        })
        .collect()
    }
}

impl Listed {
    /// How segments are listed; the active one has no end yet.
    pub(crate) fn of<F: DiskFile>(segments: &[Arc<Segment<F>>], active: u64) -> Vec<Self> {
        let listed = |segment: &Arc<Segment<F>>| Self {
            base: segment.base,
            // The format has no end for an empty segment.
            end: (segment.base != active && segment.end() > segment.base).then(|| segment.end()),
        };
        segments.iter().map(listed).collect()
    }

    fn parse(entry: &[u8]) -> Self {
        let (base, end) = (number(&entry[..8]), number(&entry[8..]));
        Self { base, end: (end > 0).then_some(end) }
    }
}

pub(super) fn encoded_len(count: usize) -> usize {
    HEAD_BYTES + ENTRY_BYTES * count + CRC_BYTES
}

/// A little-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments by base and end, 0 for none.
    fn manifest(segments: &[(u64, u64)], limit: u64) -> Manifest {
        let listed = |&(base, end): &(u64, u64)| Listed { base, end: (end > 0).then_some(end) };
        Manifest { segments: segments.iter().map(listed).collect(), limit }
    }

    fn parse(bytes: &[u8]) -> Option<Manifest> {
        match Manifest::parse(bytes) {
            Ok(Found::Good(manifest)) => Some(manifest),
            _ => None,
        }
    }

    #[test]
    fn it_is_what_the_documentation_says_byte_by_byte() {
        let manifest = manifest(&[(0, 0x0100), (0x0102, 0)], 0x030405);
        let bytes = manifest.encode();
        let mut expected = b"wilcoseg\x01\0\0\0\x02\0\0\0\x05\x04\x03\0\0\0\0\0".to_vec();
        expected.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0");
        expected.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes[..56], expected);
        assert_eq!(bytes[56..], crc32c::crc32c(&expected).to_le_bytes());
        assert_eq!(parse(&bytes), Some(manifest));
    }

    #[test]
    fn any_damage_is_noticed_and_another_version_is_refused() {
        let bytes = manifest(&[(7, 8), (9, 0)], 9).encode();
        for at in 0..bytes.len() {
            assert_eq!(parse(&bytes[..at]), None, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(matches!(Manifest::parse(&flipped), Ok(Found::Damaged)), "flipped at {at}");
        }
        for bad in [
            manifest(&[(9, 0), (7, 0)], 20),
            manifest(&[(7, 0), (7, 0)], 20),
            manifest(&[(7, 0)], 6),
            manifest(&[(7, 0)], u64::MAX),
            manifest(&[(7, 10), (9, 0)], 20),
            manifest(&[(7, 7), (9, 0)], 20),
        ] {
            assert_eq!(parse(&bad.encode()), None, "{bad:?}");
        }
        let mut other = bytes[..bytes.len() - 4].to_vec();
        other[8] = 2;
        let crc = crc32c::crc32c(&other);
        other.extend_from_slice(&crc.to_le_bytes());
        assert!(matches!(Manifest::parse(&other), Err(LogError::Format { .. })));
    }

    #[test]
    fn a_missing_segment_ends_where_the_next_begins_or_at_the_limit() {
        let manifest = manifest(&[(10, 0), (20, 27), (30, 0)], 90);
        let missing = |there: &[u64]| -> Vec<_> {
            manifest.missing(there).iter().map(|missing| (missing.base, missing.end)).collect()
        };
        assert_eq!(missing(&[10, 20, 30, 40]), []);
        assert_eq!(missing(&[10, 30]), [(20, 27)]);
        assert_eq!(missing(&[20]), [(10, 20), (30, 90)]);
        assert_eq!(missing(&[10, 20, 50]), [(30, 50)]);
        assert_eq!(missing(&[10, 20, 100]), [(30, 90)]);
    }
}
