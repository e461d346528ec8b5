//! Roughly which pages are on disk: one entry per stretch of the log.
//!
//! Owns the summaries by which outcomes are found without reading what cannot hold them. Never
//! touches the disk. Invariants: stretches are in the order of the log, lie within one segment
//! each, and are short, but long enough that a directory of many small pages stays small.

use std::collections::VecDeque;
use std::ops::Range;

use crate::page::Summary;
use outcome::Cursor;

/// Some consecutive pages in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Base of the segment.
    pub(crate) segment: u64,
    /// Position of the first page's record.
    pub(crate) position: u64,
    /// Position after the last page.
    pub(crate) end: u64,
    pub(crate) summary: Summary,
}

/// All stretches.
#[derive(Debug)]
pub(crate) struct Directory {
    stretches: VecDeque<Stretch>,
    stretch_bytes: u64,
}

impl Directory {
    /// A directory whose stretches hold up to `stretch_bytes` of pages.
    pub(crate) fn new(stretch_bytes: u64) -> Self {
        Self { stretches: VecDeque::new(), stretch_bytes }
    }

    /// Adds the page whose record has these positions; usually the last, but damage may have hidden
    /// it at first.
    pub(crate) fn push(&mut self, segment: u64, record: Range<u64>, summary: Summary) {
        let Range { start: position, end } = record;
        let stretch = Stretch { segment, position, end, summary };
        match self.stretches.back_mut() {
            Some(last) if position < last.end => {
                let at = self.stretches.partition_point(|other| other.position < position);
                self.stretches.insert(at, stretch);
            }
            Some(last) if last.segment == segment && end - last.position <= self.stretch_bytes => {
                last.end = end;
                last.summary = last.summary.and(summary);
            }
            _ => self.stretches.push_back(stretch),
        }
    }

    /// Removes the stretches of a segment.
    pub(crate) fn remove_segment(&mut self, segment: u64) {
        self.stretches.retain(|stretch| stretch.segment != segment);
    }

    /// The first stretch with events after the cursor for which the predicate holds.
    pub(crate) fn next(
        &self,
        after: Option<Cursor>,
        is_wanted: impl Fn(&Summary) -> bool,
    ) -> Option<Stretch> {
        let start = after.map_or(0, |after| {
            self.stretches.partition_point(|stretch| stretch.summary.last <= after)
        });
        self.stretches.range(start..).find(|stretch| is_wanted(&stretch.summary)).copied()
    }

    /// The earliest and the latest time of a segment's events, ms; `None` if it has none.
    pub(crate) fn times_ms(&self, segment: u64) -> Option<Range<u64>> {
        let start = self.stretches.partition_point(|stretch| stretch.segment < segment);
        let of_it = self.stretches.range(start..).take_while(|it| it.segment == segment);
        let all = of_it.map(|stretch| stretch.summary).reduce(Summary::and)?;
        Some(all.time_min_ms..all.time_max_ms)
    }
}
