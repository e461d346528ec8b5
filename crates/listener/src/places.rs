//! Who is connected, who has been silent longest, and who makes way for somebody new: pure.
//!
//! Owns the counts and the order. Never ends anything itself: it says what is to be ended. It has
//! no clock either: places are ordered by when they fell silent.
//!
//! *Invariants:* a place is silent, known or ended, and ending is final; `count` counts those that
//! are not ended; only silent places are ended, the longest silent first; one address has at most half
//! of all places that there may be as silent ones, and beyond that makes way for itself; every
//! operation takes at most logarithmic time, given that each place is ended once.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// Identifies a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door(usize);

/// What was short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// The listener's own maximum.
    Connections,
    /// Room for all listeners together.
    OpenFiles,
    /// The half that one address may have without a login.
    OfAddress,
}

/// All places. `T` is what ends a connection.
#[derive(Debug)]
pub(crate) struct Places<T> {
    doors: Vec<Inside>,
    places: HashMap<u64, Entry<T>>,
    count: usize,
    /// The next place's number, and the next number in the order of silence.
    next: u64,
}

/// The places behind one door.
#[derive(Debug)]
struct Inside {
    max: usize,
    count: usize,
    silent: Silent,
    silent_of: HashMap<Address, Silent>,
}

/// Silent places in the order of silence: the first has been silent longest.
type Silent = BTreeMap<u64, u64>;

/// Where a peer comes from: an address, or the network in which it has as many as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Self(Ipv6Addr::from_bits(network).into())
            }
            address => Self(address),
        }
    }
}

impl Inside {
    fn add_silent(&mut self, address: Address, turn: u64, place: u64) {
        self.silent.insert(turn, place);
        self.silent_of.entry(address).or_default().insert(turn, place);
    }

    fn remove_silent(&mut self, address: Address, turn: u64) {
        self.silent.remove(&turn);
        if let Some(of_address) = self.silent_of.get_mut(&address) {
            of_address.remove(&turn);
            if of_address.is_empty() {
                self.silent_of.remove(&address);
            }
        }
    }
}

#[derive(Debug)]
struct Entry<T> {
    door: Door,
    address: Address,
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
    /// The connections to end.
    pub(crate) ended: Vec<T>,
    /// Why places must be ended, or why there is no room.
    pub(crate) shortage: Option<Shortage>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { doors: Vec::new(), places: HashMap::new(), count: 0, next: 0 }
    }
}

impl<T> Places<T> {
    /// Adds a listener, with its maximum.
    pub(crate) fn add_door(&mut self, max: usize) -> Door {
        self.doors.push(Inside { max, count: 0, silent: Silent::new(), silent_of: HashMap::new() });
        Door(self.doors.len() - 1)
    }

    /// Takes a new, silent place, if need be that of the longest silent; `room` is how many there
    /// may be behind all doors together.
    pub(crate) fn enter(
        &mut self,
        door: Door,
        room: usize,
        address: Address,
        ender: T,
    ) -> Entered<T> {
        let mut entered = Entered { place: None, ended: Vec::new(), shortage: None };
        while let Some(shortage) = self.shortage(door, room, address) {
            entered.shortage = Some(shortage);
            let ended = match shortage {
                Shortage::Connections => self.end_longest_silent(Some(door)),
                Shortage::OpenFiles => self.end_longest_silent(None),
                Shortage::OfAddress => self.end_longest_silent_of(door, address),
            };
            match ended {
                Some(ender) => entered.ended.push(ender),
                None => return entered,
            }
        }
        let place = self.take_turn();
        let turn = self.take_turn();
        let standing = Standing::Silent { turn };
        self.places.insert(place, Entry { door, address, standing, ender: Some(ender) });
        let inside = &mut self.doors[door.0];
        inside.add_silent(address, turn, place);
        inside.count += 1;
        self.count += 1;
        entered.place = Some(place);
        entered
    }

    /// Ends the place that has been silent longest, behind one door or behind any.
    pub(crate) fn end_longest_silent(&mut self, behind: Option<Door>) -> Option<T> {
        let first = |door: usize| {
            let (turn, place) = self.doors[door].silent.first_key_value()?;
            Some((*turn, *place))
        };
        let (turn, place) = match behind {
            Some(door) => first(door.0)?,
            // There are only as many doors as protocols.
            None => (0..self.doors.len()).filter_map(first).min()?,
        };
        self.end(turn, place)
    }

    /// Ends the place that has been silent longest of those that an address has behind a door.
    fn end_longest_silent_of(&mut self, door: Door, address: Address) -> Option<T> {
        let silent = self.doors[door.0].silent_of.get(&address)?;
        let (turn, place) = silent.first_key_value().map(|(turn, place)| (*turn, *place))?;
        self.end(turn, place)
    }

    fn end(&mut self, turn: u64, place: u64) -> Option<T> {
        let entry = self.places.get_mut(&place)?;
        entry.standing = Standing::Ended;
        let ender = entry.ender.take();
        let inside = &mut self.doors[entry.door.0];
        inside.remove_silent(entry.address, turn);
        inside.count -= 1;
        self.count -= 1;
        ender
    }

    /// Marks a place as known; has no effect on one that is ended.
    pub(crate) fn make_known(&mut self, place: u64) {
        let Some(entry) = self.places.get_mut(&place) else { return };
        if let Standing::Silent { turn } = entry.standing {
            entry.standing = Standing::Known;
            self.doors[entry.door.0].remove_silent(entry.address, turn);
        }
    }

    /// Marks a place as silent from now on, unless it already is; has no effect on one that is
    /// ended.
    pub(crate) fn make_silent(&mut self, place: u64) {
        let turn = self.take_turn();
        let Some(entry) = self.places.get_mut(&place) else { return };
        if entry.standing == Standing::Known {
            entry.standing = Standing::Silent { turn };
            self.doors[entry.door.0].add_silent(entry.address, turn, place);
        }
    }

    /// Gives up a place. Returns whether it had been ended.
    pub(crate) fn leave(&mut self, place: u64) -> bool {
        let Some(entry) = self.places.remove(&place) else { return false };
        if entry.standing == Standing::Ended {
            return true;
        }
        let inside = &mut self.doors[entry.door.0];
        if let Standing::Silent { turn } = entry.standing {
            inside.remove_silent(entry.address, turn);
        }
        inside.count -= 1;
        self.count -= 1;
        false
    }

    /// The number of places that are ended and not yet given up.
    pub(crate) fn ended_count(&self) -> usize {
        self.places.len() - self.count
    }

    fn shortage(&self, door: Door, room: usize, address: Address) -> Option<Shortage> {
        let inside = &self.doors[door.0];
        let of_address = inside.silent_of.get(&address).map_or(0, Silent::len);
        // One may always try to log in.
        let of_address_max = (inside.max.min(room) / 2).max(1);
        if of_address >= of_address_max {
            Some(Shortage::OfAddress)
        } else if inside.count >= inside.max {
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
