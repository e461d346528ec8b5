//! Statistics and trimming of the memory allocator: glibc's malloc, which this binary uses.
//!
//! The one place in the binary with unsafe code: two calls into the C library that no crate we
//! would depend on wraps. Neither takes a pointer.
#![allow(unsafe_code)]

use node::{Heap, HeapUsage};

/// Access to glibc's allocator; `None` if another C library is linked.
pub(crate) fn heap() -> Option<Heap> {
    #[cfg(target_env = "gnu")]
    return Some(Heap { usage, trim });
    #[cfg(not(target_env = "gnu"))]
    None
}

/// The sum over all arenas and separate mappings.
#[cfg(target_env = "gnu")]
fn usage() -> HeapUsage {
    // SAFETY: it takes no arguments, locks what it reads, and returns a plain structure.
    let info = unsafe { libc::mallinfo2() };
    let used_bytes = (info.uordblks as u64).saturating_add(info.hblkhd as u64);
    HeapUsage { used_bytes, free_bytes: info.fordblks as u64 }
}

/// Returns free whole pages to the operating system.
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it takes a number, and does its own locking.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    #[test]
    fn what_is_allocated_is_seen_and_gone_when_it_is_freed() {
        let heap = super::heap().expect("glibc");
        let used_bytes = || (heap.usage)().used_bytes;
        let before = used_bytes();
        // Other tests hash passwords meanwhile, which takes dozens of MiB at a time; this is far
        // more, and since nobody writes to it, it takes no real memory.
        let large = std::hint::black_box(Vec::<u8>::with_capacity(512 << 20));
        assert!(used_bytes() >= before + (256 << 20), "{} bytes", large.capacity());
        drop(large);
        (heap.trim)();
        assert!(used_bytes() < before + (256 << 20));
    }
}
