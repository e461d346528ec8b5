//! A durable append-only log in segment files.
//!
//! ```
//! # fn main() -> Result<(), segment_log::LogError> {
//! use segment_log::{Batch, FaultyDisk, Log, Options};
//!
//! let disk = FaultyDisk::new(1); // or RealDisk::new("directory")
//! let (mut log, recovery) = Log::open(disk, Options::default(), &mut |record| {
//!     println!("{} at {}", record.kind, record.position);
//! })?;
//! let mut batch = Batch::new(log.next_position());
//! let position = batch.append(1, 0, &[b"head", b"body"]);
//! log.write(&batch)?;
//! log.sync()?; // only now may it be promised to anybody
//! let mut payload = Vec::new();
//! log.reader().read(position, &mut payload)?;
//! assert_eq!(payload, b"headbody");
//! # assert_eq!(recovery.record_count, 0);
//! # Ok(())
//! # }
//! ```
//!
//! One owner holds the [`Log`] and writes [`Batch`]es; any thread reads through a [`Reader`]. There
//! are no threads and no clocks here, and only one lock, around the table of segments. What records
//! mean, when to sync and which segments to delete is for the owner to decide.
//!
//! # Positions
//!
//! A position is a `u64`, a place in the one endless sequence of bytes that the log's records form.
//! Positions grow, without gaps except after a loss, and none is ever used twice. A segment file
//! holds a stretch of that sequence and is named after the first position in it, its base, in
//! twenty decimal digits: `%020d.log`. Position `p` is found in the file with the greatest base not
//! above `p`, at file offset `32 + p - base`.
//!
//! # Segment file, version 1
//!
//! All integers are little-endian.
//!
//! | offset | bytes | content |
//! |-------:|------:|---------|
//! | 0 | 8 | `wilcolog` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | 0 |
//! | 16 | 8 | base |
//! | 24 | 4 | 0 |
//! | 28 | 4 | CRC32C of the 28 bytes before |
//! | 32 | | records, one after the other without padding |
//! | | | zeros up to the end of the file, in the last segment only |
//!
//! # Record
//!
//! | offset | bytes | content |
//! |-------:|------:|---------|
//! | 0 | 4 | bytes of payload |
//! | 4 | 1 | kind; 0xFF is a group, the others are the owner's |
//! | 5 | 1 | flags, the owner's; 0 in a group |
//! | 6 | 2 | header check, see below |
//! | 8 | 4 | CRC32C of: position (8 bytes), the 8 bytes before, the payload. 0 is stored as 1 |
//! | 12 | | payload |
//!
//! The header check, in arithmetic modulo 2^64, is the upper 16 bits of
//! `((position * 0xBF58476D1CE4E5B9) xor fields) * 0x9E3779B97F4A7C15`, where `fields` is payload
//! length + kind * 2^32 + flags * 2^40 + member * 2^48, and `member` is 1 inside a group, else 0.
//!
//! It tells an intact header from other bytes without looking at the payload. So damage in a
//! payload does not hide where the next record begins, and the bytes of a damaged payload are never
//! searched for records. Both checks cover the position: a record's bytes are a record in one place
//! only, neither as a copy inside a payload nor as the remains of an earlier file.
//!
//! The payload of a **group** consists of records, each marked as a member; groups do not nest. Its
//! CRC covers them all, and a member is no record without its group: either all members are
//! recovered or none. Each can be read by its own position.
//!
//! # Manifest, version 1
//!
//! The file `segments` lists the live segments, so that one that somebody else deleted is noticed:
//! the log deletes dead segments all the time, so a gap says nothing.
//!
//! | offset | bytes | content |
//! |-------:|------:|---------|
//! | 0 | 8 | `wilcoseg` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | number of segments |
//! | 16 | 8 | limit: the position that the last segment does not go beyond |
//! | 24 | 16 each | segments, ascending: base (8), position after the last record (8); the latter is 0 for an empty segment and for the one being written |
//! | | 4 | CRC32C of everything before |
//!
//! # Commit protocol
//!
//! - *Write*: a batch goes to the end of the active segment in one write. After a small batch the
//!   file is extended with zeros for the next ones: a sync that changes no length and no extents
//!   costs the file system no journal commit (measured on ext4: 0.1 instead of 0.15 to 0.19 ms).
//! - *Sync*: one `fdatasync` of the active segment. What it covers is durable. If it fails, the log
//!   is poisoned: the kernel may have dropped the pages and may answer `Ok` next time.
//! - *Full disk*: the part of the batch that was written is cut off again, and the cut synced; the
//!   log is as if the batch had never come.
//! - *Roll*: cut the zeros, sync, then write the next segment's header to a file called `next`,
//!   sync it, rename it to the segment's name, sync the directory. So only the last segment can
//!   have an end that is not clean. `next` is created and opened in advance, so that a roll does
//!   not fail for want of a descriptor; what a crash leaves under that name means nothing and is
//!   written over.
//! - *Delete*: sync what was written, write the manifest without the segments, remove the files,
//!   sync the directory. So a deleted segment neither comes back without the records that were the
//!   reason to delete it, nor is reported missing.
//! - *Manifest*: written to `segments.part`, synced, renamed, the directory synced: two more syncs
//!   for each roll, and for each deletion of any number of segments. In a roll the file is written
//!   before the new segment gets its name, and is renamed once that name is durable; only then may
//!   a record of the segment be promised. A batch beyond the limit waits for a new manifest. If
//!   there is no room for one, a deletion removes the manifest instead, since deleting is what
//!   makes room.
//!
//! # Recovery
//!
//! Segments are read oldest first. Where the bytes are not an intact record:
//!
//! - Only zeros up to the end of the file: this is the end of the log.
//! - No intact record in the rest of the last segment: a write that a crash interrupted. The file
//!   is cut there and the cut synced, so that none of it can come back behind later records.
//! - Otherwise it is damage. As long as headers are intact, their lengths lead on; where one is
//!   not, a record is looked for at every byte until one is intact from end to end. The damaged
//!   stretch is copied to `<base>-<position>.quarantine` and left where it is; everything around it
//!   is visited.
//! - Only a segment's file header is damaged: it is rewritten. Nothing in a segment is readable: it
//!   is renamed to `<base>.log.quarantine`, and its positions are not used again. A segment of
//!   another version, of a base other than its name says, or reaching into its successor is
//!   refused.
//!
//! A segment that the manifest lists and that is not there is reported missing; none of its
//! positions is used again, up to the next base, or up to the limit if none follows. A segment that
//! is there but not listed had just been begun, or was about to be deleted, when a crash came; it
//! is kept. Without a manifest nothing is reported; a damaged one is. The manifest is rewritten at
//! once, but after a loss or damage only with the first write: until then every opening reports it.
//!
//! The last segment is synced before `open` returns: a killed process may have left records that
//! are in the page cache only, and whoever has seen them may act on them.
//!
//! # What is assumed of the disk
//!
//! - What a returned `fdatasync` covers, length included, survives a crash.
//! - What it does not cover may survive in any part, in any order, torn at any byte. Therefore the
//!   records after the last sync need not survive as a prefix: a later one may be there without an
//!   earlier one, and the hole is then reported as damage. Where that matters, use a group.
//! - The creation, removal or renaming of a file is durable once the directory is synced.
//! - Bytes that were synced are not changed by writing others after them.
//! - The directory belongs to one log in one process. The log takes no lock.

mod batch;
mod disk;
mod error;
pub mod faulty;
mod log;
mod manifest;
mod memory;
mod next_segment;
mod quarantine;
mod reader;
mod record;
mod recovery;
mod report;
mod reserve;
mod scan;
mod segment;
mod spare;

pub use batch::Batch;
pub use disk::{Disk, DiskFile, RealDisk, RealFile};
pub use error::LogError;
pub use faulty::FaultyDisk;
pub use log::{Log, Options, SegmentStat};
pub use manifest::Missing;
pub use memory::{MemoryDisk, MemoryFile};
pub use reader::Reader;
pub use record::{GROUP, RECORD_HEADER_SIZE, RecordHead, RecordRef, records};
pub use report::{Damage, Quarantine, Recovery, TornTail};
pub use reserve::Reserve;
pub use segment::SEGMENT_HEADER_SIZE;
