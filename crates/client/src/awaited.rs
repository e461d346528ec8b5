//! Who waits for the outcome of which message.
//!
//! A message is known by its queue and its id: the same id in two queues is two messages.
//!
//! *Invariants:* an entry stays as long as somebody has a receipt for it or a callback has not been
//! called, and no longer. A callback is called once at most, with no lock held; one that panics costs
//! nobody else anything.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use ::outcome::Outcome as Kind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::outcome::Settled;
use crate::transport::{OutcomeSink, Outgoing};
use crate::window::Permits;

/// Called with what became of a message.
pub(crate) type Callback = Box<dyn FnOnce(&Settled) + Send>;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Awaited {
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    by_key: HashMap<Key, Arc<Message>>,
    /// Nothing more will be known.
    is_closed: bool,
}

/// Queue and id.
type Key = (Arc<str>, Arc<str>);

/// A message that has been sent, for as long as somebody waits for what becomes of it.
struct Message {
    outgoing: Outgoing,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    settled: Option<Settled>,
    callbacks: Vec<(Callback, Arc<Permits>)>,
    receipts: usize,
    is_closed: bool,
}

/// Somebody who waits for a message; the entry is gone with the last.
pub(crate) struct Interest {
    message: Arc<Message>,
    awaited: Weak<Awaited>,
}

impl Message {
    fn key(&self) -> Key {
        (Arc::clone(&self.outgoing.queue), Arc::clone(&self.outgoing.id))
    }

    /// Notes what became of it, and calls back.
    fn settle(&self, settled: &Settled) {
        let callbacks = {
            let mut state = self.state.lock();
            let is_missed =
                state.settled.as_ref().is_some_and(|it| it.kind == Kind::DeadlineMissed);
            // A late success takes the place of a missed deadline; else the first counts.
            if is_missed && settled.kind == Kind::Processed {
                let mut settled = settled.clone();
                // By whose clock ever.
                settled.details.is_late = true;
                state.settled = Some(settled);
            } else if state.settled.is_none() {
                state.settled = Some(settled.clone());
            }
            std::mem::take(&mut state.callbacks)
        };
        self.changed.notify_waiters();
        for (callback, permits) in callbacks {
            call(callback, settled);
            drop(permits);
        }
    }
}

/// A panic of the callback is the user's, and is told by the panic hook; the connection goes on.
fn call(callback: Callback, settled: &Settled) {
    let _ = catch_unwind(AssertUnwindSafe(|| callback(settled)));
}

impl Awaited {
    /// Begins to wait, before the message is sent: the outcome may be there before the confirm. Who
    /// sends a message again while it is under way waits for the same; what became of an earlier one is
    /// no answer.
    pub(crate) fn enter(self: &Arc<Self>, outgoing: Outgoing) -> Interest {
        let mut messages = self.messages.lock();
        let key = (Arc::clone(&outgoing.queue), Arc::clone(&outgoing.id));
        let under_way = messages.by_key.get(&key).filter(|it| it.state.lock().settled.is_none());
        let message = under_way.cloned().unwrap_or_else(|| {
            let state = State { is_closed: messages.is_closed, ..State::default() };
            let (state, changed) = (Mutex::new(state), Notify::new());
            Arc::new(Message { outgoing, state, changed })
        });
        message.state.lock().receipts += 1;
        messages.by_key.insert(key, Arc::clone(&message));
        Interest { message, awaited: Arc::downgrade(self) }
    }

    /// Takes the entry out if nobody waits any more.
    fn leave(&self, message: &Arc<Message>) {
        let mut messages = self.messages.lock();
        let key = message.key();
        // The id may be another message's by now.
        if !messages.by_key.get(&key).is_some_and(|there| Arc::ptr_eq(there, message)) {
            return;
        }
        let state = message.state.lock();
        let is_awaited = state.receipts > 0 || !state.callbacks.is_empty();
        drop(state);
        if !is_awaited {
            messages.by_key.remove(&key);
        }
    }

    /// How many messages somebody waits for.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.messages.lock().by_key.len()
    }
}

impl OutcomeSink for Awaited {
    fn settled(&self, settled: Settled) {
        let key = (settled.details.queue.as_str().into(), settled.details.id.as_str().into());
        let message = self.messages.lock().by_key.get(&key).cloned();
        // Nobody waits: it may have been told before, on an earlier connection.
        let Some(message) = message else { return };
        message.settle(&settled);
        self.leave(&message);
    }

    fn deadline_missed(&self, queue: &str, id: &str, published_at: SystemTime) {
        self.settled(Settled::deadline_missed(queue, id, published_at));
    }

    fn unsettled(&self) -> Vec<Outgoing> {
        let messages: Vec<_> = self.messages.lock().by_key.values().cloned().collect();
        let unsettled = messages.iter().filter(|it| it.state.lock().settled.is_none());
        unsettled.map(|message| message.outgoing.clone()).collect()
    }

    fn closed(&self) {
        let all: Vec<_> = {
            let mut messages = self.messages.lock();
            messages.is_closed = true;
            messages.by_key.drain().map(|(_, message)| message).collect()
        };
        for message in all {
            let callbacks = {
                let mut state = message.state.lock();
                state.is_closed = true;
                std::mem::take(&mut state.callbacks)
            };
            message.changed.notify_waiters();
            drop(callbacks);
        }
    }
}

impl Interest {
    /// What became of it, if that is known.
    pub(crate) fn settled(&self) -> Option<Settled> {
        self.message.state.lock().settled.clone()
    }

    /// Waits until it is known. `None`: the connection was closed before.
    pub(crate) async fn wait(&self) -> Option<Settled> {
        loop {
            let changed = self.message.changed.notified();
            let (settled, is_closed) = {
                let state = self.message.state.lock();
                (state.settled.clone(), state.is_closed)
            };
            if settled.is_some() || is_closed {
                return settled;
            }
            changed.await;
        }
    }

    /// Forgets what became of it, since it is put in again. Returns what is forgotten.
    pub(crate) fn begin_again(&self) -> Option<Settled> {
        self.message.state.lock().settled.take()
    }

    /// It was not put in again: what was known still is, if nothing else is by now.
    pub(crate) fn restore(&self, settled: Option<Settled>) {
        let mut state = self.message.state.lock();
        state.settled = state.settled.take().or(settled);
    }

    /// Calls back once it is known, which may be now. The permits are held until then.
    pub(crate) fn call_back(&self, callback: Callback, permits: Arc<Permits>) {
        let mut state = self.message.state.lock();
        if state.is_closed {
            return;
        }
        match state.settled.clone() {
            None => state.callbacks.push((callback, permits)),
            Some(settled) => {
                drop(state);
                call(callback, &settled);
            }
        }
    }

    /// It is known without an outcome from the engine.
    pub(crate) fn settle(&self, settled: &Settled) {
        self.message.settle(settled);
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

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;

    fn permits(semaphore: &Arc<Semaphore>) -> Arc<Permits> {
        let permit = || Arc::clone(semaphore).try_acquire_owned().expect("there is room");
        Arc::new(Permits { _message: permit(), _bytes: permit() })
    }

    fn message(queue: &str, id: &str) -> Outgoing {
        Outgoing {
            queue: queue.into(),
            id: id.into(),
            content_type: "text/plain",
            deadline: None,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn settled(queue: &str, id: &str) -> Settled {
        let mut settled = Settled::unroutable(id);
        settled.details.queue = queue.to_owned();
        settled
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
                panic!("as callbacks may");
            })
        };
        let first = awaited.enter(message("q", "a"));
        let second = awaited.enter(message("q", "a"));
        drop(awaited.enter(message("q", "b")));
        assert_eq!(awaited.len(), 1, "both wait for one message");
        first.call_back(call(), permits(&semaphore));
        drop((first, second));
        assert_eq!((awaited.len(), semaphore.available_permits()), (1, 2), "a callback waits");
        assert_eq!(awaited.unsettled().len(), 1);
        awaited.settled(settled("another", "a"));
        assert_eq!(calls.load(Ordering::Relaxed), 0, "the same id elsewhere is another message");
        awaited.settled(settled("q", "a"));
        awaited.settled(settled("q", "a"));
        assert_eq!((awaited.len(), semaphore.available_permits()), (0, 4));
        assert_eq!(calls.load(Ordering::Relaxed), 1);

        let known = awaited.enter(message("q", "a"));
        awaited.settled(settled("q", "a"));
        known.call_back(call(), permits(&semaphore));
        assert_eq!(calls.load(Ordering::Relaxed), 2, "what is known is told at once");
        let again = awaited.enter(message("q", "a"));
        assert!(again.settled().is_none(), "what became of the first is no answer to the second");
        awaited.settled(settled("q", "a"));
        assert!(again.settled().is_some());
        drop((known, again));
        assert_eq!((awaited.len(), semaphore.available_permits()), (0, 4));
    }

    #[test]
    fn the_end_frees_callbacks_and_wakes_who_waits() {
        let awaited = Arc::new(Awaited::default());
        let semaphore = Arc::new(Semaphore::new(2));
        let interest = awaited.enter(message("q", "a"));
        interest.call_back(Box::new(|_| panic!("it is never known")), permits(&semaphore));
        awaited.closed();
        assert_eq!(semaphore.available_permits(), 2);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        assert!(runtime.block_on(interest.wait()).is_none());
        let later = awaited.enter(message("q", "b"));
        assert!(runtime.block_on(later.wait()).is_none());
    }
}
