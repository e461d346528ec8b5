//! The end of a history: everything is taken out, and nothing may be left or missing.

use crate::model::{Cause, State};
use crate::topology::{Name, QUEUES, REPLIES};
use crate::world::{World, image};

/// After this many rounds a log that holds nothing is short.
const ROUNDS: usize = 12;
/// The segments it may have then: the active one, and one that was just closed.
const SEGMENTS_MAX: usize = 2;

impl World {
    pub(crate) fn finish(&mut self) {
        self.model.step += 1;
        self.note(|| "the end".to_owned());
        self.disk.set_capacity_bytes(None);
        self.is_capacity_limited = false;
        if self.is_faulty || self.random.chance(30) {
            self.crash();
        }
        if self.random.chance(20) {
            self.rest();
        }
        while !self.clients.is_empty() {
            self.close_client_at(0);
        }
        self.drain();
        self.settle_store();
        self.check_nothing_is_missing();
        self.audit_at_the_end();
        assert_eq!(self.node().message_count(), 0, "messages are left");
        for _ in 0..ROUNDS {
            self.maintain();
            self.settle_store();
        }
        let segments = self.node().segment_count();
        assert!(segments <= SEGMENTS_MAX, "{segments} segments hold nothing: {:?}", self.files());
        self.crash();
        assert_eq!(self.node().message_count(), 0, "messages came back");
    }

    /// While nobody does anything, the log must not go on being written for ever.
    fn rest(&mut self) {
        self.note(|| "rest".to_owned());
        for _ in 0..ROUNDS {
            self.maintain();
            self.settle_store();
        }
        let before = self.files();
        for _ in 0..4 {
            self.maintain();
            self.settle_store();
        }
        assert_eq!(before, self.files(), "nobody does anything and the log is rewritten");
    }

    fn files(&self) -> Vec<(String, usize)> {
        image(&self.disk).into_iter().map(|(name, contents)| (name, contents.len())).collect()
    }

    /// Commits until everything is durable.
    fn settle_store(&mut self) {
        for _ in 0..4 {
            self.commit();
            if self.is_settled() {
                return;
            }
        }
        panic!("the store does not settle");
    }

    /// Takes every message out of every queue, however often dead letters come back.
    fn drain(&mut self) {
        let index = self.connect();
        self.clients[index].session.open_channel(1).expect("a new channel");
        self.clients[index].channels.insert(1, Default::default());
        // Looking into a queue may kill what is in it, so it must be found empty twice.
        let mut quiet_count = 0;
        for _ in 0..50 {
            let mut is_quiet = true;
            for name in QUEUES.into_iter().chain([REPLIES]) {
                if self.model.topology.queues.contains_key(name) {
                    is_quiet &= !self.drain_queue(index, name);
                }
            }
            quiet_count = if is_quiet { quiet_count + 1 } else { 0 };
            if quiet_count == 2 {
                break;
            }
            if is_quiet {
                // For messages that wait for their next attempt, and for outcomes that are on their
                // way.
                self.model.now_ms += 50;
                self.clock.set(self.model.now_ms);
                for _ in 0..2 {
                    self.maintain();
                    self.settle_store();
                }
            }
        }
        assert_eq!(quiet_count, 2, "the queues do not run dry");
        self.close_client_at(index);
    }

    fn drain_queue(&mut self, index: usize, queue: Name) -> bool {
        let mut found_any = false;
        while self.get_from(index, 1, queue) {
            found_any = true;
        }
        let client = &mut self.clients[index];
        let channel = client.channels.get_mut(&1).expect("open");
        if !channel.held.is_empty() {
            let held = std::mem::take(&mut channel.held);
            client.session.settle(1, 0, true, node::Settlement::Ack).expect("open");
            let errors = client.session.flush();
            assert!(errors.is_empty(), "{errors:?}");
            held.values().for_each(|held| self.model.remove(&held.key, Cause::Taken));
            self.absorb();
        }
        found_any
    }

    /// Messages that were not taken may have died; then their copies were seen in the sink.
    fn check_nothing_is_missing(&self) {
        for (key, item) in &self.model.items {
            let is_first = key.2.is_empty();
            match item.state {
                State::Held => panic!("{key:?} is held by nobody"),
                State::Ready => {
                    let may_be_gone = item.is_doubtful() || self.model.may_have_died(key, item);
                    assert!(may_be_gone, "{key:?} is missing: {item:?}");
                    let followed = item.is_doubtful() || self.model.may_be_nowhere(key, item);
                    assert!(!is_first || followed, "{key:?} died and is nowhere: {item:?}");
                }
                State::Gone { cause: Cause::Rejected | Cause::Died, .. } if is_first => {
                    let followed = self.model.may_be_nowhere(key, item);
                    assert!(followed, "{key:?} died and is nowhere: {item:?}");
                }
                State::Gone { .. } => {}
            }
        }
    }
}
