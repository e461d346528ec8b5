//! redb's storage, with a mark of whether a sync of it has ever failed.
//!
//! After a failed sync nobody knows how much of the file is on disk: the kernel may show pages that
//! it has given up writing. Such a file must not be built upon before a restart; after a write that
//! merely found no room it may.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;

/// Passes everything on and sets the mark when a sync fails.
#[derive(Debug)]
pub(super) struct Watched<B> {
    backend: B,
    sync_failed: Arc<AtomicBool>,
}

impl<B> Watched<B> {
    pub(super) fn new(backend: B, sync_failed: &Arc<AtomicBool>) -> Self {
        Self { backend, sync_failed: Arc::clone(sync_failed) }
    }
}

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.backend.sync_data();
        if synced.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
