//! The ledger of one worker process: it keeps an id from being worked on twice, for as long as the process
//! lives and the id is among the latest. It answers nobody, since it knows only what this process did.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use ::outcome::OutcomeMessage;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Claim, Key, Ledger};
use crate::error::{Error, ErrorKind};

/// Outcomes that are kept.
const ENTRIES_MAX: usize = 100_000;
/// Bytes of results and error texts that are kept.
const BYTES_MAX: usize = 64 << 20;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct MemoryLedger {
    messages: Mutex<Messages>,
}

#[derive(Default)]
struct Messages {
    by_key: HashMap<(String, Vec<u8>), State>,
    /// Those that are settled, the oldest first.
    settled: VecDeque<(String, Vec<u8>)>,
    bytes: usize,
}

enum State {
    Claimed,
    Settled(Box<OutcomeMessage<'static>>),
}

fn owned(key: Key<'_>) -> (String, Vec<u8>) {
    (key.queue.to_owned(), key.id.to_vec())
}

fn bytes_of(outcome: &OutcomeMessage<'_>) -> usize {
    let details = &outcome.details;
    let error = details.error.as_deref().map_or(0, |error| error.len());
    error + details.result.as_deref().map_or(0, <[u8]>::len)
}

impl Messages {
    fn forget_the_oldest(&mut self) {
        while (self.settled.len() > ENTRIES_MAX || self.bytes > BYTES_MAX)
            && let Some(key) = self.settled.pop_front()
        {
            if let Some(State::Settled(outcome)) = self.by_key.remove(&key) {
                self.bytes -= bytes_of(&outcome);
            }
        }
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    fn is_shared(&self) -> bool {
        false
    }

    async fn sent(&self, _: Key<'_>, _: u64) -> Result<(), Error> {
        Ok(())
    }

    async fn claim(&self, key: Key<'_>, _: u32, _: &str) -> Result<Claim, Error> {
        let mut messages = self.messages.lock();
        Ok(match messages.by_key.entry(owned(key)) {
            Entry::Vacant(vacant) => {
                vacant.insert(State::Claimed);
                Claim::Ours
            }
            Entry::Occupied(there) => match there.get() {
                State::Settled(outcome) => Claim::Settled(outcome.clone()),
                State::Claimed => Claim::Theirs,
            },
        })
    }

    fn give_back(&self, key: Key<'_>) {
        let mut messages = self.messages.lock();
        let key = owned(key);
        if let Some(State::Claimed) = messages.by_key.get(&key) {
            messages.by_key.remove(&key);
        }
    }

    async fn settle(&self, outcome: &OutcomeMessage<'static>) -> Result<(), Error> {
        let key = (outcome.queue.clone().into_owned(), outcome.details.message_id.to_vec());
        let mut messages = self.messages.lock();
        if let Some(State::Settled(_)) = messages.by_key.get(&key) {
            return Ok(());
        }
        messages.bytes += bytes_of(outcome);
        messages.by_key.insert(key.clone(), State::Settled(Box::new(outcome.clone())));
        messages.settled.push_back(key);
        messages.forget_the_oldest();
        Ok(())
    }

    async fn subscribe(&self, _: &str, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn unsubscribe(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn subscribers(&self, _: &str) -> Result<Vec<String>, Error> {
        let text = "this broker does not say which queues a topic has, so nobody would know how many \
                    outcomes there will be: name a ledger in the URL of producers and workers, such as \
                    ?ledger=postgres://user@host/database or ?ledger=sqlite:outcomes.db";
        Err(Error::new(ErrorKind::NoLedger, text))
    }

    async fn story(&self, _: &str) -> Result<Option<Value>, Error> {
        let text = "this broker keeps no ledger, so nobody knows what became of a message but who sent \
                    it: name a ledger in the URL of producers and workers, such as \
                    ?ledger=postgres://user@host/database or ?ledger=sqlite:outcomes.db";
        Err(Error::new(ErrorKind::NoLedger, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::{block, outcome};

    #[test]
    fn old_outcomes_are_forgotten_by_their_number_and_by_their_size() {
        block(async {
            let ledger = MemoryLedger::default();
            for number in 0..=ENTRIES_MAX {
                ledger.settle(&outcome("q", &number.to_string(), b"")).await.expect("noted");
            }
            let known = async |id: &str| {
                let claim = ledger
                    .claim(Key { queue: "q", id: id.as_bytes() }, 1, "w")
                    .await
                    .expect("asked");
                matches!(claim, Claim::Settled(_))
            };
            assert!(!known("0").await && known("1").await);
            let half = vec![0; BYTES_MAX / 2];
            for id in ["a", "b", "c"] {
                ledger.settle(&outcome("q", id, &half)).await.expect("noted");
            }
            assert!(!known("a").await && !known("2").await && known("b").await && known("c").await);
        });
    }
}
