//! Message ids that queues remember, and what they do when an id comes again.

use crate::model::{Key, Model};
use crate::topology::Name;

/// How long the ledger remembers ids for queues that set no time, ms.
const WINDOW_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// An id that a queue has seen.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The message that is or was in the queue; `None` when that is not known.
    pub message: Option<u32>,
    /// When it was seen, at the earliest and at the latest.
    pub from_ms: u64,
    pub until_ms: u64,
    /// Whether it is certain to be remembered.
    pub is_certain: bool,
}

/// What a queue does with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    /// It is not enqueued. With the message that was, if that is known.
    Duplicate(Option<Key>),
    Doubtful,
}

impl Model {
    /// Whether a queue takes in this message, whose id it then remembers.
    pub(crate) fn judge(&mut self, number: u32, queue: Name, queues: &[Name]) -> Verdict {
        let message = &self.messages[number as usize];
        let Some(id) = message.id.clone() else { return Verdict::New };
        let looks =
            |name: Name| self.kind(name).deduplicates.unwrap_or_else(|| message.asks.is_any());
        if !queues.iter().any(|name| looks(name)) {
            return Verdict::New;
        }
        let (now_ms, published_at_ms) = (self.now_ms, message.published_at_ms);
        let kind = self.kind(queue);
        let window_ms = kind.window_ms.unwrap_or(WINDOW_MS);
        let does_look = looks(queue);
        let known = self.window.get(&(id.clone(), queue)).cloned();
        let verdict = match &known {
            _ if !does_look => Verdict::New,
            None => Verdict::New,
            Some(known) if known.is_certain && now_ms - known.from_ms < window_ms => {
                let original = known.message.map(|message| (message, queue, String::new()));
                Verdict::Duplicate(original)
            }
            Some(known) if now_ms - known.until_ms >= window_ms => Verdict::New,
            Some(_) => Verdict::Doubtful,
        };
        if let Verdict::Duplicate(_) = verdict {
            return verdict;
        }
        // A refused message may come again.
        let may_be_refused = kind.overflow != crate::topology::Overflow::DropHead;
        let is_certain = does_look && verdict == Verdict::New && !may_be_refused;
        let from_ms = match (&known, is_certain) {
            (Some(known), false) => known.from_ms.min(published_at_ms),
            _ => published_at_ms,
        };
        let message = is_certain.then_some(number);
        let known = Known { message, from_ms, until_ms: now_ms, is_certain };
        self.window.insert((id, queue), known);
        verdict
    }

    /// These messages are dropped and nobody has processed them, so that their ids are free again; a
    /// crash may undo that.
    pub(crate) fn free_ids(&mut self, dropped: &[Key]) {
        for (number, queue, _) in dropped.iter().filter(|key| key.2.is_empty()) {
            let id = self.messages[*number as usize].id.clone();
            let known = id.and_then(|id| self.window.get_mut(&(id, *queue)));
            if let Some(known) = known {
                known.is_certain = false;
            }
        }
    }
}
