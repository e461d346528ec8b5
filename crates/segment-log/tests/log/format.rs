//! Segments that earlier versions wrote must stay readable forever.

use segment_log::{Batch, FaultyDisk};

use crate::{Owned, open};

/// Written by version 1: base 4096, three records, a group of two among them.
const V1: &[u8] = include_bytes!("../data/v1.log");
const NAME: &str = "00000000000000004096.log";

fn contents() -> Batch {
    let mut batch = Batch::new(4096);
    batch.append(1, 0, &[b"hello"]);
    batch.begin_group();
    batch.append(2, 0x81, &[]);
    batch.append(3, 0, &[b"a group's second"]);
    batch.end_group();
    batch
}

#[test]
fn a_segment_of_version_1_is_read() {
    let disk = FaultyDisk::new(0);
    disk.put(NAME, V1);
    let opened = open(disk, 1 << 20).expect("opens");
    let expected: Vec<_> =
        segment_log::records(contents().as_bytes(), 4096).map(Owned::from).collect();
    assert_eq!(opened.records, expected);
    assert_eq!(opened.recovery.quarantined, []);
    assert_eq!(opened.recovery.torn_tail, None);
    assert_eq!(opened.log.next_position(), 4165);
}

#[test]
fn version_1_is_still_written_byte_by_byte() {
    assert_eq!(&V1[32..], contents().as_bytes());
}
