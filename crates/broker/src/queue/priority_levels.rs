//! The messages of a queue by priority: one [`Index`] for each priority, and which of them to ask
//! first.
//!
//! *Invariant:* a level with ready messages has its bit in `ready`. A bit may be stale; whoever
//! finds no ready message there clears it, so finding the next message costs the same for one
//! priority and for 256.

use super::index::{Entry, Index};

/// Level and number of a message: its place, which never changes.
pub(super) type Place = (u8, u64);

/// See the module's documentation.
pub(super) struct PriorityLevels {
    /// Lowest priority first; one for ordinary queues.
    indexes: Vec<Index>,
    ready: [u64; 4],
}

impl PriorityLevels {
    pub(super) fn new(priority_max: u8) -> Self {
        Self { indexes: (0..=priority_max).map(|_| Index::default()).collect(), ready: [0; 4] }
    }

    /// Adds a ready message at the end of its level; priorities that are too high go to the highest
    /// level.
    pub(super) fn push(&mut self, priority: u8, entry: Entry) -> Place {
        let level = usize::from(priority).min(self.indexes.len() - 1);
        let number = self.indexes[level].push(entry);
        self.mark_ready(level as u8);
        (level as u8, number)
    }

    /// The next ready message.
    pub(super) fn first_ready(&mut self) -> Option<Place> {
        for word in (0..self.ready.len()).rev() {
            while let Some(bit) = self.ready[word].checked_ilog2() {
                let level = word as u32 * u64::BITS + bit;
                if let Some(number) = self.indexes[level as usize].first_ready() {
                    return Some((level as u8, number));
                }
                self.ready[word] &= !(1 << bit);
            }
        }
        None
    }

    /// Marks the first ready message as delivered once more.
    pub(super) fn deliver(&mut self, (level, number): Place) -> Option<&mut Entry> {
        self.indexes.get_mut(usize::from(level))?.deliver(number)
    }

    /// Gives an unsettled message back to its place.
    pub(super) fn give_back(&mut self, (level, number): Place) -> Option<&mut Entry> {
        self.mark_ready(level);
        self.indexes.get_mut(usize::from(level))?.give_back(number)
    }

    /// Makes an unsettled message wait in its place.
    pub(super) fn delay(&mut self, (level, number): Place) -> Option<&mut Entry> {
        self.indexes.get_mut(usize::from(level))?.delay(number)
    }

    /// Removes a message, ready or unsettled.
    pub(super) fn remove(&mut self, (level, number): Place) -> Option<Entry> {
        self.indexes.get_mut(usize::from(level))?.remove(number)
    }

    pub(super) fn at(&self, (level, number): Place) -> Option<&Entry> {
        self.indexes.get(usize::from(level))?.at(number)
    }

    pub(super) fn at_mut(&mut self, (level, number): Place) -> Option<&mut Entry> {
        self.indexes.get_mut(usize::from(level))?.at_mut(number)
    }

    /// One level, if there is one with that number.
    pub(super) fn level(&self, level: usize) -> Option<&Index> {
        self.indexes.get(level)
    }

    fn mark_ready(&mut self, level: u8) {
        self.ready[usize::from(level / 64)] |= 1 << (level % 64);
    }

    /// Places for chunks, freed ones among them.
    #[cfg(test)]
    pub(super) fn chunk_count(&self) -> usize {
        self.indexes.iter().map(Index::chunk_count).sum()
    }
}
