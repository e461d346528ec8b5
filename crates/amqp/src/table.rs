//! An owned field table: arguments, client properties, headers that are built or changed.

use crate::value::with_length;
use crate::wire::Writer;
use crate::{DecodeError, FieldValue, TableRef};

/// Named values in the order they were added or read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldTable(Vec<(String, FieldValue)>);

impl FieldTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`, replacing the value it had.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<FieldValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Appends an entry without looking whether the name is there already.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<FieldValue>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of `name`: the first, if the sender gave several.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The value of `name`, to be changed in place.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut FieldValue> {
        self.0.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Whether there is an entry of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Takes every entry of that name out; returns the first value.
    pub fn remove(&mut self, name: &str) -> Option<FieldValue> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(key, _)| key != name);
        Some(value)
    }

    /// Entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes a table's content, without the length in front.
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        TableRef::new(content).to_table()
    }

    /// Appends the table with its length in front.
    pub fn encode_with_length(&self, out: &mut Vec<u8>) {
        with_length(out, |out| {
            for (name, value) in &self.0 {
                Writer::new(out).shortstr(name);
                value.encode(out);
            }
        });
    }
}

impl<N: Into<String>, V: Into<FieldValue>> FromIterator<(N, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl<N: Into<String>, V: Into<FieldValue>> Extend<(N, V)> for FieldTable {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, entries: I) {
        self.0.extend(entries.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
}

impl IntoIterator for FieldTable {
    type Item = (String, FieldValue);
    type IntoIter = std::vec::IntoIter<(String, FieldValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
