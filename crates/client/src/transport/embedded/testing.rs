//! A broker in memory whose clock is moved by hand, and that can be disturbed: for tests of programs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::driving::State;
use super::setup::{open_in_memory, open_session, start_consumer};
use super::{Asking, Clock, EmbeddedTransport, MemoryDisk, OutcomeSink};
use crate::clock::ManualClock;
use crate::error::Error;

/// What a test does to the broker.
pub(crate) struct Controls {
    transport: Arc<EmbeddedTransport>,
    clock: Arc<ManualClock>,
    disk: MemoryDisk,
}

impl EmbeddedTransport {
    /// Opens one.
    pub(crate) fn for_tests(
        outcomes: Arc<dyn OutcomeSink>,
        clock: &Arc<ManualClock>,
    ) -> Result<(Arc<Self>, Controls), Error> {
        let disk = MemoryDisk::new();
        let manual = Clock::Manual(Arc::clone(clock));
        let node = open_in_memory(disk.clone(), &manual)?;
        let transport = Self::over(node, manual, false, outcomes)?;
        let clock = Arc::clone(clock);
        Ok((Arc::clone(&transport), Controls { transport, clock, disk }))
    }
}

impl Controls {
    pub(crate) fn advance(&self, by: Duration) {
        let node = Arc::clone(&self.transport.shared.state.lock().node);
        // What the broker does at a time it has done before a worker that woke then.
        self.clock.advance(by, || node.time_has_passed());
        self.transport.shared.wake.0.notify_one();
    }

    /// Whether each message has its outcome, and each outcome has been told.
    pub(crate) fn is_drained(&self) -> bool {
        // The session is not at work meanwhile.
        let state = self.transport.shared.state.lock();
        state.publishing.len() == 0
            && state.node.is_settled_down()
            && state.node.message_count() == 0
    }

    /// Messages that wait or are worked on, outcomes that have not been told among them.
    pub(crate) fn message_count(&self) -> u64 {
        let node = Arc::clone(&self.transport.shared.state.lock().node);
        node.message_count()
    }

    /// Messages that wait for the clock or for a consumer; all messages, with what is on its way between
    /// queues as at least one; how often there was something to tell.
    pub(crate) fn activity(&self) -> (u64, u64, u64) {
        let shared = &self.transport.shared;
        // The session is not at work meanwhile.
        let state = shared.state.lock();
        let (publishing, node) = (state.publishing.len() as u64, &state.node);
        let under_way = publishing + u64::from(!node.is_settled_down());
        let (unattended, count) = (node.unattended_message_count(), node.message_count());
        (unattended, count + under_way, shared.turns.load(Ordering::Relaxed))
    }

    /// What was under way is lost, and begun again; what workers had goes back to its queue.
    pub(crate) fn disconnect(&self) -> Result<(), Error> {
        self.begin_again(|_| Ok(()))
    }

    /// The same, with a broker that starts with what is on its disk.
    pub(crate) fn restart(&self) -> Result<(), Error> {
        self.begin_again(|state| {
            state.node.close();
            let clock = Clock::Manual(Arc::clone(&self.clock));
            state.node = open_in_memory(self.disk.clone(), &clock)?;
            *self.transport.asking.lock() = Arc::new(Asking::of(&state.node)?);
            Ok(())
        })
    }

    fn begin_again(
        &self,
        meanwhile: impl FnOnce(&mut State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut state = self.transport.shared.state.lock();
        let state = &mut *state;
        let mut session = state.session.take().ok_or_else(Error::closed)?;
        session.close();
        drop(session);
        meanwhile(state)?;
        let mut session = open_session(&state.node)?;
        state.epoch += 1;
        state.subscriptions.retain(|_, it| !it.is_cancelled);
        for it in state.subscriptions.values() {
            start_consumer(&mut session, it.channel, &it.queue, it.prefetch)?;
        }
        state.outbox = Arc::clone(session.outbox());
        state.session = Some(session);
        state.publishing.begin_again();
        self.transport.shared.wake.0.notify_one();
        Ok(())
    }
}
