//! The records of the ledger's log.
//!
//! Owns their kinds and the format of the one that is not a page (see the crate's documentation).

use outcome::Cursor;

/// Kind of record: a page.
pub(crate) const PAGE: u8 = 1;
/// Kind of record: how far the message log has been followed.
pub(crate) const APPLIED: u8 = 2;

/// Bytes of the payload of [`APPLIED`].
pub(crate) const APPLIED_SIZE: usize = 20;

/// How far the message log has been followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) position: u64,
    /// The last event.
    pub(crate) last: Option<Cursor>,
}

impl Applied {
    pub(crate) fn encode(self) -> [u8; APPLIED_SIZE] {
        // No event has this cursor.
        let last = self.last.unwrap_or(Cursor { position: u64::MAX, nth: u32::MAX });
        let mut bytes = [0; APPLIED_SIZE];
        bytes[..8].copy_from_slice(&self.position.to_le_bytes());
        bytes[8..16].copy_from_slice(&last.position.to_le_bytes());
        bytes[16..].copy_from_slice(&last.nth.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; APPLIED_SIZE] = bytes.try_into().ok()?;
        let position = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        let last = Cursor {
            position: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
            nth: u32::from_le_bytes(bytes[16..].try_into().ok()?),
        };
        let is_none = last.position == u64::MAX && last.nth == u32::MAX;
        Some(Self { position, last: (!is_none).then_some(last) })
    }
}
