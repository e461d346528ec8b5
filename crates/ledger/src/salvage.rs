//! What is intact in a damaged stretch of the log.
//!
//! The log recovers a group as a whole or not at all. That is right for a group that a crash
//! interrupted, which is at the end of the log and is cut off. In a damaged group before the end,
//! the other pages are as good as ever, and each has a checksum of its own.

use segment_log::{LogError, Quarantine, RecordRef, SEGMENT_HEADER_SIZE, records};

use crate::LedgerError;
use crate::device::{Files, ReadDevice, read_full};
use crate::records::PAGE;

/// A group is what one flush covers; a longer stretch is not read into memory.
const STRETCH_BYTES_MAX: u64 = 256 << 20;

/// Visits the intact pages in a damaged stretch, as far as intact headers lead.
pub(crate) fn salvage(
    files: &dyn Files,
    reader: &dyn ReadDevice,
    damage: &Quarantine,
    visit: &mut dyn FnMut(RecordRef<'_>),
) -> Result<(), LedgerError> {
    let file = files.open(&format!("{:020}.log", damage.segment))?;
    let mut bytes = vec![0; damage.bytes.min(STRETCH_BYTES_MAX) as usize];
    let offset = SEGMENT_HEADER_SIZE + damage.position - damage.segment;
    let filled = read_full(&*file, &mut bytes, offset)?;
    let mut payload = Vec::new();
    for record in records(&bytes[..filled], damage.position) {
        if record.kind != PAGE {
            continue;
        }
        match reader.read(record.position, &mut payload) {
            Ok(()) if payload.len() == record.payload.len() => {
                visit(RecordRef { payload: &payload, ..record });
            }
            Ok(()) | Err(LogError::Corrupt { .. } | LogError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
