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
//! log.sync()?; // now, and not before, it may be promised to anybody
//! let mut payload = Vec::new();
//! log.reader().read(position, &mut payload)?;
//! assert_eq!(payload, b"headbody");
//! # assert_eq!(recovery.record_count, 0);
//! # Ok(())
//! # }
//! ```
//!
//! One owner holds the [`Log`] and writes [`Batch`]es; any thread reads through a [`Reader`]. There
//! are no threads, no clocks and no locks here but one around the table of segments. What records
//! mean, when to sync and which segments to delete is the owner's to decide.
//!
//! # Positions
//!
//! A position is a `u64`, a place in one endless sequence of bytes that the log's records form. It
//! grows, without gaps but behind what was lost, and is never used twice. A segment file holds a stretch of that sequence and
//! is named by the first position in it, its base, in twenty decimal digits: `%020d.log`. Position
//! `p` is found in the file with the greatest base not above `p`, at file offset `32 + p - base`.
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
//! | 4 | 1 | kind; 0xFF is a group, the others are the user's |
//! | 5 | 1 | flags, the user's; 0 in a group |
//! | 6 | 2 | check of the header, see below |
//! | 8 | 4 | CRC32C of: position (8 bytes), the 8 bytes before, the payload. 0 is stored as 1 |
//! | 12 | | payload |
//!
//! The check of the header, in arithmetic modulo 2^64, is the upper 16 bits of
//! `((position * 0xBF58476D1CE4E5B9) xor fields) * 0x9E3779B97F4A7C15`, where `fields` is payload
//! length + kind * 2^32 + flags * 2^40 + member * 2^48, and `member` is 1 inside a group, else 0.
//!
//! It tells an intact header from other bytes without its payload. So damage in a payload does not
//! hide where the next record begins, and the bytes of a damaged payload are never searched for
//! records. Both checks cover the position: a record's bytes are a record in one place only, not as
//! a copy inside a payload nor as the remains of an earlier file.
//!
//! A **group**'s payload is records, each marked as member, from end to end; groups do not nest. Its
//! CRC covers them all, and a member is not a record without its group: either all members are
//! recovered or none. Each can be read by its own position.
//!
//! # Manifest, version 1
//!
//! The file `segments` lists the living segments, so that one which somebody deleted is missed: dead
//! segments are deleted all the time, and a gap says nothing.
//!
//! | offset | bytes | content |
//! |-------:|------:|---------|
//! | 0 | 8 | `wilcoseg` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | number of segments |
//! | 16 | 8 | limit: the position that the last segment does not go beyond |
//! | 24 | 8 each | bases, ascending |
//! | | 4 | CRC32C of all before |
//!
//! # Commit protocol
//!
//! - *Write*: a batch goes to the end of the active segment in one write. After a small batch the
//!   file is extended with zeros for the next ones: a sync that changes no length and no extents
//!   costs the file system no journal commit (measured on ext4: 0.1 instead of 0.15 to 0.19 ms).
//! - *Sync*: one `fdatasync` of the active segment. What it covers is durable. If it fails the log
//!   is poisoned: the kernel may have dropped the pages and answer `Ok` next time.
//! - *Full disk*: what was let through of the batch is cut off again, and the cut synced; the log is
//!   as if the batch had never come.
//! - *Roll*: cut the zeros, sync, then write the next segment's header to a file called `next`, sync
//!   it, rename it to the segment's name, sync the directory. So only the last segment can have an
//!   end that is not clean. `next` is made and opened in advance, so that a roll does not fail for
//!   want of a descriptor; what a crash leaves under that name is nothing, and written over.
//! - *Delete*: sync what was written, write the manifest without the segments, remove the files, sync
//!   the directory. So a deleted segment does not come back after the records that were the reason
//!   to delete it, and is not missed.
//! - *Manifest*: written to `segments.part`, synced, renamed, the directory synced: two more syncs for
//!   each roll and each deletion of any number of segments. In a roll the file is written before the
//!   new segment gets its name, and gets its own name after that is durable; only then a record of
//!   the segment may be promised. A batch beyond the limit waits for a new manifest. Where there is
//!   no room for it a deletion removes it instead, since deleting is what gives room.
//!
//! # Recovery
//!
//! Segments are read oldest first. Where the bytes are no intact record:
//!
//! - Only zeros to the end of the file: the end.
//! - No intact record in the rest of the last segment: a write that a crash interrupted. The file
//!   is cut there and the cut synced, so that nothing of it can come back behind later records.
//! - Otherwise damage. As long as headers are intact their lengths lead on; where one is not, every
//!   byte is tried until a record holds from end to end. The stretch is copied to
//!   `<base>-<position>.quarantine` and left where it is; everything around it is visited.
//! - A segment's file header alone: written anew. Nothing readable in a segment: it is renamed to
//!   `<base>.log.quarantine`, and its positions are not used again. A segment of another version,
//!   of another base than its name, or reaching into its successor: refused.
//!
//! What the manifest lists and is not there is missing, and reported; no position of it is used again,
//! up to the next base, or up to the limit if none follows. A segment that is there and not listed was
//! begun, or about to be deleted, when a crash came; it is kept. Without a manifest nothing is said; a
//! damaged one is reported. The manifest is written anew at once, but after a loss or damage only
//! with the first write: until then every opening tells of it.
//!
//! The last segment is synced before `open` returns: a killed process may have left records that
//! are in the page cache only, and who has seen them may act on them.
//!
//! # What is assumed of the disk
//!
//! - What a returned `fdatasync` covers, length included, survives a crash.
//! - What it does not cover may survive in any part, in any order, torn at any byte. Therefore the
//!   records after the last sync need not survive as a prefix: a later one may be there without an
//!   earlier one, and the hole is then reported as damage. Where that matters, use a group.
//! - A created, removed or renamed file is so durably once the directory is synced.
//! - Bytes that were synced are not changed by writing others after them.
//! - The directory belongs to one log in one process. The log takes no lock.

mod batch;
mod disk;
mod error;
pub mod faulty;
mod log;
mod manifest;
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
pub use reader::Reader;
pub use record::{GROUP, RECORD_HEADER_SIZE, RecordHead, RecordRef, records};
pub use report::{Damage, Quarantine, Recovery, TornTail};
pub use reserve::Reserve;
pub use segment::SEGMENT_HEADER_SIZE;
