//! Open connections, to be woken for what concerns them all, and the numbers that identify
//! connections and what belongs to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use super::outbox::{Outbox, Owner};
use super::outbox_total::OutboxTotal;
use crate::atomics::AtomicUsize;
use crate::locks::Mutex;

/// See the module's documentation.
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Weak<Outbox>>>,
    next_connection: AtomicU64,
    next_serial: AtomicU64,
    outbox_bytes: Arc<AtomicUsize>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            next_connection: AtomicU64::new(1),
            next_serial: AtomicU64::new(1),
            outbox_bytes: Arc::default(),
        }
    }
}

impl Connections {
    /// The number of a new connection, unique while the node lives.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// A unique number.
    pub(crate) fn next_serial(&self) -> u64 {
        self.next_serial.fetch_add(1, Ordering::Relaxed)
    }

    /// A new outbox's part of what waits in all of them.
    pub(crate) fn outbox_total(&self) -> OutboxTotal {
        OutboxTotal::part_of(&self.outbox_bytes)
    }

    pub(crate) fn add(&self, outbox: &Arc<Outbox>) {
        self.open.lock().insert(outbox.connection, Arc::downgrade(outbox));
    }

    pub(crate) fn remove(&self, outbox: &Outbox) {
        self.open.lock().remove(&outbox.connection);
    }

    /// Ends the sessions of these owners.
    pub(crate) fn end(&self, of: impl Fn(&Owner) -> bool) {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        let open = open.iter().filter_map(Weak::upgrade);
        open.filter(|outbox| of(&outbox.owner)).for_each(|outbox| outbox.end());
    }

    /// Wakes every connection, to look at something that concerns them all.
    pub(crate) fn wake_all(&self) {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        open.iter().filter_map(Weak::upgrade).for_each(|outbox| outbox.wake());
    }
}
