//! How much memory the process takes, and whether that is too much.
//!
//! What counts is what is in use. What is resident is more: an allocator keeps freed memory for the
//! next who asks, and a figure that does not fall would hold publishers for ever. So where the
//! allocator can be asked ([`Heap`](crate::Heap)) it is made to give back what it need not have, at
//! most now and then, and then both figures must be too high.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::options::{Heap, Limits};

/// How often the allocator is asked to give memory back.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// It is asked when it keeps so much for itself.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// The process's memory.
pub(crate) struct Memory {
    /// Held open: when no descriptor is left this must still be known.
    statm: Option<File>,
    trimmed_at: Mutex<Option<Instant>>,
}

impl Memory {
    pub(crate) fn open() -> Self {
        Self { statm: File::open("/proc/self/statm").ok(), trimmed_at: Mutex::default() }
    }

    /// Whether publishers must be held. Gives memory back by the way.
    pub(crate) fn is_low(&self, limits: &Limits) -> bool {
        let max = limits.memory_bytes_max;
        let resident = self.resident_bytes();
        let Some(heap) = limits.heap else { return resident > max };
        // Asking walks the heap; while little is resident there is nothing to know.
        if resident <= KEPT_BYTES_MAX || !self.is_due(resident > max) {
            return resident > max && (heap.used_bytes)() > max;
        }
        self.trim(&heap, resident);
        self.resident_bytes() > max && (heap.used_bytes)() > max
    }

    fn is_due(&self, is_urgent: bool) -> bool {
        let every = if is_urgent { TRIM_EVERY / 10 } else { TRIM_EVERY };
        let mut trimmed_at = self.trimmed_at.lock();
        let is_due = trimmed_at.is_none_or(|at| at.elapsed() >= every);
        if is_due {
            *trimmed_at = Some(Instant::now());
        }
        is_due
    }

    fn trim(&self, heap: &Heap, resident: u64) {
        if resident.saturating_sub((heap.used_bytes)()) > KEPT_BYTES_MAX {
            (heap.trim)();
        }
    }

    fn resident_bytes(&self) -> u64 {
        let mut buffer = [0; 128];
        let read = self.statm.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok());
        let text = std::str::from_utf8(&buffer[..read.unwrap_or(0)]).unwrap_or_default();
        let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory_bytes_max: u64, heap: Option<Heap>) -> Limits {
        Limits { memory_bytes_max, heap, ..Limits::default() }
    }

    #[test]
    fn what_is_resident_counts_where_nobody_can_tell_more() {
        let memory = Memory::open();
        assert!(memory.resident_bytes() > 1 << 20);
        assert!(memory.is_low(&limits(1 << 20, None)));
        assert!(!memory.is_low(&limits(1 << 40, None)));
    }

    #[test]
    fn what_an_allocator_keeps_does_not_count() {
        let memory = Memory::open();
        let heap = |used_bytes| Some(Heap { used_bytes, trim: || {} });
        assert!(!memory.is_low(&limits(1 << 20, heap(|| 1000))));
        assert!(memory.is_low(&limits(1 << 20, heap(|| 1 << 30))));
        assert!(!memory.is_low(&limits(1 << 40, heap(|| 1 << 30))), "not all of it is touched");
    }
}
