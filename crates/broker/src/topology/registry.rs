//! Numbered places for values, and places found by name.
//!
//! *Invariant:* a place keeps its number until its value is removed; then it may be reused.
//! Iteration is in the order of places, so it is the same in every run.

use std::collections::HashMap;
use std::sync::Arc;

/// Values at numbered places.
#[derive(Debug, Clone)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(value);
                place
            }
            None => {
                self.places.push(Some(value));
                (self.places.len() - 1) as u32
            }
        }
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<T> {
        let value = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        Some(value)
    }

    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }
}

/// Named values, at numbered places.
#[derive(Debug, Clone)]
pub(super) struct Registry<T> {
    values: Slab<T>,
    // Clients choose the names: std's hasher keeps them from choosing collisions.
    names: HashMap<Arc<str>, u32>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self { values: Slab::default(), names: HashMap::new() }
    }
}

impl<T> Registry<T> {
    /// Adds a value under a name that is not taken.
    pub(super) fn insert(&mut self, name: Arc<str>, value: T) -> u32 {
        let place = self.values.insert(value);
        let taken = self.names.insert(name, place);
        debug_assert!(taken.is_none(), "the caller looked the name up before");
        place
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        self.values.remove(self.names.remove(name)?)
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    pub(super) fn get(&self, place: u32) -> Option<&T> {
        self.values.get(place)
    }

    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.values.get_mut(place)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }
}
