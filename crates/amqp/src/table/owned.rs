//! Owned field tables and values: arguments, client properties, and headers that are built or
//! changed.
//!
//! One module, because each type holds the other. Never touches encoded bytes.

use bstr::{BStr, BString, ByteSlice};

/// Named values in the order they were added or read. Names are mostly, but not always, UTF-8.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldTable(pub(super) Vec<(BString, FieldValue)>);

impl FieldTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`, replacing the value it had.
    pub fn insert(&mut self, name: impl Into<BString>, value: impl Into<FieldValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Appends an entry without checking whether the name is already there.
    pub fn push(&mut self, name: impl Into<BString>, value: impl Into<FieldValue>) {
        self.0.push((name.into(), value.into()));
    }

    /// The value of `name`: the first, if the sender gave several.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&FieldValue> {
        self.0.iter().find(|(key, _)| key == name.as_ref()).map(|(_, value)| value)
    }

    /// The value of `name`, to be changed in place.
    pub fn get_mut(&mut self, name: impl AsRef<[u8]>) -> Option<&mut FieldValue> {
        self.0.iter_mut().find(|(key, _)| key == name.as_ref()).map(|(_, value)| value)
    }

    /// Whether there is an entry of that name.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Removes every entry of that name; returns the first value.
    pub fn remove(&mut self, name: &str) -> Option<FieldValue> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(key, _)| key != name);
        Some(value)
    }

    /// Entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&BStr, &FieldValue)> {
        self.0.iter().map(|(name, value)| (name.as_bstr(), value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<BString>, V: Into<FieldValue>> FromIterator<(N, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl<N: Into<BString>, V: Into<FieldValue>> Extend<(N, V)> for FieldTable {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, entries: I) {
        self.0.extend(entries.into_iter().map(|(name, value)| (name.into(), value.into())));
    }
}

impl IntoIterator for FieldTable {
    type Item = (BString, FieldValue);
    type IntoIter = std::vec::IntoIter<(BString, FieldValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A field value, with the type octets RabbitMQ uses.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s` (`U` is read as well)
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` (`L` is read as well: signed, as RabbitMQ does)
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// Decimal places.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`: bytes that are mostly, but not always, UTF-8.
    LongString(Vec<u8>),
    /// `A`
    Array(Vec<FieldValue>),
    /// `T`: seconds since 1970.
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
    /// `x`
    Bytes(Vec<u8>),
    /// A table or array that cannot be decoded (nested too deep, an unknown type or a truncated
    /// value in it), passed on as it came. Only
    /// [`TableRef::to_headers`](crate::TableRef::to_headers) makes these.
    Undecoded {
        /// `F` or `A`.
        octet: u8,
        /// Its content, without the length in front.
        content: Vec<u8>,
    },
}

impl FieldValue {
    /// The value of any integer type.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I8(v) => Some(v.into()),
            Self::U8(v) => Some(v.into()),
            Self::I16(v) => Some(v.into()),
            Self::U16(v) => Some(v.into()),
            Self::I32(v) => Some(v.into()),
            Self::U32(v) => Some(v.into()),
            Self::I64(v) => Some(v),
            _ => None,
        }
    }

    /// The text of a long string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The bytes of a long string or byte array.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::LongString(bytes) | Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The value of a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The entries of a table.
    pub fn as_table(&self) -> Option<&FieldTable> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[FieldValue]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

macro_rules! from {
    ($($from:ty => $variant:ident,)*) => {$(
        impl From<$from> for FieldValue {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

from! {
    bool => Bool,
    i8 => I8,
    u8 => U8,
    i16 => I16,
    u16 => U16,
    i32 => I32,
    u32 => U32,
    i64 => I64,
    f32 => F32,
    f64 => F64,
    &str => LongString,
    String => LongString,
    BString => LongString,
    &[u8] => LongString,
    Vec<u8> => LongString,
    Vec<FieldValue> => Array,
    FieldTable => Table,
}

/// There is no unsigned 64-bit type on the wire: what exceeds `i64` becomes `i64::MAX`.
impl From<u64> for FieldValue {
    fn from(value: u64) -> Self {
        Self::I64(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
