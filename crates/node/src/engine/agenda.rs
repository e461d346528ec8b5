//! What work on queues leaves to be done: one list, worked off by the outermost caller.
//!
//! A message that leaves a queue may be dead-lettered into another, whose limit then drops a
//! message, whose outcome is sent to a third. None of that is nested: whoever does a piece of work
//! puts what follows from it on the agenda, and [`Engine::with_agenda`] goes on until nothing is
//! left.
//!
//! *Invariant:* it ends. Deaths caused by the delivery of dead letters are bounded by a budget,
//! which grows only with messages that died first-hand; outcomes are reported for messages, not for
//! outcome messages.

use std::collections::VecDeque;
use std::sync::Arc;

use broker::queue::Effects;

use super::Engine;
use crate::registry::LiveQueue;

/// The most messages that may die because one dead letter is delivered.
const DESCENDANTS_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Agenda {
    effects: VecDeque<Task>,
    has_notifications: bool,
    /// Dead letters of dead letters that may still be sent on.
    budget: usize,
    /// Whether it has been told that there were too many.
    has_warned: bool,
}

/// What work on a queue has left to be done.
struct Task {
    queue: Arc<LiveQueue>,
    effects: Effects,
    /// Whether it follows from the delivery of a dead letter.
    is_descendant: bool,
}

impl Agenda {
    /// Adds what followed from work on a queue. Its dead letters are sent on whatever that costs.
    pub(crate) fn add(&mut self, queue: &Arc<LiveQueue>, effects: Effects) {
        if !effects.is_empty() {
            self.allow_descendants(effects.removed.len());
            let queue = Arc::clone(queue);
            self.effects.push_back(Task { queue, effects, is_descendant: false });
        }
    }

    /// Notes that this many messages died first-hand.
    pub(crate) fn allow_descendants(&mut self, count: usize) {
        self.budget += DESCENDANTS_MAX * (1 + count);
    }

    /// Adds what followed from the delivery of a dead letter: queues that dead-letter into each
    /// other could make copies without end.
    pub(super) fn add_descendants(&mut self, queue: Arc<LiveQueue>, effects: Effects) {
        if !effects.is_empty() {
            self.effects.push_back(Task { queue, effects, is_descendant: true });
        }
    }

    /// Outcome messages may be due.
    pub(super) fn add_notifications(&mut self) {
        self.has_notifications = true;
    }

    fn next(&mut self) -> Option<(Arc<LiveQueue>, Effects)> {
        let Task { queue, mut effects, is_descendant } = self.effects.pop_front()?;
        if is_descendant {
            let count = effects.removed.len();
            if self.budget < count {
                // Once per agenda: what multiplies would fill the log.
                if !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(
                        queue = &*queue.name,
                        "dead letters multiply without end and are dropped"
                    );
                }
                effects.removed.iter_mut().for_each(|removed| removed.dead_letter = false);
            }
            self.budget = self.budget.saturating_sub(count);
        }
        Some((queue, effects))
    }
}

impl Engine {
    /// Begins an agenda and works it off.
    pub(crate) fn with_agenda<R>(&self, begin: impl FnOnce(&mut Agenda) -> R) -> R {
        let mut agenda = Agenda::default();
        let result = begin(&mut agenda);
        loop {
            if let Some((queue, effects)) = agenda.next() {
                self.apply(&queue, self.now_ms(), effects, &mut agenda);
            } else if std::mem::take(&mut agenda.has_notifications) {
                self.deliver_notifications(&mut agenda);
            } else {
                return result;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use broker::queue::Removed;
    use outcome::Reason;

    use super::*;

    fn died(count: usize) -> Effects {
        let removed = || Removed {
            message: None,
            position: None,
            reason: Reason::MaxLength,
            dead_letter: true,
            is_tracked: false,
            missed_deadline: false,
            attempts: 0,
            by: None,
        };
        Effects { removed: (0..count).map(|_| removed()).collect(), ..Effects::default() }
    }

    fn sent_on(agenda: &mut Agenda) -> usize {
        let (_, effects) = agenda.next().expect("something is left");
        effects.removed.iter().filter(|removed| removed.dead_letter).count()
    }

    #[test]
    fn what_died_first_hand_is_sent_on_whatever_it_costs_and_descendants_within_a_budget() {
        let (queue, mut agenda) = (LiveQueue::of_tests(), Agenda::default());
        agenda.add(&queue, died(2));
        assert_eq!(sent_on(&mut agenda), 2);
        for _ in 0..3 {
            agenda.add_descendants(Arc::clone(&queue), died(DESCENDANTS_MAX));
            assert_eq!(sent_on(&mut agenda), DESCENDANTS_MAX);
        }
        agenda.add_descendants(Arc::clone(&queue), died(1));
        assert_eq!(sent_on(&mut agenda), 0, "the budget is used up");
        agenda.add(&queue, died(10 * DESCENDANTS_MAX));
        assert_eq!(sent_on(&mut agenda), 10 * DESCENDANTS_MAX);
        assert!(agenda.next().is_none());
    }

    #[test]
    fn tasks_are_worked_off_in_order() {
        let (queue, mut agenda) = (LiveQueue::of_tests(), Agenda::default());
        for count in 1..4 {
            agenda.add(&queue, died(count));
        }
        agenda.add(&queue, Effects::default());
        let counts: Vec<usize> =
            std::iter::from_fn(|| agenda.next()).map(|(_, of)| of.removed.len()).collect();
        assert_eq!(counts, [1, 2, 3], "and nothing to do is no task");
    }
}
