//! The index of one level against a map from number to stage, in long runs that leave a few
//! messages behind everywhere.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::index::{Entry, Index, Stage};
use crate::Position;

/// What to do with this many messages; a pattern of bits says with which ones.
#[derive(Debug, Clone)]
enum Step {
    Push(u16),
    Deliver(u16),
    /// Of the unsettled, from the front.
    Remove(u16, u64),
    GiveBack(u16, u64),
    /// Of the unsettled, which then wait.
    Delay(u16, u64),
    /// Of those that wait, which become ready again.
    EndDelay(u16, u64),
    /// Of those that wait, which are cancelled.
    RemoveDelayed(u16, u64),
    /// Of the ready, from the head, as when they expire or are dropped.
    RemoveReady(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let count = || prop_oneof![2 => 1u16..10, 2 => 1u16..2000];
    // Few bits, many bits, all of them.
    let bits = || {
        let few = (0u32..64).prop_map(|bit| 1u64 << bit);
        prop_oneof![few.clone(), few.prop_map(|bits| !bits), Just(u64::MAX), any::<u64>()]
    };
    prop_oneof![
        3 => count().prop_map(Step::Push),
        3 => count().prop_map(Step::Deliver),
        4 => (count(), bits()).prop_map(|(count, bits)| Step::Remove(count, bits)),
        1 => (1u16..100, bits()).prop_map(|(count, bits)| Step::GiveBack(count, bits)),
        1 => (1u16..100, bits()).prop_map(|(count, bits)| Step::Delay(count, bits)),
        1 => (1u16..100, bits()).prop_map(|(count, bits)| Step::EndDelay(count, bits)),
        1 => (1u16..100, bits()).prop_map(|(count, bits)| Step::RemoveDelayed(count, bits)),
        1 => count().prop_map(Step::RemoveReady),
    ]
}

#[derive(Default)]
struct Pair {
    index: Index,
    /// Ready, unsettled or delayed, and deliveries so far.
    model: BTreeMap<u64, (Stage, u16)>,
}

impl Pair {
    fn push(&mut self) {
        let stage = Stage::Ready;
        let number =
            self.index.push(Entry { stage, position: Some(Position::new(7)), ..Entry::default() });
        assert!(self.model.last_key_value().is_none_or(|(last, _)| *last < number));
        self.model.insert(number, (stage, 0));
    }

    fn first(&self, stage: Stage, count: u16, bits: u64) -> Vec<u64> {
        let numbers = self.model.iter().filter(|(_, (of, _))| *of == stage).map(|(n, _)| *n);
        let picked = numbers.take(count.into()).enumerate();
        picked.filter(|(at, _)| bits >> (at % 64) & 1 == 1).map(|(_, number)| number).collect()
    }

    fn remove(&mut self, number: u64) {
        let (stage, attempt) = self.model.remove(&number).expect("the model has it");
        let entry = self.index.remove(number).expect("the model has it");
        assert_eq!(
            (entry.stage, entry.attempt, entry.position.map(Position::get)),
            (stage, attempt, Some(7))
        );
        assert!(self.index.remove(number).is_none());
    }

    fn deliver(&mut self) -> Option<u64> {
        let number = self.index.first_ready()?;
        let attempt = self.index.deliver(number).expect("it is ready").attempt;
        let (stage, count) = self.model.get_mut(&number).expect("the model has it");
        assert_eq!(std::mem::replace(stage, Stage::Unsettled), Stage::Ready);
        *count += 1;
        assert_eq!(attempt, *count);
        Some(number)
    }

    fn give_back(&mut self, numbers: &[u64]) {
        for &number in numbers {
            let entry = self.index.give_back(number).expect("it is unsettled or waits");
            assert_eq!(entry.stage, Stage::Ready);
            self.model.get_mut(&number).expect("the model has it").0 = Stage::Ready;
            assert!(self.index.give_back(number).is_none());
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Push(count) => (0..count).for_each(|_| self.push()),
            Step::Deliver(count) => {
                for expected in self.first(Stage::Ready, count, u64::MAX) {
                    assert_eq!(self.deliver(), Some(expected));
                }
            }
            Step::Remove(count, bits) => {
                for number in self.first(Stage::Unsettled, count, bits) {
                    self.remove(number);
                }
            }
            Step::GiveBack(count, bits) => {
                self.give_back(&self.first(Stage::Unsettled, count, bits));
            }
            Step::EndDelay(count, bits) => {
                self.give_back(&self.first(Stage::Delayed, count, bits));
            }
            Step::Delay(count, bits) => {
                for number in self.first(Stage::Unsettled, count, bits) {
                    let entry = self.index.delay(number).expect("it is unsettled");
                    assert_eq!(entry.stage, Stage::Delayed);
                    self.model.get_mut(&number).expect("the model has it").0 = Stage::Delayed;
                    assert!(self.index.delay(number).is_none());
                }
            }
            Step::RemoveDelayed(count, bits) => {
                for number in self.first(Stage::Delayed, count, bits) {
                    self.remove(number);
                }
            }
            Step::RemoveReady(count) => {
                for expected in self.first(Stage::Ready, count, u64::MAX) {
                    assert_eq!(self.index.first_ready(), Some(expected));
                    self.remove(expected);
                }
            }
        }
    }

    fn check(&mut self) {
        let ready = self.first(Stage::Ready, 1, 1).first().copied();
        assert_eq!(self.index.first_ready(), ready);
        let half = self.model.keys().nth(self.model.len() / 2).copied().unwrap_or_default();
        for from in [0, half] {
            let entries =
                self.index.iter_from(from).map(|(n, entry)| (n, (entry.stage, entry.attempt)));
            assert!(entries.eq(self.model.range(from..).map(|(n, of)| (*n, *of))));
        }
        for (&number, (stage, _)) in self.model.iter().step_by(17) {
            assert_eq!(self.index.at(number).map(|entry| entry.stage), Some(*stage));
            assert_eq!(self.index.at_mut(number).map(|entry| entry.stage), Some(*stage));
        }
    }

    /// After a few messages have flowed past, memory is proportional to the messages left behind.
    fn check_memory(&mut self) {
        self.run(&Step::Deliver(u16::MAX));
        for _ in 0..130 {
            self.push();
            let number = self.deliver().expect("just pushed");
            self.remove(number);
        }
        let live_count = self.model.len();
        assert!(self.index.chunk_count() <= 10 + live_count / 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn an_index_is_a_map_that_costs_by_what_is_in_it(
        steps in prop::collection::vec(step(), 1..50)
    ) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.run(step);
            pair.check();
        }
        pair.check_memory();
        pair.check();
        while let Some((&number, _)) = pair.model.first_key_value() {
            pair.remove(number);
        }
        pair.check();
    }
}
