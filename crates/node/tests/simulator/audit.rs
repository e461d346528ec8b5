//! What the ledger says, compared with what is in the queues, what producers were told, and what
//! the clients did.

use std::collections::{BTreeMap, BTreeSet};

use node::Node;
use outcome::{Event, IdHash, Outcome, Reason, Settled, Stage, Timeline, What};

use crate::crash::Inventory;
use crate::message::Published;
use crate::model::{Cause, Item, Key, State};
use crate::told::Told;
use crate::topology::{Name, QUEUES, REPLIES};
use crate::window::Known;
use crate::world::World;

/// An outcome: queue, outcome, late.
pub(crate) type Fact = (String, Outcome, bool);

/// The events of every id given by a producer.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    events: BTreeMap<String, Vec<Event<'static>>>,
}

impl Facts {
    pub(crate) fn read<'a>(node: &Node, ids: impl Iterator<Item = &'a String>) -> Self {
        let read = |id: &String| {
            let events = node.ledger().events(IdHash::new("/", id)).expect("a disk that works");
            (id.clone(), events)
        };
        Self { events: ids.map(read).filter(|(_, events)| !events.is_empty()).collect() }
    }

    fn of(&self, id: &str) -> &[Event<'static>] {
        self.events.get(id).map_or(&[], Vec::as_slice)
    }

    /// Outcomes of the published messages, in order, without those of dead-letter copies.
    fn outcomes(&self, id: &str) -> impl Iterator<Item = &Settled<'static>> {
        self.of(id).iter().filter_map(|event| match &event.what {
            What::Settled(settled) if !settled.verdict.is_copy() => Some(&**settled),
            _ => None,
        })
    }

    /// Whether a message has an outcome in a queue.
    pub(crate) fn has_outcome(&self, id: &str, queue: &str) -> bool {
        self.outcomes(id).any(|settled| settled.queue == queue)
    }

    /// How often it was published to a queue.
    fn published_count(&self, id: &str, queue: &str) -> usize {
        let to_queue = |event: &&Event<'_>| match &event.what {
            What::Published(published) if !published.is_copy => {
                published.queues.iter().any(|of| of.name == queue)
            }
            _ => false,
        };
        self.of(id).iter().filter(to_queue).count()
    }

    /// All queues that the events name.
    fn queues(&self, id: &str) -> BTreeSet<String> {
        let mut queues = BTreeSet::new();
        for event in self.of(id) {
            match &event.what {
                What::Published(published) if !published.is_copy => {
                    queues.extend(published.queues.iter().map(|of| of.name.to_string()));
                }
                What::Settled(settled) if !settled.verdict.is_copy() => {
                    queues.insert(settled.queue.to_string());
                }
                _ => {}
            }
        }
        queues
    }

    fn describe(&self, id: &str) -> String {
        let line = |event: &Event<'_>| format!("\n    {} {:?}", event.at, event.what);
        self.of(id).iter().map(line).collect()
    }
}

fn fact(settled: &Settled<'_>) -> Fact {
    (settled.queue.to_string(), settled.verdict.outcome, settled.verdict.is_late())
}

impl World {
    /// Compares what was found at the start with what the ledger says about messages that are gone.
    pub(crate) fn audit_after_crash(&mut self, before: &BTreeMap<Key, Item>, found: &Inventory) {
        let present: BTreeSet<(u32, Name)> = found
            .queues
            .iter()
            .flat_map(|(queue, all)| all.iter().map(move |seen| (seen, *queue)))
            .filter(|(seen, _)| seen.history().is_empty())
            .map(|(seen, queue)| (seen.number, queue))
            .collect();
        self.note_torn(&found.ledger, before, &present);
        self.check_counts(&found.ledger, &present);
        for told in found.replies.iter().chain(&found.later_replies) {
            self.check_is_so(&found.ledger, told);
        }
        let is_taken = |key: &Key, item: &Item| {
            matches!(item.state, State::Gone { .. })
                && !found
                    .replies
                    .iter()
                    .any(|told| (told.number, told.event()) == (key.0, key.2.clone()))
        };
        let taken = before.iter().filter(|(key, item)| key.1 == REPLIES && is_taken(key, item));
        let mut notices: BTreeMap<(u32, String), usize> = BTreeMap::new();
        taken.for_each(|(key, _)| *notices.entry((key.0, key.2.clone())).or_default() += 1);
        for told in found.replies.iter().chain(&found.later_replies) {
            *notices.entry((told.number, told.event())).or_default() += 1;
        }
        self.check_notices(&found.ledger, &notices);
        self.check_promises(&found.ledger, before, Some(&present));
        for (id, events) in &found.ledger.events {
            let _ = events;
            self.check_nothing_is_taken_back(&found.ledger, id);
        }
        let known: Vec<String> = self.model.outcomes.keys().cloned().collect();
        for id in known {
            self.check_nothing_is_taken_back(&found.ledger, &id);
        }
    }

    /// What was written last and not synced may have a hole. Then there may be an outcome without
    /// its message: of a message that was never confirmed.
    fn note_torn(
        &mut self,
        facts: &Facts,
        before: &BTreeMap<Key, Item>,
        present: &BTreeSet<(u32, Name)>,
    ) {
        for (id, numbers) in &self.model.ids {
            for queue in facts.queues(id) {
                let published = facts.published_count(id, &queue);
                let of_queue = facts.outcomes(id).filter(|settled| settled.queue == queue);
                let settled = of_queue.filter(|settled| !settled.verdict.is_late()).count();
                let is_new = |(key, item): &(&Key, &Item)| {
                    key.1 == queue
                        && key.2.is_empty()
                        && numbers.contains(&key.0)
                        && !item.is_stored
                };
                let new = before.iter().filter(is_new).count();
                let is_there =
                    |(number, name): &&(u32, Name)| *name == queue && numbers.contains(number);
                let there = present.iter().filter(is_there).count();
                let torn = self.model.torn.entry((id.clone(), queue)).or_default();
                *torn = (*torn).max((settled + there).saturating_sub(published).min(new));
            }
        }
        self.model.torn.retain(|_, count| *count > 0);
        // Likewise, a message whose missed deadline was reported may be settled without that
        // outcome being there.
        for (key, item) in before {
            let message = &self.model.messages[key.0 as usize];
            let is_new = !matches!(item.state, State::Gone { is_stored: true, .. });
            if let Some(id) = message.id.as_ref().filter(|_| is_new && message.deadline_at_ms > 0) {
                self.model.torn_deadlines.insert((id.clone(), key.1.to_owned()));
            }
        }
    }

    /// At the end all queues are empty, everything is stored, and the ledger has followed all of
    /// it.
    pub(crate) fn audit_at_the_end(&mut self) {
        self.maintain();
        let facts = Facts::read(&self.node(), self.model.ids.keys());
        self.check_counts(&facts, &BTreeSet::new());
        let taken = self.model.items.iter().filter(|(key, _)| key.1 == REPLIES);
        let mut notices: BTreeMap<(u32, String), usize> = BTreeMap::new();
        taken.for_each(|(key, _)| *notices.entry((key.0, key.2.clone())).or_default() += 1);
        self.check_notices(&facts, &notices);
        let items = std::mem::take(&mut self.model.items);
        self.check_promises(&facts, &items, None);
        for (key, item) in &items {
            let message = &self.model.messages[key.0 as usize];
            let is_certain = !item.is_doubtful()
                && matches!(item.state, State::Gone { cause, .. } if cause != Cause::Lost);
            if let Some(id) = message.id.as_ref().filter(|_| key.2.is_empty() && is_certain) {
                let is_known = facts.outcomes(id).any(|settled| settled.queue == key.1);
                assert!(is_known, "{key:?} has no outcome: {item:?}{}", facts.describe(id));
            }
        }
        self.model.items = items;
        for number in &self.model.unroutable {
            if let Some(id) = &self.model.messages[*number as usize].id {
                let is_said = facts.outcomes(id).any(|s| s.verdict.outcome == Outcome::Unroutable);
                assert!(is_said, "nobody says that m{number} reached no queue");
            }
        }
        let ids: Vec<String> = self.model.ids.keys().cloned().collect();
        ids.iter().for_each(|id| self.check_nothing_is_taken_back(&facts, id));
    }

    /// One outcome for each message that has left its queue, and none, except for missed deadlines,
    /// for those that have not.
    fn check_counts(&self, facts: &Facts, present: &BTreeSet<(u32, Name)>) {
        for (id, numbers) in &self.model.ids {
            for queue in facts.queues(id) {
                let of_queue = || facts.outcomes(id).filter(|settled| settled.queue == queue);
                let count =
                    |which: fn(&Settled<'_>) -> bool| of_queue().filter(|s| which(s)).count();
                let missed = count(|settled| settled.verdict.outcome == Outcome::DeadlineMissed);
                let late = count(|settled| settled.verdict.is_late());
                let others = of_queue().count() - missed - late;
                let why = || format!("{id} in {queue:?}, there {present:?}{}", facts.describe(id));
                let is_torn = self.model.torn_deadlines.contains(&(id.clone(), queue.clone()));
                assert!(late <= missed || is_torn, "late without a deadline: {}", why());
                if queue.is_empty() {
                    assert!(others <= numbers.len(), "unroutable too often: {}", why());
                    continue;
                }
                let torn = self.model.torn.get(&(id.clone(), queue.clone())).copied();
                let published = facts.published_count(id, &queue) + torn.unwrap_or(0);
                let is_there = |number: &&u32| {
                    QUEUES.iter().any(|name| *name == queue && present.contains(&(**number, *name)))
                };
                let there = numbers.iter().filter(is_there).count();
                assert!(published >= there, "there and never published: {}", why());
                let gone = published - there;
                assert!(missed + others >= gone || is_torn, "gone without an outcome: {}", why());
                assert!(missed + others <= published, "more outcomes than messages: {}", why());
                assert!(others <= gone, "an outcome although it is there: {}", why());
            }
        }
    }

    /// An outcome message says what the ledger has.
    fn check_is_so(&self, facts: &Facts, told: &Told) {
        if !self.model.ids.contains_key(&told.id) {
            return;
        }
        let is_it = |settled: &Settled<'_>| {
            let (queue, outcome, is_late) = fact(settled);
            (&queue, outcome, is_late) == (&told.queue, told.outcome, told.is_late)
                && settled.verdict.reason_name() == told.reason
                && (settled.verdict.is_notified() || told.is_duplicate)
                && settled.details.error.as_deref() == told.error.as_deref().map(Into::into)
                && settled.details.result.as_deref().unwrap_or_default() == told.result
        };
        let is_so = facts.outcomes(&told.id).any(is_it);
        assert!(is_so, "it is not so: {told:?}{}", facts.describe(&told.id));
    }

    /// One outcome message for each outcome that was asked for.
    fn check_notices(&self, facts: &Facts, notices: &BTreeMap<(u32, String), usize>) {
        for ((number, event), count) in notices {
            assert_eq!(*count, 1, "m{number} is told {count} times: {event}");
        }
        for (id, numbers) in &self.model.ids {
            let mut expected: BTreeMap<String, usize> = BTreeMap::new();
            for settled in facts.outcomes(id) {
                let late = if settled.verdict.is_late() { "-late" } else { "" };
                let event =
                    format!("{}{late} in {}", settled.verdict.outcome.name(), settled.queue);
                if let [number] = numbers.as_slice() {
                    let message = &self.model.messages[*number as usize];
                    let wants = self.wants(message, settled);
                    // What its queue asked for is gone with the queue.
                    let may_differ = message.asks.notify.is_none()
                        && settled.verdict.reason_name() == "queue-deleted";
                    let is_right = settled.verdict.is_notified() == wants || wants && may_differ;
                    assert!(is_right, "{message:?}{}", facts.describe(id));
                }
                *expected.entry(event).or_default() += usize::from(settled.verdict.is_notified());
            }
            for (event, expected) in expected {
                let is_told = |number: &&u32| notices.contains_key(&(**number, event.clone()));
                let count = numbers.iter().filter(is_told).count();
                assert_eq!(count, expected, "told of {id}: {event}{}", facts.describe(id));
            }
        }
    }

    fn wants(&self, message: &Published, settled: &Settled<'_>) -> bool {
        let of_queue = self.kinds.get(&*settled.queue).and_then(|kind| kind.notify);
        let notify = message.asks.notify.or(of_queue);
        message.asks.reply_to && notify.is_some_and(|notify| notify.wants(settled.verdict.outcome))
    }

    /// What clients did and were promised is what the ledger says.
    fn check_promises(
        &self,
        facts: &Facts,
        items: &BTreeMap<Key, Item>,
        present: Option<&BTreeSet<(u32, Name)>>,
    ) {
        for (key, item) in items.iter().filter(|(key, _)| key.2.is_empty() && key.1 != REPLIES) {
            let message = &self.model.messages[key.0 as usize];
            let Some(id) = message.id.as_ref().filter(|id| self.model.ids[*id].len() == 1) else {
                continue;
            };
            let is_there = present.is_some_and(|present| present.contains(&(key.0, key.1)));
            let State::Gone { cause, is_stored } = item.state else { continue };
            let of_queue = facts.outcomes(id).filter(|settled| settled.queue == key.1);
            let Some(last) = of_queue.last() else {
                let is_sure = is_stored && cause != Cause::Lost && item.is_stored;
                assert!(
                    !is_sure || is_there,
                    "{key:?} {item:?} is not settled{}",
                    facts.describe(id)
                );
                continue;
            };
            let is_missed = last.verdict.outcome == Outcome::DeadlineMissed;
            if is_there || item.is_doubtful() || cause == Cause::Lost || is_missed && !is_stored {
                continue;
            }
            let fits = match cause {
                Cause::Taken => last.verdict.outcome == Outcome::Processed,
                Cause::Rejected => {
                    matches!(last.verdict.outcome, Outcome::Failed | Outcome::DeadlineMissed)
                }
                _ => last.verdict.outcome != Outcome::Processed,
            };
            // A settlement undone by a crash, in a queue that is gone, became a drop with the
            // queue.
            let is_orphan = !is_stored && last.verdict.reason_name() == "queue-deleted";
            assert!(fits || is_orphan, "{key:?} is {item:?}{}", facts.describe(id));
        }
    }

    /// Outcomes stay as they are; there are only ever more.
    fn check_nothing_is_taken_back(&mut self, facts: &Facts, id: &str) {
        let outcomes: Vec<Fact> = facts.outcomes(id).map(fact).collect();
        let before = self.model.outcomes.insert(id.to_owned(), outcomes).unwrap_or_default();
        let outcomes = &self.model.outcomes[id];
        // Queue by queue, since outcomes that come again after a crash are in another order.
        let of = |queue: &str, facts: &[Fact]| -> Vec<Fact> {
            facts.iter().filter(|fact| fact.0 == queue).cloned().collect()
        };
        let is_kept =
            before.iter().all(|(queue, ..)| of(queue, outcomes).starts_with(&of(queue, &before)));
        assert!(is_kept, "{id} had {before:?} and has{}", facts.describe(id));
    }

    /// The ledger shows messages where they are, once everything is stored and followed.
    pub(crate) fn audit_now(&mut self) {
        self.maintain();
        self.commit();
        self.maintain();
        if self.is_poisoned || self.node.is_none() || !self.is_settled() {
            return;
        }
        self.note(|| "audit".to_owned());
        let facts = Facts::read(&self.node(), self.model.ids.keys());
        for (key, item) in &self.model.items {
            let message = &self.model.messages[key.0 as usize];
            let is_first = key.2.is_empty() && key.1 != REPLIES;
            let Some(id) =
                message.id.as_ref().filter(|id| is_first && self.model.ids[*id].len() == 1)
            else {
                continue;
            };
            let timeline = Timeline::new(facts.of(id).to_vec());
            let newest = timeline.newest();
            let story = newest.and_then(|newest| newest.queues.iter().find(|q| q.name == key.1));
            let stage = story.map(|story| story.stage);
            let is_missed = (1..=self.model.now_ms).contains(&message.deadline_at_ms);
            if is_missed && stage == Some(Stage::Settled) {
                continue;
            }
            let expected = match item.state {
                _ if item.is_doubtful() => continue,
                State::Ready if self.model.may_have_died(key, item) => continue,
                // A restart gives back what was delivered, and no note says so.
                State::Ready
                    if item.was_restored
                        && !item.was_delivered
                        && stage == Some(Stage::Delivered) =>
                {
                    continue;
                }
                State::Ready => Some(Stage::Queued),
                State::Held => Some(Stage::Delivered),
                State::Gone { cause: Cause::Lost, .. } => continue,
                State::Gone { .. } => Some(Stage::Settled),
            };
            assert_eq!(stage, expected, "{key:?} is {item:?}{}", facts.describe(id));
        }
    }

    /// After a start, queues remember the ids that the ledger has.
    pub(crate) fn remember_ids(&mut self, found: &Inventory) {
        self.model.window.clear();
        for (id, events) in &found.ledger.events {
            for event in events {
                let What::Published(published) = &event.what else { continue };
                if published.is_copy || !published.is_deduplicated {
                    continue;
                }
                for of in &published.queues {
                    let Some(name) = QUEUES.into_iter().find(|name| *name == of.name) else {
                        continue;
                    };
                    let numbers = &self.model.ids[id];
                    let message = Some(numbers[0]).filter(|_| numbers.len() == 1);
                    // A crash forgets whether it was refused.
                    let is_certain =
                        self.kinds[name].overflow == crate::topology::Overflow::DropHead;
                    let (from_ms, until_ms) = (event.time_ms, event.time_ms);
                    let known = Known { message, from_ms, until_ms, is_certain };
                    self.model.window.insert((id.clone(), name), known);
                }
            }
            let freed = events.iter().filter_map(|event| match &event.what {
                What::Settled(settled) => Some(settled),
                _ => None,
            });
            let frees = |it: &Settled<'_>| it.verdict.reason.is_some_and(Reason::frees_id);
            for settled in freed.filter(|it| frees(it)) {
                let of_queue = self
                    .model
                    .window
                    .iter_mut()
                    .filter(|((of, name), _)| of == id && *name == settled.queue);
                of_queue.for_each(|(_, known)| known.is_certain = false);
            }
        }
    }
}
