//! The log from the outside: against a model, damaged, on a real disk, and in old formats.

mod damage;
mod errors;
mod format;
mod missing;
mod model;
mod real;

use segment_log::{Disk, Log, LogError, Options, Recovery};

/// A record with its payload owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) position: u64,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl From<segment_log::RecordRef<'_>> for Owned {
    fn from(record: segment_log::RecordRef<'_>) -> Self {
        let payload = record.payload.to_vec();
        Self { position: record.position, kind: record.kind, flags: record.flags, payload }
    }
}

pub(crate) struct Opened<D: Disk> {
    pub(crate) log: Log<D>,
    pub(crate) recovery: Recovery,
    pub(crate) records: Vec<Owned>,
}

/// Opens with small segments, and checks what must hold after every opening.
pub(crate) fn open<D: Disk>(disk: D, segment_bytes_max: u64) -> Result<Opened<D>, LogError> {
    let mut records: Vec<Owned> = Vec::new();
    let options = Options { segment_bytes_max, ..Options::default() };
    let (log, recovery) = Log::open(disk, options, &mut |record| records.push(record.into()))?;
    assert_eq!(recovery.record_count, records.len() as u64);
    assert_eq!(recovery.next_position, log.next_position());
    assert_eq!(recovery.segment_count, log.segments().len());
    assert!(records.is_sorted_by(|a, b| a.position < b.position), "out of order");
    check_reads(&log, &records);
    Ok(Opened { log, recovery, records })
}

/// Every way of reading gives the same records.
pub(crate) fn check_reads<D: Disk>(log: &Log<D>, expected: &[Owned]) {
    let reader = log.reader();
    let mut buffer = Vec::new();
    for record in expected {
        let head = reader.read(record.position, &mut buffer).expect("a visited record is read");
        assert_eq!((head.kind, head.flags), (record.kind, record.flags));
        assert_eq!(buffer, record.payload);
        reader.read_range(record.position, 100, &mut buffer).expect("and read ahead from");
        let first = segment_log::records(&buffer, record.position).next().expect("at least one");
        assert_eq!(Owned::from(first), *record);
    }
    let mut scanned: Vec<Owned> = Vec::new();
    for segment in log.segments() {
        reader
            .scan_segment(segment.base, &mut |record| scanned.push(record.into()))
            .expect("only damage that was reported");
    }
    assert_eq!(scanned, expected);
}
