//! Builds the story: from [`Event`]s to a [`Timeline`].
//!
//! Pure: no IO, no clock. Never drops an event because something before it is missing: old events
//! are forgotten first, so a story may begin in the middle.
//!
//! *Which publication an event belongs to*: an id can be published more than once, and events name
//! only the queue. A settlement belongs to the oldest publication that is not settled in this queue
//! (a copy's outcome to a copy), and so does a delivery; a late ack belongs to the one whose
//! deadline was missed. What fits nowhere begins a publication of its own.

use super::{Entry, Publication, QueueStory, Stage, Timeline};
use crate::{Cursor, Event, NAMELESS_QUEUE, Outcome, Published, Settled, What};

impl Timeline {
    /// Builds the story from the events of one message, in their order.
    pub fn new(events: Vec<Event<'static>>) -> Self {
        let mut teller = Teller::default();
        events.into_iter().for_each(|event| teller.take(event));
        teller.told()
    }
}

/// The publications and copies while the story is being built, oldest first.
#[derive(Default)]
struct Teller {
    told: Vec<Chapter>,
}

struct Chapter {
    is_copy: bool,
    publication: Publication,
}

impl Chapter {
    fn queue(&mut self, name: &str) -> Option<&mut QueueStory> {
        self.publication.queues.iter_mut().find(|queue| queue.name == name)
    }
}

impl Teller {
    fn take(&mut self, event: Event<'static>) {
        let Event { at, time_ms, what, .. } = event;
        let index = match &what {
            What::Moved { .. } => return,
            What::Published(published) => self.publish(at, time_ms, published),
            What::Delivered { queue, worker, attempt } => {
                let index = self.there(queue).unwrap_or_else(|| self.begin(at, queue, false));
                if let Some(story) = self.told[index].queue(queue) {
                    stand(story, Stage::Delivered);
                    story.attempts = *attempt;
                    story.worker = worker.clone().into_owned();
                    story.retry_at_ms = 0;
                }
                index
            }
            What::Requeued { queue, attempt, retry_at_ms } => {
                let index = self.there(queue).unwrap_or_else(|| self.begin(at, queue, false));
                if let Some(story) = self.told[index].queue(queue) {
                    stand(story, Stage::Queued);
                    story.attempts = *attempt;
                    story.retry_at_ms = *retry_at_ms;
                }
                index
            }
            What::Progress { queue, .. } => {
                let index = self.there(queue).unwrap_or_else(|| self.begin(at, queue, false));
                if let Some(story) = self.told[index].queue(queue) {
                    stand(story, Stage::Delivered);
                }
                index
            }
            What::Settled(settled) => self.settle(at, time_ms, settled),
            What::Received { queue } => match self.notified(queue) {
                Some(index) => {
                    if let Some(story) = self.told[index].queue(queue) {
                        story.received_at_ms = Some(time_ms);
                    }
                    index
                }
                None => return,
            },
        };
        let chapter = &mut self.told[index];
        let is_copy = chapter.is_copy;
        chapter.publication.entries.push(Entry { at, time_ms, is_copy, what });
    }

    fn publish(&mut self, at: Cursor, time_ms: u64, published: &Published<'static>) -> usize {
        let story = |name: String| QueueStory { name, ..QueueStory::default() };
        let queues = published.queues.iter().map(|queue| story(queue.name.clone().into_owned()));
        let publication = Publication {
            at,
            published: Some(published.clone()),
            published_at_ms: time_ms,
            queues: queues.collect(),
            ..Publication::default()
        };
        self.told.push(Chapter { is_copy: published.is_copy, publication });
        self.told.len() - 1
    }

    fn settle(&mut self, at: Cursor, time_ms: u64, settled: &Settled<'static>) -> usize {
        let Settled { queue, verdict, details, .. } = settled;
        let is_copy = verdict.is_copy();
        if let Some(index) = self.overtaken(settled) {
            return index;
        }
        let late = || if verdict.is_late() { self.missed(queue) } else { None };
        let unroutable = || if queue.is_empty() { self.without_queues(is_copy) } else { None };
        let found = self.open(queue, Some(is_copy)).or_else(late).or_else(unroutable);
        let found = found.or_else(|| self.nameless(queue, is_copy));
        let index = found.unwrap_or_else(|| self.begin(at, queue, is_copy));
        let chapter = &mut self.told[index];
        if chapter.publication.published_at_ms == 0 {
            chapter.publication.published_at_ms = verdict.published_at_ms;
        }
        if chapter.queue(queue).is_none() {
            let name = queue.clone().into_owned();
            chapter.publication.queues.push(QueueStory { name, ..QueueStory::default() });
        }
        if let Some(story) = chapter.queue(queue) {
            story.stage = Stage::Settled;
            story.attempts = verdict.attempts;
            story.retry_at_ms = 0;
            if !details.worker.is_empty() {
                story.worker = details.worker.clone().into_owned();
            }
            story.settled = Some((at, time_ms, settled.clone()));
        }
        index
    }

    /// The publication that was acked late before its missed deadline was logged: the ack has the
    /// last word, whichever entered the log first.
    fn overtaken(&self, settled: &Settled<'static>) -> Option<usize> {
        if settled.verdict.outcome != Outcome::DeadlineMissed
            || self.open(&settled.queue, None).is_some()
        {
            return None;
        }
        let is_late = |story: &QueueStory| {
            story.settled.as_ref().is_some_and(|(_, _, settled)| settled.verdict.is_late())
        };
        self.told.iter().rposition(|chapter| chapter.has(&settled.queue, is_late))
    }

    /// Begins a publication of which only the middle is known.
    fn begin(&mut self, at: Cursor, queue: &str, is_copy: bool) -> usize {
        let queues = vec![QueueStory { name: queue.to_owned(), ..QueueStory::default() }];
        let publication = Publication { at, queues, ..Publication::default() };
        self.told.push(Chapter { is_copy, publication });
        self.told.len() - 1
    }

    /// The oldest publication that is not settled in this queue.
    fn open(&self, queue: &str, is_copy: Option<bool>) -> Option<usize> {
        self.told.iter().position(|chapter| {
            is_copy.is_none_or(|is_copy| is_copy == chapter.is_copy)
                && chapter.has(queue, |story| story.stage != Stage::Settled)
        })
    }

    /// The oldest that may still be in this queue; one whose deadline was missed still is.
    fn there(&self, queue: &str) -> Option<usize> {
        self.open(queue, None).or_else(|| self.missed(queue))
    }

    /// The newest whose deadline was missed in this queue.
    fn missed(&self, queue: &str) -> Option<usize> {
        let missed = |story: &QueueStory| story.outcome() == Some(Outcome::DeadlineMissed);
        self.told.iter().rposition(|chapter| chapter.has(queue, missed))
    }

    /// The oldest that was routed to no queue and is not yet known to be unroutable.
    fn without_queues(&self, is_copy: bool) -> Option<usize> {
        let mut told = self.told.iter();
        told.position(|chapter| chapter.is_copy == is_copy && chapter.publication.queues.is_empty())
    }

    /// The oldest that has a queue whose name was no longer known, and which gets its name now.
    fn nameless(&mut self, queue: &str, is_copy: bool) -> Option<usize> {
        let is_nameless = |story: &QueueStory| {
            story.stage != Stage::Settled && story.name.starts_with(NAMELESS_QUEUE)
        };
        let mut told = self.told.iter_mut().enumerate();
        told.find_map(|(index, chapter)| {
            let mut queues = chapter.publication.queues.iter_mut();
            let story = queues.find(|story| chapter.is_copy == is_copy && is_nameless(story))?;
            queue.clone_into(&mut story.name);
            Some(index)
        })
    }

    /// The oldest whose outcome in this queue has been sent and not yet acked.
    fn notified(&self, queue: &str) -> Option<usize> {
        let waits = |story: &QueueStory| {
            let is_notified =
                story.settled.as_ref().is_some_and(|(_, _, s)| s.verdict.is_notified());
            is_notified && story.received_at_ms.is_none()
        };
        let oldest = self.told.iter().position(|chapter| chapter.has(queue, waits));
        oldest.or_else(|| self.told.iter().rposition(|chapter| chapter.has(queue, |_| true)))
    }

    fn told(mut self) -> Timeline {
        self.mark_recovered();
        let mut publications: Vec<Publication> = Vec::new();
        for Chapter { is_copy, mut publication } in self.told {
            match publications.last_mut().filter(|_| is_copy) {
                Some(original) => {
                    original.entries.append(&mut publication.entries);
                    original.copies.push(publication);
                }
                None => publications.push(publication),
            }
        }
        for publication in &mut publications {
            publication.entries.sort_by_key(|entry| entry.at);
        }
        publications.reverse();
        Timeline { publications }
    }

    fn mark_recovered(&mut self) {
        for index in 0..self.told.len() {
            let (before, after) = self.told.split_at_mut(index + 1);
            let Some(chapter) = before.last_mut() else { continue };
            for story in &mut chapter.publication.queues {
                let Some((_, _, settled)) = &story.settled else { continue };
                let was_sent_on = settled.details.dead_letter_exchange.is_some();
                let made_good = |later: &Chapter| {
                    let queues = &later.publication.queues;
                    let again = queues.iter().find(|queue| queue.name == story.name);
                    again.is_some_and(QueueStory::is_processed)
                        || (was_sent_on
                            && later.is_copy
                            && queues.iter().any(QueueStory::is_processed))
                };
                let is_processed = settled.verdict.outcome == Outcome::Processed;
                story.is_recovered = !is_processed && after.iter().any(made_good);
            }
        }
    }
}

impl Chapter {
    fn has(&self, queue: &str, that: impl Fn(&QueueStory) -> bool) -> bool {
        self.publication.queues.iter().any(|story| story.name == queue && that(story))
    }
}

/// The message is still in the queue. If it has an outcome that is not yet final, it stays settled.
fn stand(story: &mut QueueStory, stage: Stage) {
    if story.settled.is_none() {
        story.stage = stage;
    }
}

#[cfg(test)]
mod tests;
