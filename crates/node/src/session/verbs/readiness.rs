//! When a session may take in more, and when what it did is durable.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use broker::BrokerError;

use crate::session::settles::SettleBatch;
use crate::session::state::Session;
use crate::session::traffic::Traffic;

impl Session {
    /// The position up to which the store must be durable before the current reply may go out.
    /// Returns it once.
    pub fn barrier(&mut self) -> Option<u64> {
        let barrier = std::mem::take(&mut self.barrier);
        (barrier > self.engine.store.durable()).then_some(barrier)
    }

    /// Has the outbox woken when `position` is durable. `Ok(true)`: it is durable already.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the store has failed, so that it never will be.
    pub fn is_durable(&self, position: u64) -> Result<bool, BrokerError> {
        let reached = self.engine.store.wait_for(position, &self.waiter);
        if reached && self.engine.store.durable() < position {
            return Err(store_failed());
        }
        Ok(reached)
    }

    /// Checks that the store still makes things durable.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when it has failed.
    pub(crate) fn check_store(&self) -> Result<(), BrokerError> {
        if self.engine.store.is_poisoned() { Err(store_failed()) } else { Ok(()) }
    }

    /// Whether everything that this session appended is durable; if not, the outbox is woken when
    /// it is.
    ///
    /// # Errors
    /// As [`Session::is_durable`].
    pub fn is_settled_in_store(&self) -> Result<bool, BrokerError> {
        let ((), end) = self.engine.store.append(None, |_| ());
        self.is_durable(end)
    }

    /// Whether publishing on this session is held: it publishes, and the node is short of disk or
    /// memory. This is what to tell its client; [`Session::poll_ready`] says whether to take in
    /// more.
    pub fn is_held(&self) -> bool {
        self.has_published && self.engine.holds_publishers()
    }

    /// From now on this session counts as one that publishes.
    pub(crate) fn will_publish(&mut self) {
        self.has_published = true;
    }

    /// Whether [`Session::poll_ready`] would be ready.
    pub fn is_ready(&self) -> bool {
        !self.must_pause() && self.engine.store.has_room()
    }

    /// It publishes, or has an incomplete message, while publishers are held.
    fn must_pause(&self) -> bool {
        (self.has_published || self.under_way_bytes > 0) && self.engine.holds_publishers()
    }

    /// Ready when this session may take in more: publishers are not held, or it neither publishes
    /// nor has an incomplete message; and not too much waits to be written. Otherwise the task is
    /// woken when it is worth asking again.
    ///
    /// Whoever feeds a session must ask this first, or its messages pile up in memory.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            self.outbox.is_unheard.store(false, Ordering::Relaxed);
            return Poll::Ready(());
        }
        self.outbox.is_unheard.store(true, Ordering::Relaxed);
        self.outbox.register(cx.waker());
        // A change before the waker was registered did not wake this task.
        if self.must_pause() {
            return Poll::Pending;
        }
        if self.engine.store.has_room() {
            return Poll::Ready(());
        }
        self.engine.store.append(Some(&self.waiter), |_| ());
        Poll::Pending
    }

    /// Whether it has published into a queue whose consumers are fast and behind: nothing more should
    /// be taken in from it for the moment. Nobody is woken when that is over: ask again, soon.
    ///
    /// Who consumes on the same connection waits for nobody: its acks come behind its publishes, and what
    /// is made to wait for consumers must not be the consumer.
    pub fn waits_for_consumers(&mut self) -> bool {
        let clock = &self.engine.clock;
        self.credit.is_used_up(|| clock.now_ms()) && !self.consumes()
    }

    fn consumes(&self) -> bool {
        self.channels.values().any(|channel| !channel.consumers.is_empty())
    }

    /// What the client has published and settled since this was last asked, as of the last flush.
    pub fn take_traffic(&mut self) -> Traffic {
        let traffic = self.traffic.take();
        // Between its publishes, the acks of who does both are few, and it waits for what they bring.
        let does_both = traffic.has_published && self.consumes();
        Traffic { goes_on: traffic.goes_on && !does_both, ..traffic }
    }

    /// Must be called when the outbox has been written: consumers that waited for room may go on.
    pub fn after_write(&mut self, written_bytes: usize) {
        self.outbox.written(written_bytes);
        if self.outbox.take_stalled() {
            self.give_room();
        }
        for number in self.outbox.uncount_overdue() {
            if let Some(channel) = self.channels.get(&number) {
                channel.shared_prefetch.release(1);
            }
            self.give_prefetch(Some(number));
        }
        if self.outbox.take_has_prefetch_left() {
            self.give_prefetch(None);
        }
    }

    /// Lets go of memory that is kept from batch to batch: to be called when none has come for a while.
    pub fn trim_memory(&mut self) {
        self.publishes.trim_memory();
        self.settles.shrink_to_fit();
        self.settle_batch = SettleBatch::default();
        self.taken.shrink_to_fit();
        for channel in self.outbox.lock().channels.values_mut() {
            channel.unsettled.trim_memory();
        }
    }

    /// Notes that the next reply must wait for what has been settled: no ack has an answer of its own, so
    /// a worker learns only from the end of its channel that nothing of it comes again.
    pub(super) fn wait_for_settlements(&mut self) {
        if std::mem::take(&mut self.has_settled) {
            let ((), end) = self.engine.store.append(Some(&self.waiter), |_| ());
            self.wait_until_durable(end);
        }
    }

    /// Notes that the next reply must wait for this position.
    pub(super) fn wait_until_durable(&mut self, position: u64) {
        self.barrier = self.barrier.max(position);
    }
}

fn store_failed() -> BrokerError {
    BrokerError::internal_error(
        "the store failed and confirms nothing more; the server must be restarted",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use segment_log::FaultyDisk;

    use crate::Options;
    use crate::node::Node;
    use crate::registry::LiveQueue;
    use crate::session::{Consume, DeclareQueue, Publish, Session};
    use crate::sink::Sink;

    #[derive(Default)]
    struct Ignored;

    impl Sink for Ignored {}

    fn node() -> Arc<Node> {
        let options = Options { loopback_users: Vec::new(), ..Options::default() };
        Node::open_on(FaultyDisk::new(1), options).expect("a good disk")
    }

    fn session(node: &Arc<Node>) -> Session {
        let sink = Box::<Ignored>::default();
        let mut session = node.open_session("/", "guest", sink).expect("guest may");
        session.open_channel(1).expect("new");
        let options = DeclareQueue { durable: true, ..DeclareQueue::default() };
        session.declare_queue("q", &options).expect("a good declaration");
        session
    }

    fn publish(session: &mut Session, exchange: &str, routing_key: &str) {
        let publish = Publish {
            exchange,
            routing_key: routing_key.into(),
            mandatory: false,
            properties: &[0, 0],
            body: b"x",
        };
        session.publish(1, &publish).expect("a good message");
        assert!(session.flush().is_empty());
    }

    #[test]
    fn who_only_reports_is_no_publisher() {
        let node = node();
        let mut session = session(&node);
        publish(&mut session, "amq.wilco.report", "id");
        assert!(!session.has_published, "it goes on while publishers are held");
        publish(&mut session, "", "q");
        assert!(session.has_published);
    }

    #[test]
    fn who_publishes_and_consumes_neither_waits_for_consumers_nor_goes_on_by_itself() {
        let node = node();
        let mut session = session(&node);
        let queue = LiveQueue::of_tests();
        let charge = |session: &mut Session| {
            session.credit.charge(&queue, u64::MAX, node.engine.now_ms(), 1_000_000);
        };
        charge(&mut session);
        assert!(session.waits_for_consumers());
        publish(&mut session, "", "q");
        assert!(session.take_traffic().goes_on);

        session.consume(1, "q", &Consume { tag: "t", ..Consume::default() }).expect("it may");
        charge(&mut session);
        assert!(!session.waits_for_consumers(), "its own acks would wait with it");
        publish(&mut session, "", "q");
        assert!(!session.take_traffic().goes_on);
        assert!(session.take_traffic().goes_on, "who only acks does");
        session.cancel(1, "t").expect("it is there");
        charge(&mut session);
        assert!(session.waits_for_consumers());
    }
}
