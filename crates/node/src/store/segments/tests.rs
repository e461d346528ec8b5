//! Which segments may be deleted, according to records written by hand.

use std::collections::BTreeSet;

use broker::QueueId;
use broker::queue::Attempt;
use segment_log::{Batch, records};

use super::Segments;
use crate::store::records::{append_attempts, append_carried, append_settled};

const Q: QueueId = QueueId(1);

/// Counts a segment with these records; returns its base.
fn segment(segments: &mut Segments, base: u64, write: impl FnOnce(&mut Batch)) -> u64 {
    segments.add(base);
    let mut batch = Batch::new(base);
    write(&mut batch);
    assert!(batch.len_bytes() < 1000, "the next one begins there");
    records(batch.as_bytes(), base).for_each(|record| segments.account(&record));
    base
}

/// A message for two queues: only its head of queue ids matters here.
fn message(batch: &mut Batch) -> u64 {
    batch.append(1, 0, &[&2u16.to_le_bytes(), &[1, 0, 0, 0, 2, 0, 0, 0], &[0; 40]])
}

fn settled(batch: &mut Batch, position: u64) {
    append_settled(batch, Q, 1, std::iter::once(position), &mut Vec::new());
}

#[test]
fn a_segment_goes_when_every_queue_has_settled_its_messages() {
    let mut segments = Segments::default();
    let mut at = 0;
    segment(&mut segments, 0, |batch| at = message(batch));
    segment(&mut segments, 1000, |batch| settled(batch, at));
    segment(&mut segments, 2000, |_| ());
    assert_eq!(segments.deletable(0, u64::MAX), [0; 0], "one queue has it");
    segment(&mut segments, 3000, |batch| settled(batch, at));
    segment(&mut segments, 4000, |_| ());
    // The segment that settles it follows when it is gone.
    assert_eq!(segments.deletable(0, u64::MAX), [0, 2000]);
    segments.remove(0);
    assert_eq!(segments.deletable(0, u64::MAX), [1000, 2000, 3000]);
}

#[test]
fn a_carried_settlement_is_not_counted_and_keeps_its_segment() {
    let mut segments = Segments::default();
    let mut at = 0;
    segment(&mut segments, 0, |batch| at = message(batch));
    segment(&mut segments, 1000, |batch| settled(batch, at));
    segment(&mut segments, 2000, |batch| {
        append_carried(batch, Q, 1, std::iter::once(at), &mut Vec::new());
    });
    segment(&mut segments, 3000, |_| ());
    assert_eq!(segments.deletable(0, u64::MAX), [0; 0]);
}

#[test]
fn attempts_keep_their_segment_as_long_as_that_of_the_message() {
    let mut segments = Segments::default();
    let mut at = 0;
    segment(&mut segments, 0, |batch| at = message(batch));
    segment(&mut segments, 1000, |batch| {
        append_attempts(batch, Q, &[Attempt { position: at, count: 1 }]);
    });
    segment(&mut segments, 2000, |_| ());
    assert_eq!(segments.deletable(0, u64::MAX), [0; 0]);
}

#[test]
fn a_segment_with_definitions_stays_until_they_are_applied() {
    let mut segments = Segments::default();
    segment(&mut segments, 0, |batch| {
        batch.append(4, 0, &[b"change"]);
    });
    segment(&mut segments, 1000, |_| ());
    assert_eq!(segments.deletable(0, u64::MAX), [0; 0]);
    assert_eq!(segments.deletable(18, u64::MAX), [0]);
}

#[test]
fn emptied_segments_go_in_order_and_not_before_all_is_durable() {
    let mut segments = Segments::default();
    let mut at = 0;
    segment(&mut segments, 0, |batch| {
        at = message(batch);
        batch.append(4, 0, &[b"change"]);
    });
    segment(&mut segments, 1000, |batch| {
        settled(batch, at);
        settled(batch, at);
    });
    segment(&mut segments, 2000, |_| ());
    let victims = BTreeSet::from([0, 1000]);
    segments.begin_emptying(&victims);
    assert_eq!(segments.deletable(u64::MAX, u64::MAX), [0; 0]);
    segments.carried_forward(&victims);
    // The definitions of the first segment are not applied: then its settlements, which were not
    // carried along because it was to be deleted, must stay, too.
    assert_eq!(segments.deletable(0, u64::MAX), [0; 0]);
    assert_eq!(segments.deletable(u64::MAX, u64::MAX), [0]);
    segments.remove(0);
    assert_eq!(segments.deletable(u64::MAX, u64::MAX), [1000]);
}

#[test]
fn what_would_only_be_carried_on_is_not_compacted() {
    let mut segments = Segments::default();
    let mut positions = Vec::new();
    segment(&mut segments, 0, |batch| positions.extend((0..14).map(|_| message(batch))));
    segment(&mut segments, 1000, |batch| {
        // For both queues.
        positions[..9].iter().for_each(|&position| settled(batch, position));
        positions[..9].iter().for_each(|&position| settled(batch, position));
    });
    segment(&mut segments, 2000, |_| ());
    assert_eq!(segments.compactable(u64::MAX), BTreeSet::new());
    segments.remove(0);
    assert_eq!(segments.compactable(u64::MAX), BTreeSet::from([1000]));
}
