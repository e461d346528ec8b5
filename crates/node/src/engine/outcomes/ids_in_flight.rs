//! Ids of messages that were taken in and that the ledger's window does not know yet.
//!
//! Two producers may publish the same ids at the same time, in any order. So a batch does three
//! things under one lock ([`take_in`]): it checks which of its ids are in flight, appends the
//! messages with the others to the log, and marks those ids as in flight. Whoever finds an id in
//! flight may rely on its message being in the log before anything it appends itself.
//!
//! An id that is not in flight may be in the window. The window is asked outside the lock, for it
//! may read the disk, and the answer counts only if the id has not left in the meantime: the ledger
//! writer first puts an id into the window and then takes it from here ([`IdsInFlight::leave`]).
//! For ids that have left since, the window is asked again.
//!
//! *Invariants:* nobody waits here for anybody else for longer than an append; an id that was ever
//! taken in is always known either to the window or here.
//!
//! The protocol is written against [`Locked`], so that shuttle can try its interleavings.

use std::collections::VecDeque;

use crate::locks::Mutex;
use hashbrown::{HashMap, HashSet};

/// The most ids that are free again and remembered until the window knows them.
const FREE_MAX: usize = 100_000;

/// The most ids that have left and are remembered, for batches that are asking the window.
const LEFT_MAX: usize = 4096;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct IdsInFlight {
    in_flight: HashMap<u128, InFlight>,
    /// Ids whose last message was taken in, and then left without anybody having worked on it: they
    /// may come again.
    free: HashSet<u128>,
    /// The most recent of those that have left.
    left: VecDeque<u128>,
    /// How many have left, ever.
    left_count: u64,
}

struct InFlight {
    /// When the last message with it was taken in.
    seen_ms: u64,
    /// Messages that the ledger writer has not reached yet: an id that may come again can have
    /// several.
    count: u32,
}

/// What a queue wants to know about an id before it takes a message with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    /// Id and queue.
    pub key: u128,
    /// For how long the queue remembers an id, ms; 0 is not at all.
    pub window_ms: u64,
}

/// A lock around the ids.
pub(crate) trait Locked {
    /// Works on them, alone.
    fn with<R>(&self, work: impl FnOnce(&mut IdsInFlight) -> R) -> R;
}

impl Locked for Mutex<IdsInFlight> {
    fn with<R>(&self, work: impl FnOnce(&mut IdsInFlight) -> R) -> R {
        work(&mut self.lock())
    }
}

/// Finds out which of these ids are known already, and takes in the others. `append` is called
/// once, under the lock: it gets for each id whether it is known, and must append the messages of
/// those that are not. `ask_window` gets the index of a question and answers when its id was last
/// taken in, as far as the window knows.
pub(crate) fn take_in<R>(
    ids: &impl Locked,
    now_ms: u64,
    questions: &[Question],
    ask_window: impl Fn(usize) -> Option<u64>,
    append: impl FnOnce(&[bool]) -> R,
) -> R {
    let mut append = Some(append);
    let mut answers: Vec<Option<Answer>> = vec![None; questions.len()];
    let mut asks = ids.with(|ids| ids.to_ask(questions, &answers, ids.left_count));
    loop {
        for &index in &asks.open {
            answers[index] = Some(ask_window(index));
        }
        let done = ids.with(|ids| {
            let again = ids.to_ask(questions, &answers, asks.left_count);
            if !again.open.is_empty() {
                return Err(again);
            }
            let known: Vec<bool> = questions
                .iter()
                .zip(&answers)
                .map(|(question, answer)| ids.admit(question, answer.flatten(), now_ms))
                .collect();
            Ok(append.take().map(|append| append(&known)))
        });
        match done {
            Ok(Some(result)) => return result,
            // Each time at least one message of another batch has gone through.
            Err(again) => asks = again,
            Ok(None) => unreachable!("this returned when it was taken"),
        }
    }
}

/// When the window says an id was last taken in.
type Answer = Option<u64>;

/// Questions that the window must answer, by index, as of a moment.
struct Asks {
    open: Vec<usize>,
    left_count: u64,
}

impl IdsInFlight {
    /// Which questions only the window can answer and has not answered, or not since the id left.
    /// The answers so far were asked for when `left_count` ids had left.
    fn to_ask(&self, questions: &[Question], answers: &[Option<Answer>], left_count: u64) -> Asks {
        let left = self.left_since(left_count);
        let is_open = |(question, answer): (&Question, &Option<Answer>)| {
            question.window_ms > 0
                && !self.in_flight.contains_key(&question.key)
                && (answer.is_none()
                    || left.as_ref().is_none_or(|left| left.contains(&question.key)))
        };
        let places = questions.iter().zip(answers).map(is_open).enumerate();
        let open = places.filter_map(|(index, is_open)| is_open.then_some(index)).collect();
        Asks { open, left_count: self.left_count }
    }

    /// The ids that have left since that many had left; `None` when not all of them are remembered.
    fn left_since(&self, left_count: u64) -> Option<HashSet<u128>> {
        let count = usize::try_from(self.left_count - left_count).unwrap_or(usize::MAX);
        let all = self.left.len() >= count;
        all.then(|| self.left.iter().rev().take(count).copied().collect())
    }

    /// Whether an id is known; if not, it is in flight from now on.
    fn admit(&mut self, question: &Question, window: Answer, now_ms: u64) -> bool {
        let Question { key, window_ms } = *question;
        if window_ms == 0 {
            return false;
        }
        let in_flight = self.in_flight.get(&key).map(|in_flight| in_flight.seen_ms);
        let is_within = |seen_ms: u64| now_ms.saturating_sub(seen_ms) < window_ms;
        let is_known = in_flight.or(window).is_some_and(is_within);
        if is_known && !self.free.contains(&key) {
            return true;
        }
        self.enter(key, now_ms);
        false
    }

    /// The window knows one more message with this id.
    pub(crate) fn leave(&mut self, key: u128) {
        let Some(in_flight) = self.in_flight.get_mut(&key) else { return };
        in_flight.count -= 1;
        if in_flight.count > 0 {
            return;
        }
        self.in_flight.remove(&key);
        self.left_count += 1;
        if self.left.len() == LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back(key);
    }

    /// Nobody has worked on the last message with this id: it may come again.
    pub(crate) fn free(&mut self, key: u128) {
        if self.free.len() >= FREE_MAX {
            // The window knows the older ones by now.
            self.free.clear();
        }
        self.free.insert(key);
    }

    /// Takes in an id whose message is put into its queue by hand, known or not. `false`: another
    /// message with it has just been taken in.
    pub(crate) fn take_in_again(&mut self, key: u128, now_ms: u64) -> bool {
        let is_there = self.in_flight.contains_key(&key) && !self.free.contains(&key);
        if !is_there {
            self.enter(key, now_ms);
        }
        !is_there
    }

    /// Whether the id of the last message with it is free, as far as that is remembered here.
    pub(crate) fn is_free(&self, key: u128) -> bool {
        self.free.contains(&key)
    }

    /// The id is in flight from now on.
    fn enter(&mut self, key: u128, now_ms: u64) {
        self.free.remove(&key);
        let entry = self.in_flight.entry(key).or_insert(InFlight { seen_ms: 0, count: 0 });
        entry.seen_ms = now_ms;
        entry.count += 1;
    }
}

#[cfg(test)]
mod tests;
