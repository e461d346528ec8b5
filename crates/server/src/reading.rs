//! The buffer that connections read into: one per thread, lent for the length of a read.
//!
//! So an idle connection keeps no read buffer. It keeps only what a read left of an incomplete
//! frame, and that goes in front of the next read's bytes.

use std::cell::RefCell;

/// Room for new bytes in each read.
pub(crate) const READ_BYTES: usize = 128 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends a buffer that begins with `kept` and has room behind it.
pub(crate) fn with_buffer<R>(kept: &[u8], work: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        let needed = kept.len() + READ_BYTES;
        if buffer.len() < needed {
            buffer.resize(needed, 0);
        }
        buffer[..kept.len()].copy_from_slice(kept);
        work(&mut buffer[..needed])
    })
}
