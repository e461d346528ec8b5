//! Holds publishers while disk or memory is short, and lets them go.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Engine;

/// Whether publishers are held.
#[derive(Default)]
pub(crate) struct PublisherHold {
    is_held: AtomicBool,
}

impl Engine {
    /// Whether publishers must be held, because too little disk or memory is left.
    pub(crate) fn holds_publishers(&self) -> bool {
        if !self.store.has_disk_room() {
            // Maintenance looks only a few times a second, which would be too late.
            self.hold_publishers(true, false);
        }
        self.hold.is_held.load(Ordering::Acquire)
    }

    /// Holds publishers from now on; maintenance lets them go.
    pub(crate) fn hold_publishers(&self, disk_is_low: bool, memory_is_low: bool) {
        if !self.hold.is_held.swap(true, Ordering::AcqRel) {
            tracing::warn!(disk_is_low, memory_is_low, "publishers are held");
            self.registry.connections.wake_all();
        }
    }

    pub(crate) fn release_publishers(&self) {
        if self.hold.is_held.swap(false, Ordering::AcqRel) {
            tracing::info!("publishers go on");
            self.registry.connections.wake_all();
        }
    }
}
