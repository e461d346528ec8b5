//! Room on the disk: who may still append, and the way out when there is none.
//!
//! Publishers are held before the disk is full: at each check ([`Store::has_disk_room`]), what
//! waits to be written is compared with the free space less the configured minimum. So a disk that
//! wilco itself fills keeps that minimum for settlements, which are small and free what they
//! settle.
//!
//! If a batch does not fit all the same (something else filled the disk), the *reserve*, a file
//! kept for that purpose, is deleted and the batch tried again. It is created anew when there is
//! plenty of room.

use std::sync::atomic::Ordering;

use segment_log::LogError;

use super::Store;

/// Why the same batch comes again and again. Values of [`Store::stuck`].
const NOT_STUCK: u8 = 0;
const DISK_FULL: u8 = 1;
const OUT_OF_FILES: u8 = 2;

impl Store {
    /// Whether what waits to be written leaves the required space on the disk.
    pub(crate) fn has_disk_room(&self) -> bool {
        let waiting = self.appended_bytes.load(Ordering::Relaxed)
            + self.in_flight_bytes.load(Ordering::Relaxed);
        let free = self.free_bytes.load(Ordering::Relaxed);
        waiting.saturating_add(self.disk_free_bytes_min) <= free
    }

    /// Asks the disk how much is free. `false` when that is too little.
    pub(crate) fn look_at_disk(&self) -> bool {
        // If a disk does not say how much is free, it is found to be full only when it is.
        let free = self.reader.free_bytes().unwrap_or(u64::MAX);
        self.free_bytes.store(free, Ordering::Relaxed);
        self.has_disk_room()
    }

    /// Notes that this much was written.
    pub(super) fn note_written(&self, bytes: u64) {
        let free = self.free_bytes.load(Ordering::Relaxed);
        if free == u64::MAX {
            return;
        }
        let left = free.saturating_sub(bytes);
        self.free_bytes.store(left, Ordering::Relaxed);
        if left < self.disk_free_bytes_min.saturating_mul(2) {
            // It matters by now: segments may have been deleted meanwhile.
            self.look_at_disk();
        }
    }

    /// Why nothing can be written at the moment, if that is so.
    pub(crate) fn stuck(&self) -> Option<LogError> {
        match self.stuck.load(Ordering::Acquire) {
            NOT_STUCK => None,
            OUT_OF_FILES => Some(LogError::OutOfFiles),
            _ => Some(LogError::DiskFull),
        }
    }

    pub(super) fn clear_stuck(&self) {
        if self.stuck.swap(NOT_STUCK, Ordering::AcqRel) != NOT_STUCK {
            tracing::info!("the store can be written again");
        }
    }

    /// A batch could not be written for now. Returns whether something was done about it, so that
    /// it is worth trying again at once.
    pub(super) fn is_stuck_with(&self, bytes: usize, error: &LogError) -> bool {
        let is_full = matches!(error, LogError::DiskFull);
        let stuck = if is_full { DISK_FULL } else { OUT_OF_FILES };
        if self.stuck.swap(stuck, Ordering::AcqRel) != stuck {
            match is_full {
                true => tracing::warn!(
                    bytes,
                    "the disk is full: {bytes} bytes do not fit; nothing is confirmed until there is room: consume, purge or delete queues, or make room by other means"
                ),
                false => tracing::warn!(
                    "no file descriptor is left for the store; nothing is confirmed until there is one: close connections, or raise the limit of open files (ulimit -n)"
                ),
            }
        }
        is_full && self.release_reserve()
    }

    /// Where room is short, closes the current segment if little in it is alive: only then can it
    /// be deleted or compacted.
    pub(crate) fn close_dead_segment(&self) {
        let end = self.durable();
        if !self.segments.lock().active_is_mostly_dead(end) {
            return;
        }
        let mut device = self.device.lock();
        let rolled = device.roll();
        let base = device.active_base();
        drop(device);
        match rolled {
            Ok(()) => self.segments.lock().add(base),
            // If the log is poisoned, the next batch finds out.
            Err(error) => tracing::debug!("no new segment for now: {error}"),
        }
    }

    /// Whether there are segments that can be deleted. The committer deletes them when it has
    /// something to do, and must be woken when it does not.
    pub(crate) fn has_deletable_segments(&self) -> bool {
        let ledger_applied = self.ledger_applied.load(Ordering::Acquire);
        let applied = self.definitions.applied_position();
        !self.segments.lock().deletable(applied, ledger_applied).is_empty()
    }

    fn release_reserve(&self) -> bool {
        match self.reserve.lock().release() {
            Ok(released) => {
                if released {
                    tracing::warn!("the reserve of the disk is used, so that settlements fit");
                }
                released
            }
            Err(error) => {
                tracing::error!("the reserve of the disk cannot be removed: {error}");
                false
            }
        }
    }

    /// Creates the reserve if there is plenty of room.
    pub(crate) fn restore_reserve(&self) {
        let mut reserve = self.reserve.lock();
        let plenty = self.disk_free_bytes_min.saturating_mul(3);
        if reserve.is_held() || self.free_bytes.load(Ordering::Relaxed) < plenty {
            return;
        }
        match reserve.restore() {
            Ok(_) => {}
            Err(error) => tracing::debug!("no reserve on the disk for now: {error}"),
        }
    }
}
