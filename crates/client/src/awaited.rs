//! Who waits for the outcome of which message.
//!
//! *Invariants:* an entry stays as long as somebody has a receipt for it or a callback has not been
//! called, and no longer. A callback is called once, with no lock held.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::outcome::Settled;
use crate::transport::OutcomeSink;

/// Called with the id and the outcome.
pub(crate) type Callback = Box<dyn FnOnce(&Settled) + Send>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Awaited {
    by_id: Mutex<HashMap<Arc<str>, Arc<Message>>>,
}

/// A message that has been sent, for as long as somebody waits for what becomes of it.
pub(crate) struct Message {
    pub(crate) id: Arc<str>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    settled: Option<Settled>,
    callbacks: Vec<(Callback, Permits)>,
    receipts: usize,
}

/// Room in a producer's window.
#[derive(Debug)]
pub(crate) struct Permits {
    pub(crate) _message: OwnedSemaphorePermit,
    pub(crate) _bytes: OwnedSemaphorePermit,
}

/// Somebody who waits for a message; the entry is gone with the last.
pub(crate) struct Interest {
    message: Arc<Message>,
    awaited: Weak<Awaited>,
}

impl Awaited {
    /// Begins to wait, before the message is sent: the outcome may be there before the confirm. Ids in
    /// use are shared, since they name one and the same message.
    pub(crate) fn enter(self: &Arc<Self>, id: Arc<str>) -> Interest {
        let mut by_id = self.by_id.lock();
        let message = by_id.entry(Arc::clone(&id)).or_insert_with(|| {
            Arc::new(Message { id, state: Mutex::default(), changed: Notify::new() })
        });
        message.state.lock().receipts += 1;
        Interest { message: Arc::clone(message), awaited: Arc::downgrade(self) }
    }

    /// Takes the entry out if nobody waits any more.
    fn leave(&self, message: &Arc<Message>) {
        let mut by_id = self.by_id.lock();
        // The id may be another message's by now.
        if !by_id.get(&message.id).is_some_and(|there| Arc::ptr_eq(there, message)) {
            return;
        }
        let state = message.state.lock();
        if state.receipts == 0 && state.callbacks.is_empty() {
            drop(state);
            by_id.remove(&message.id);
        }
    }

    /// How many messages somebody waits for.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_id.lock().len()
    }
}

impl OutcomeSink for Awaited {
    fn settled(&self, settled: Settled) {
        let message = self.by_id.lock().get(settled.details.id.as_str()).map(Arc::clone);
        // Nobody waits: it may have been told before, on an earlier connection.
        let Some(message) = message else { return };
        let callbacks = {
            let mut state = message.state.lock();
            // A late success takes the place of a missed deadline; else the first counts.
            if state.settled.is_none() || settled.details.is_late {
                state.settled = Some(settled.clone());
            }
            std::mem::take(&mut state.callbacks)
        };
        message.changed.notify_waiters();
        for (callback, permits) in callbacks {
            callback(&settled);
            drop(permits);
        }
        self.leave(&message);
    }
}

impl Interest {
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.message.id
    }

    /// What became of it, if that is known.
    pub(crate) fn settled(&self) -> Option<Settled> {
        self.message.state.lock().settled.clone()
    }

    /// Waits until it is known.
    pub(crate) async fn wait(&self) -> Settled {
        loop {
            let changed = self.message.changed.notified();
            if let Some(settled) = self.settled() {
                return settled;
            }
            changed.await;
        }
    }

    /// Forgets what became of it: it is put in again.
    pub(crate) fn begin_again(&self) {
        self.message.state.lock().settled = None;
    }

    /// Calls back once it is known, which may be now. The permits are held until then.
    pub(crate) fn call_back(&self, callback: Callback, permits: Permits) {
        let mut state = self.message.state.lock();
        match state.settled.clone() {
            None => state.callbacks.push((callback, permits)),
            Some(settled) => {
                drop(state);
                callback(&settled);
            }
        }
    }

    /// It is known without an outcome from the engine.
    pub(crate) fn settle(&self, settled: Settled) {
        if let Some(awaited) = self.awaited.upgrade() {
            awaited.settled(settled);
        }
    }
}

impl Clone for Interest {
    fn clone(&self) -> Self {
        self.message.state.lock().receipts += 1;
        Self { message: Arc::clone(&self.message), awaited: Weak::clone(&self.awaited) }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.message.state.lock().receipts -= 1;
        if let Some(awaited) = self.awaited.upgrade() {
            awaited.leave(&self.message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    fn permits(semaphore: &Arc<Semaphore>) -> Permits {
        let permit = || Arc::clone(semaphore).try_acquire_owned().expect("there is room");
        Permits { _message: permit(), _bytes: permit() }
    }

    #[test]
    fn entries_are_there_for_as_long_as_somebody_waits() {
        let awaited = Arc::new(Awaited::default());
        let semaphore = Arc::new(Semaphore::new(4));
        let calls = Arc::new(AtomicU32::new(0));
        let call = || {
            let calls = Arc::clone(&calls);
            Box::new(move |_: &Settled| {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        };
        let first = awaited.enter("a".into());
        let second = awaited.enter("a".into());
        drop(awaited.enter("b".into()));
        assert_eq!(awaited.len(), 1, "both wait for one message");
        first.call_back(call(), permits(&semaphore));
        drop((first, second));
        assert_eq!((awaited.len(), semaphore.available_permits()), (1, 2), "a callback waits");
        awaited.settled(Settled::unroutable("a"));
        awaited.settled(Settled::unroutable("a"));
        assert_eq!((awaited.len(), semaphore.available_permits()), (0, 4));
        assert_eq!(calls.load(Ordering::Relaxed), 1);

        let known = awaited.enter("a".into());
        awaited.settled(Settled::unroutable("a"));
        known.call_back(call(), permits(&semaphore));
        assert_eq!(calls.load(Ordering::Relaxed), 2, "what is known is told at once");
        let again = awaited.enter("a".into());
        assert!(again.settled().is_some(), "an id names one message");
        drop(known);
        assert_eq!(awaited.len(), 1);
        drop(again);
        assert_eq!((awaited.len(), semaphore.available_permits()), (0, 4));
    }
}
