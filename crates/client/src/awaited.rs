//! Who waits for the outcome of which message.
//!
//! A message is known by its [`Key`]. One that goes to a topic has an outcome in each of its queues; what
//! became of it altogether, the worst of them, is known when all are there.
//!
//! *Invariants:* an entry stays as long as somebody has a receipt for it or a callback has not been
//! called, and no longer. A callback is called once at most, with no lock held; one that panics costs
//! nobody else anything.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use ::outcome::Outcome as Kind;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::outcome::Settled;
use crate::progress::{Progress, Progressed};
use crate::target::Key;
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

/// A message that has been sent, for as long as somebody waits for what becomes of it.
struct Message {
    outgoing: Outgoing,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Of each queue the first, in the order in which they came.
    outcomes: Vec<Arc<Settled>>,
    progress: Option<Progress>,
    /// How often there was progress.
    progress_count: u64,
    callbacks: Vec<(Callback, Arc<Permits>)>,
    receipts: usize,
    is_closed: bool,
}

impl State {
    /// The worst outcome, once all are there.
    fn settled(&self) -> Option<&Arc<Settled>> {
        // What became of it when it was in fewer queues may be told again.
        let expected = self.outcomes.iter().map(|settled| settled.details.queue_count).max()?;
        // Of equals, the first.
        let worst = self.outcomes.iter().rev().max_by_key(|settled| settled.kind);
        worst.filter(|_| self.outcomes.len() >= usize::from(expected))
    }

    fn take_in(&mut self, mut settled: Settled) {
        let queue = &settled.details.queue;
        let Some(before) = self.outcomes.iter_mut().find(|it| it.details.queue == *queue) else {
            return self.outcomes.push(Arc::new(settled));
        };
        // A late success takes the place of a missed deadline; else the first counts.
        if before.kind == Kind::DeadlineMissed && settled.kind == Kind::Processed {
            // By whose clock ever.
            settled.details.is_late = true;
            *before = Arc::new(settled);
        }
    }
}

/// Somebody who waits for a message; the entry is gone with the last.
pub(crate) struct Interest {
    message: Arc<Message>,
    awaited: Weak<Awaited>,
}

impl Message {
    /// Notes what became of it, and calls back when all is known.
    fn settle(&self, settled: Settled) {
        let known = {
            let mut state = self.state.lock();
            state.take_in(settled);
            let is_called_back = !state.callbacks.is_empty();
            let known = state.settled().filter(|_| is_called_back).cloned();
            known.map(|known| (known, std::mem::take(&mut state.callbacks)))
        };
        self.changed.notify_waiters();
        let Some((known, callbacks)) = known else { return };
        for (callback, permits) in callbacks {
            call(callback, &known);
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
        let Messages { by_key, is_closed } = &mut *messages;
        let entry = by_key.entry(outgoing.key.clone());
        let begin = |outgoing| {
            let state = State { is_closed: *is_closed, ..State::default() };
            let (state, changed) = (Mutex::new(state), Notify::new());
            Arc::new(Message { outgoing, state, changed })
        };
        let message = match entry {
            Entry::Occupied(there) if there.get().state.lock().settled().is_none() => {
                Arc::clone(there.get())
            }
            Entry::Occupied(mut there) => {
                there.insert(begin(outgoing));
                Arc::clone(there.get())
            }
            Entry::Vacant(free) => Arc::clone(free.insert(begin(outgoing))),
        };
        message.state.lock().receipts += 1;
        Interest { message, awaited: Arc::downgrade(self) }
    }

    /// Takes the entry out if nobody waits any more.
    fn leave(&self, message: &Arc<Message>) {
        let mut messages = self.messages.lock();
        let Entry::Occupied(there) = messages.by_key.entry(message.outgoing.key.clone()) else {
            return;
        };
        // The id may be another message's by now.
        if !Arc::ptr_eq(there.get(), message) {
            return;
        }
        let state = message.state.lock();
        let is_awaited = state.receipts > 0 || !state.callbacks.is_empty();
        drop(state);
        if !is_awaited {
            there.remove();
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
        let message = self.messages.lock().by_key.get(&settled.key).cloned();
        // Nobody waits: it may have been told before, on an earlier connection.
        let Some(message) = message else { return };
        message.settle(settled);
        self.leave(&message);
    }

    fn progressed(&self, Progressed { key, progress }: Progressed) {
        let Some(message) = self.messages.lock().by_key.get(&key).cloned() else { return };
        let mut state = message.state.lock();
        state.progress = Some(progress);
        state.progress_count += 1;
        drop(state);
        message.changed.notify_waiters();
    }

    fn unsettled(&self) -> Vec<Outgoing> {
        let messages: Vec<_> = self.messages.lock().by_key.values().cloned().collect();
        let unsettled = messages.iter().filter(|it| it.state.lock().settled().is_none());
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
    pub(crate) fn settled(&self) -> Option<Arc<Settled>> {
        self.message.state.lock().settled().cloned()
    }

    /// Waits until it is known. `None`: the connection was closed before.
    pub(crate) async fn wait(&self) -> Option<Arc<Settled>> {
        let known = |state: &State| state.settled().cloned();
        self.when(known).await
    }

    /// Waits for the outcome behind so many. `None`: there are no more.
    pub(crate) async fn nth(&self, seen: usize) -> Option<Arc<Settled>> {
        let next = |state: &State| match (state.outcomes.get(seen), state.settled()) {
            (Some(outcome), _) => Some(Some(outcome.clone())),
            (None, Some(_)) => Some(None),
            (None, None) => None,
        };
        self.when(next).await.flatten()
    }

    /// Waits for progress behind so many; with the new number. `None`: it is over.
    pub(crate) async fn progress_after(&self, seen: u64) -> Option<(u64, Progress)> {
        let next = |state: &State| {
            let progress = state.progress.clone().filter(|_| state.progress_count > seen);
            match (progress, state.settled()) {
                (Some(progress), _) => Some(Some((state.progress_count, progress))),
                (None, Some(_)) => Some(None),
                (None, None) => None,
            }
        };
        self.when(next).await.flatten()
    }

    /// Waits until there is something to be seen. `None`: the connection was closed before.
    async fn when<T>(&self, see: impl Fn(&State) -> Option<T>) -> Option<T> {
        loop {
            let changed = self.message.changed.notified();
            {
                let state = self.message.state.lock();
                let seen = see(&state);
                if seen.is_some() || state.is_closed {
                    return seen;
                }
            }
            changed.await;
        }
    }

    /// Whether nothing more will be known.
    pub(crate) fn is_closed(&self) -> bool {
        self.message.state.lock().is_closed
    }

    /// Forgets what became of it, since it is put in again. Returns what is forgotten.
    pub(crate) fn begin_again(&self) -> Vec<Arc<Settled>> {
        std::mem::take(&mut self.message.state.lock().outcomes)
    }

    /// It was not put in again: what was known still is, if nothing else is by now.
    pub(crate) fn restore(&self, outcomes: Vec<Arc<Settled>>) {
        let mut state = self.message.state.lock();
        if state.outcomes.is_empty() {
            state.outcomes = outcomes;
        }
    }

    /// Calls back once it is known, which may be now. The permits are held until then.
    pub(crate) fn call_back(&self, callback: Callback, permits: Arc<Permits>) {
        let mut state = self.message.state.lock();
        if state.is_closed {
            return;
        }
        match state.settled().cloned() {
            None => state.callbacks.push((callback, permits)),
            Some(settled) => {
                drop(state);
                call(callback, &settled);
            }
        }
    }

    /// It is known without an outcome from the engine.
    pub(crate) fn settle(&self, settled: Settled) {
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
    use std::time::SystemTime;

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::target::Target;

    fn permits(semaphore: &Arc<Semaphore>) -> Arc<Permits> {
        let permit = || Arc::clone(semaphore).try_acquire_owned().expect("there is room");
        Arc::new(Permits { _message: permit(), _bytes: permit() })
    }

    fn message(queue: &str, id: &str) -> Outgoing {
        let target = Target::Queue(queue.into());
        Outgoing {
            key: target.key(&id.into()),
            target,
            queue_count: None,
            id: id.into(),
            content_type: "text/plain".into(),
            deadline: None,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    fn settled(queue: &str, id: &str) -> Settled {
        Settled::deadline_missed(Key::of_outcome(queue, id, None), id, queue, SystemTime::now(), 1)
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
    fn of_several_queues_the_worst_counts_once_all_are_there() {
        let awaited = Arc::new(Awaited::default());
        let topic = Target::Topic("t".into());
        let key = topic.key(&"a".into());
        let outgoing = Outgoing { target: topic, key: key.clone(), ..message("", "a") };
        let interest = awaited.enter(outgoing);
        let tell = |queue: &str, kind: Kind| {
            let mut settled =
                Settled::deadline_missed(key.clone(), "a", queue, SystemTime::now(), 3);
            settled.kind = kind;
            awaited.settled(settled);
        };
        tell("t.one", Kind::DeadlineMissed);
        tell("t.two", Kind::Processed);
        tell("t.two", Kind::Failed);
        assert!(
            interest.settled().is_none(),
            "there are three queues, and the first outcome counts"
        );
        tell("t.one", Kind::Processed);
        let mut again = Settled::deadline_missed(key.clone(), "a", "t.two", SystemTime::now(), 1);
        again.kind = Kind::Processed;
        awaited.settled(again);
        assert!(interest.settled().is_none(), "it was in one queue then, and is in three now");
        tell("t.three", Kind::Failed);
        let worst = interest.settled().expect("all are there");
        assert_eq!((worst.kind, &*worst.details.queue), (Kind::Failed, "t.three"));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let all = [0, 1, 2, 3].map(|seen| runtime.block_on(interest.nth(seen)));
        let all = all.map(|it| it.map(|it| (it.details.queue.clone(), it.details.is_late)));
        let expected = [("t.one", true), ("t.two", false), ("t.three", false)];
        let expected = expected.map(|(queue, is_late)| Some((queue.to_owned(), is_late)));
        assert_eq!(all[..3], expected, "the late success took the place of the missed deadline");
        assert_eq!(all[3], None);
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
