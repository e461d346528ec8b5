//! The strings of a page, each written once.
//!
//! Owns their bytes and their numbers. Long strings are not kept here but written where they are
//! used.

use std::hash::{BuildHasher, RandomState};

use bstr::BStr;
use hashbrown::HashTable;

use super::varint::{self, Input};

/// Longer strings are unlikely to occur twice.
const LEN_MAX: usize = 255;

/// What a string is used as: the same string tends to recur in the same role.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Vhost,
    Exchange,
    RoutingKey,
    Queue,
    Worker,
    Reason,
    Other,
}

const ROLE_COUNT: usize = 7;

#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    len: u32,
}

/// The strings of the page being written.
#[derive(Debug, Default)]
pub(super) struct Strings {
    /// As in the page: each preceded by its length.
    bytes: Vec<u8>,
    places: Vec<Place>,
    numbers: HashTable<u32>,
    /// The last string in each role, as its number + 1.
    recent: [u32; ROLE_COUNT],
    // Clients choose routing keys and worker names, so they must not be able to choose collisions.
    hasher: RandomState,
}

impl Strings {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.numbers.clear();
        self.recent = [0; ROLE_COUNT];
    }

    /// Appends a reference to a string.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, role: Role, text: &[u8]) {
        let recent = self.recent[role as usize];
        if recent > 0 && text_at(&self.bytes, self.places[recent as usize - 1]) == text {
            varint::put(out, u64::from(recent));
            return;
        }
        if text.len() > LEN_MAX {
            varint::put(out, 0);
            varint::put_bytes(out, text);
            return;
        }
        let number = self.number(text) + 1;
        self.recent[role as usize] = number;
        varint::put(out, u64::from(number));
    }

    fn number(&mut self, text: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (bytes, places) = (&mut self.bytes, &mut self.places);
        let is_it = |number: &u32| text_at(bytes, places[*number as usize]) == text;
        if let Some(number) = self.numbers.find(hash, is_it) {
            return *number;
        }
        let number = places.len() as u32;
        varint::put(bytes, text.len() as u64);
        places.push(Place { start: bytes.len() as u32, len: text.len() as u32 });
        bytes.extend_from_slice(text);
        let hasher = &self.hasher;
        let hash_of = |number: &u32| hasher.hash_one(text_at(bytes, places[*number as usize]));
        self.numbers.insert_unique(hash, number, hash_of);
        number
    }
}

fn text_at(bytes: &[u8], place: Place) -> &[u8] {
    &bytes[place.start as usize..][..place.len as usize]
}

/// All strings of a page.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<&BStr>> {
    let mut input = Input(bytes);
    let mut strings = Vec::new();
    while !input.is_empty() {
        strings.push(input.text()?);
    }
    Some(strings)
}

/// Reads a reference to a string.
pub(super) fn read<'a>(input: &mut Input<'a>, strings: &[&'a BStr]) -> Option<&'a BStr> {
    match input.small::<usize>()? {
        0 => input.text(),
        number => strings.get(number - 1).copied(),
    }
}
