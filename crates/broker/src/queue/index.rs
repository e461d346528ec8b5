//! The messages of one priority level in order: 32 bytes each.
//!
//! Messages are numbered as they come. They live in chunks of 64, found by number alone; what has
//! been delivered stays in its place until it is settled, so giving it back restores its position
//! at no cost. A chunk whose messages are all gone is freed. Where few unsettled messages would
//! hold many chunks (one consumer sleeps while the others go on), they move to a map of stragglers,
//! so memory is proportional to the number of messages, not to the span of their numbers.
//!
//! *Invariants:* `base <= cursor <= end`; numbers in `returned` are below `cursor` and ready; all
//! ready messages are in `returned` or at `cursor..end`. A message that waits for its next attempt
//! keeps its place, like an unsettled one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{Message, Position};

const CHUNK: u64 = 64;
/// As many delivered chunks as are never worth moving stragglers out of.
const DELIVERED_CHUNKS_FREE: u64 = 8;

/// No expiry.
pub(super) const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Stage {
    #[default]
    Gone,
    Ready,
    Unsettled,
    /// Given back, but not to be delivered yet.
    Delayed,
}

/// One message in one queue.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// `None` if the body must be read from the log.
    pub message: Option<Message>,
    pub position: Option<Position>,
    pub expires_at_ms: u64,
    pub body_bytes: u32,
    /// Deliveries so far; also distinguishes one delivery of the message from the next.
    pub attempt: u16,
    pub stage: Stage,
    pub marks: Marks,
}

/// Further facts about a message, in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Marks(u8);

impl Marks {
    /// It may have been delivered before.
    pub(super) const REDELIVERED: Marks = Marks(1);
    /// Somebody may ask for its outcome.
    pub(super) const TRACKED: Marks = Marks(2);
    /// Its deadline has passed, and that was reported.
    pub(super) const MISSED_DEADLINE: Marks = Marks(4);

    pub(super) fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    pub(super) fn set(&mut self, mark: Marks) {
        self.0 |= mark.0;
    }

    pub(super) fn with(mut self, mark: Marks, on: bool) -> Self {
        if on {
            self.set(mark);
        }
        self
    }
}

const _: () = assert!(size_of::<Entry>() == 32, "the budget of a queued message is 32 bytes");

struct Chunk {
    live_count: u32,
    entries: [Entry; CHUNK as usize],
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Index {
    chunks: VecDeque<Option<Box<Chunk>>>,
    /// Number of the first entry of the first chunk; a multiple of `CHUNK`.
    base: u64,
    cursor: u64,
    end: u64,
    returned: BTreeSet<u64>,
    stragglers: BTreeMap<u64, Entry>,
    /// Number of unsettled and delayed messages.
    held_count: u64,
    spare: Option<Box<Chunk>>,
}

impl Index {
    /// Adds a ready message at the end and returns its number.
    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        debug_assert!(entry.stage == Stage::Ready);
        let number = self.end;
        if self.chunks.is_empty() {
            self.base = number - number % CHUNK;
        }
        if (number - self.base) / CHUNK == self.chunks.len() as u64 {
            let chunk = self.spare.take().unwrap_or_else(|| {
                Box::new(Chunk {
                    live_count: 0,
                    entries: std::array::from_fn(|_| Entry::default()),
                })
            });
            self.chunks.push_back(Some(chunk));
        }
        if let Some(Some(chunk)) = self.chunks.back_mut() {
            chunk.entries[(number % CHUNK) as usize] = entry;
            chunk.live_count += 1;
        }
        self.end += 1;
        number
    }

    /// The number of the next ready message.
    pub(super) fn first_ready(&mut self) -> Option<u64> {
        if let Some(&number) = self.returned.first() {
            return Some(number);
        }
        while self.cursor < self.end {
            match self.at(self.cursor) {
                Some(entry) if entry.stage == Stage::Ready => return Some(self.cursor),
                _ => self.cursor += 1,
            }
        }
        None
    }

    /// Marks the first ready message as delivered once more.
    pub(super) fn deliver(&mut self, number: u64) -> Option<&mut Entry> {
        if number == self.cursor {
            self.cursor += 1;
        } else {
            self.returned.remove(&number);
        }
        self.held_count += 1;
        if self.cursor.is_multiple_of(CHUNK) {
            self.move_stragglers();
        }
        let entry = self.at_mut(number)?;
        debug_assert!(entry.stage == Stage::Ready);
        entry.stage = Stage::Unsettled;
        entry.attempt = entry.attempt.wrapping_add(1);
        Some(entry)
    }

    /// Gives an unsettled or delayed message back to its place.
    pub(super) fn give_back(&mut self, number: u64) -> Option<&mut Entry> {
        if !matches!(self.at(number)?.stage, Stage::Unsettled | Stage::Delayed) {
            return None;
        }
        self.held_count -= 1;
        self.returned.insert(number);
        let entry = self.at_mut(number)?;
        entry.stage = Stage::Ready;
        Some(entry)
    }

    /// Makes an unsettled message wait in its place, until it is given back.
    pub(super) fn delay(&mut self, number: u64) -> Option<&mut Entry> {
        let entry = self.at_mut(number).filter(|entry| entry.stage == Stage::Unsettled)?;
        entry.stage = Stage::Delayed;
        Some(entry)
    }

    /// Removes a message, whatever its stage.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        if number < self.base {
            let entry = self.stragglers.remove(&number)?;
            self.forget(number, entry.stage);
            return Some(entry);
        }
        let slot = ((number - self.base) / CHUNK) as usize;
        let chunk = self.chunks.get_mut(slot)?.as_mut()?;
        let entry = &mut chunk.entries[(number % CHUNK) as usize];
        if entry.stage == Stage::Gone {
            return None;
        }
        let entry = std::mem::take(entry);
        chunk.live_count -= 1;
        let is_empty = chunk.live_count == 0 && self.base + (slot as u64 + 1) * CHUNK <= self.end;
        if is_empty {
            self.spare = self.chunks[slot].take();
        }
        self.forget(number, entry.stage);
        if is_empty {
            self.free_front();
            self.move_stragglers();
        }
        Some(entry)
    }

    pub(super) fn at(&self, number: u64) -> Option<&Entry> {
        if number < self.base {
            return self.stragglers.get(&number);
        }
        let chunk = self.chunks.get(((number - self.base) / CHUNK) as usize)?.as_ref()?;
        Some(&chunk.entries[(number % CHUNK) as usize]).filter(|entry| entry.stage != Stage::Gone)
    }

    pub(super) fn at_mut(&mut self, number: u64) -> Option<&mut Entry> {
        if number < self.base {
            return self.stragglers.get_mut(&number);
        }
        let chunk = self.chunks.get_mut(((number - self.base) / CHUNK) as usize)?.as_mut()?;
        Some(&mut chunk.entries[(number % CHUNK) as usize])
            .filter(|entry| entry.stage != Stage::Gone)
    }

    /// Every message, in order of number, from `from` on.
    pub(super) fn iter_from(&self, from: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let first_slot = from.saturating_sub(self.base) / CHUNK;
        let chunks = self.chunks.iter().enumerate().skip(first_slot as usize);
        let in_chunks = chunks.flat_map(move |(slot, chunk)| {
            let start = self.base + slot as u64 * CHUNK;
            chunk.iter().flat_map(move |chunk| (start..).zip(&chunk.entries))
        });
        self.stragglers.range(from..).map(|(&number, entry)| (number, entry)).chain(
            in_chunks.filter(move |(number, entry)| *number >= from && entry.stage != Stage::Gone),
        )
    }

    /// Places for chunks, freed ones among them.
    #[cfg(test)]
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    fn forget(&mut self, number: u64, stage: Stage) {
        match stage {
            Stage::Unsettled | Stage::Delayed => self.held_count -= 1,
            _ if number < self.cursor => {
                self.returned.remove(&number);
            }
            _ => {}
        }
    }

    /// Forgets the places of freed chunks at the front. The cursor may lag behind removed messages
    /// that it has not passed yet, but never behind the front.
    fn free_front(&mut self) {
        while let Some(None) = self.chunks.front() {
            self.chunks.pop_front();
            self.base += CHUNK;
        }
        self.cursor = self.cursor.max(self.base);
    }

    /// Moves messages out of chunks at the front until there is at most one delivered chunk for
    /// every eight messages held, besides the free ones.
    fn move_stragglers(&mut self) {
        loop {
            let delivered_chunks = (self.cursor - self.base) / CHUNK;
            let kept = self.held_count + self.returned.len() as u64;
            if delivered_chunks <= DELIVERED_CHUNKS_FREE + kept / (CHUNK / 8) {
                return;
            }
            if let Some(Some(mut chunk)) = self.chunks.pop_front() {
                for (number, entry) in (self.base..).zip(&mut chunk.entries) {
                    if entry.stage != Stage::Gone {
                        self.stragglers.insert(number, std::mem::take(entry));
                    }
                }
                chunk.live_count = 0;
                self.spare = Some(chunk);
            }
            self.base += CHUNK;
            self.free_front();
        }
    }
}
