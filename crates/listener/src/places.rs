//! Who is in, who has been silent for how long, and who goes for somebody new: pure.
//!
//! Owns the counts and the order. Never ends anything itself: it says what is to be ended. It has no
//! clock either: places are in the order in which they fell silent.
//!
//! *Invariants:* a place is silent, known or ended, and ended for good; `count` are those that are
//! not ended; only silent places are ended, the longest silent first; every operation takes at most
//! logarithmic time, given that each place is ended once.

use std::collections::{BTreeMap, HashMap};

/// Names a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door(usize);

/// What there was too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The listener's own maximum.
    Connections,
    /// Room for all listeners together.
    OpenFiles,
}

/// All places. `T` is what it takes to end a connection.
#[derive(Debug)]
pub(crate) struct Places<T> {
    doors: Vec<Inside>,
    places: HashMap<u64, Entry<T>>,
    count: usize,
    /// The next place's name, and the next turn in the order of silence.
    next: u64,
}

/// What is behind one door.
#[derive(Debug)]
struct Inside {
    max: usize,
    count: usize,
    /// Silent places by their turn: the first has been silent longest.
    silent: BTreeMap<u64, u64>,
}

#[derive(Debug)]
struct Entry<T> {
    door: Door,
    standing: Standing,
    ender: Option<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Silent { turn: u64 },
    Known,
    Ended,
}

/// What [`Places::enter`] did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entered<T> {
    /// The new place; `None` if there is no room.
    pub(crate) place: Option<u64>,
    /// What is to be ended.
    pub(crate) ended: Vec<T>,
    /// Why places are to be ended, or there is no room.
    pub(crate) shortage: Option<Shortage>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { doors: Vec::new(), places: HashMap::new(), count: 0, next: 0 }
    }
}

impl<T> Places<T> {
    /// A further listener, with its maximum.
    pub(crate) fn add_door(&mut self, max: usize) -> Door {
        self.doors.push(Inside { max, count: 0, silent: BTreeMap::new() });
        Door(self.doors.len() - 1)
    }

    /// Takes a new, silent place, if need be instead of the longest silent; `room` is how many
    /// there may be behind all doors.
    pub(crate) fn enter(&mut self, door: Door, room: usize, ender: T) -> Entered<T> {
        let mut entered = Entered { place: None, ended: Vec::new(), shortage: None };
        while let Some(shortage) = self.shortage(door, room) {
            entered.shortage = Some(shortage);
            let of = (shortage == Shortage::Connections).then_some(door);
            match self.end_longest_silent(of) {
                Some(ender) => entered.ended.push(ender),
                None => return entered,
            }
        }
        let place = self.take_turn();
        let turn = self.take_turn();
        let standing = Standing::Silent { turn };
        self.places.insert(place, Entry { door, standing, ender: Some(ender) });
        let inside = &mut self.doors[door.0];
        inside.silent.insert(turn, place);
        inside.count += 1;
        self.count += 1;
        entered.place = Some(place);
        entered
    }

    /// Ends the place that has been silent longest, behind one door or any.
    pub(crate) fn end_longest_silent(&mut self, behind: Option<Door>) -> Option<T> {
        let first = |door: usize| {
            let (turn, place) = self.doors[door].silent.first_key_value()?;
            Some((*turn, *place))
        };
        let (turn, place) = match behind {
            Some(door) => first(door.0)?,
            // There are as many doors as protocols.
            None => (0..self.doors.len()).filter_map(first).min()?,
        };
        let entry = self.places.get_mut(&place)?;
        entry.standing = Standing::Ended;
        let ender = entry.ender.take();
        let inside = &mut self.doors[entry.door.0];
        inside.silent.remove(&turn);
        inside.count -= 1;
        self.count -= 1;
        ender
    }

    /// A place's peer is known from now on; without effect on one that is ended.
    pub(crate) fn make_known(&mut self, place: u64) {
        let Some(entry) = self.places.get_mut(&place) else { return };
        if let Standing::Silent { turn } = entry.standing {
            entry.standing = Standing::Known;
            self.doors[entry.door.0].silent.remove(&turn);
        }
    }

    /// A place is silent from now on, unless it was before; without effect on one that is ended.
    pub(crate) fn make_silent(&mut self, place: u64) {
        let turn = self.take_turn();
        let Some(entry) = self.places.get_mut(&place) else { return };
        if entry.standing == Standing::Known {
            entry.standing = Standing::Silent { turn };
            self.doors[entry.door.0].silent.insert(turn, place);
        }
    }

    /// A place is given up. Whether it had been ended.
    pub(crate) fn leave(&mut self, place: u64) -> bool {
        let Some(entry) = self.places.remove(&place) else { return false };
        if entry.standing == Standing::Ended {
            return true;
        }
        let inside = &mut self.doors[entry.door.0];
        if let Standing::Silent { turn } = entry.standing {
            inside.silent.remove(&turn);
        }
        inside.count -= 1;
        self.count -= 1;
        false
    }

    /// Places that are ended and not yet given up.
    pub(crate) fn ended_count(&self) -> usize {
        self.places.len() - self.count
    }

    fn shortage(&self, door: Door, room: usize) -> Option<Shortage> {
        let inside = &self.doors[door.0];
        if inside.count >= inside.max {
            Some(Shortage::Connections)
        } else if self.count >= room {
            Some(Shortage::OpenFiles)
        } else {
            None
        }
    }

    fn take_turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests;
