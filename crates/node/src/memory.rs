//! How much memory the process uses, and whether that is too much.
//!
//! What counts is the memory in use. Resident memory is more: an allocator keeps freed memory for
//! reuse, and a figure that does not fall would hold publishers for ever. So where the allocator
//! can be asked ([`Heap`](crate::Heap)), it is now and then made to give back what it does not
//! need, and publishers are held only if both figures are too high.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::locks::Mutex;
use crate::options::Limits;

/// How often the allocator is asked to give memory back.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// How much the allocator may keep for itself before it is asked.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// The process's memory.
pub(crate) struct Memory {
    /// Held open, because memory must still be known when no descriptor is left.
    statm: Option<File>,
    trimmed_at: Mutex<Option<Instant>>,
}

impl Memory {
    pub(crate) fn open() -> Self {
        Self { statm: File::open("/proc/self/statm").ok(), trimmed_at: Mutex::default() }
    }

    /// Whether publishers must be held. On the way, gives memory back.
    pub(crate) fn is_low(&self, limits: &Limits) -> bool {
        let max = limits.memory_bytes_max;
        let Some(heap) = limits.heap else { return self.resident().bytes > max };
        // Asking walks the heap, so it is done only when it matters.
        let is_high = self.resident().bytes > max;
        if self.is_due(is_high) && (heap.usage)().free_bytes > KEPT_BYTES_MAX {
            (heap.trim)();
        }
        let Resident { bytes, of_files_bytes } = self.resident();
        // The program itself is not on the heap.
        bytes > max && (heap.usage)().used_bytes.saturating_add(of_files_bytes) > max
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

    fn resident(&self) -> Resident {
        let mut buffer = [0; 128];
        let read = self.statm.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok());
        let text = std::str::from_utf8(&buffer[..read.unwrap_or(0)]).unwrap_or_default();
        let mut pages = text.split(' ').skip(1).map(|pages| pages.parse().unwrap_or(0));
        let mut next_bytes = || pages.next().unwrap_or(0) * rustix::param::page_size() as u64;
        Resident { bytes: next_bytes(), of_files_bytes: next_bytes() }
    }
}

/// How much of the process is in memory (proc(5), statm).
struct Resident {
    bytes: u64,
    /// The part of it that comes from files, the program among them.
    of_files_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Heap, HeapUsage};

    fn limits(memory_bytes_max: u64, heap: Option<Heap>) -> Limits {
        Limits { memory_bytes_max, heap, ..Limits::default() }
    }

    #[test]
    fn what_is_resident_counts_where_nobody_can_tell_more() {
        let memory = Memory::open();
        let Resident { bytes, of_files_bytes } = memory.resident();
        assert!(bytes > of_files_bytes && of_files_bytes > 1 << 20);
        assert!(memory.is_low(&limits(1 << 20, None)));
        assert!(!memory.is_low(&limits(1 << 40, None)));
    }

    #[test]
    fn what_an_allocator_keeps_does_not_count() {
        let memory = Memory::open();
        let is_low = |memory_bytes_max, usage: fn() -> HeapUsage| {
            let heap = Some(Heap { usage, trim: || {} });
            memory.is_low(&limits(memory_bytes_max, heap))
        };
        // More than the program, less than all there is.
        let Resident { bytes, of_files_bytes } = memory.resident();
        let max = of_files_bytes + (bytes - of_files_bytes) / 2;
        let used = || HeapUsage { used_bytes: 1 << 30, free_bytes: 0 };
        assert!(!is_low(max, HeapUsage::default));
        assert!(is_low(max, used));
        assert!(!is_low(1 << 40, used), "not all of it is touched");
        assert!(is_low(1 << 20, HeapUsage::default), "the program counts");
    }
}
