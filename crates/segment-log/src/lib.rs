//! A durable append-only log in segment files.
mod batch;
mod disk;
mod error;
pub mod faulty;
mod log;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;

pub use batch::Batch;
pub use disk::{Disk, DiskFile, RealDisk, RealFile};
pub use error::LogError;
pub use faulty::FaultyDisk;
pub use log::{Log, Options, SegmentStat};
pub use reader::Reader;
pub use record::{GROUP, RECORD_HEADER_SIZE, RecordHead, RecordRef, records};
pub use recovery::{Damage, Quarantine, Recovery, TornTail};
pub use segment::SEGMENT_HEADER_SIZE;
