//! Field tables left as bytes: read an entry without decoding or copying the rest.
//!
//! Decoding is lazy, so an error shows only when iteration reaches it. Iterating costs no stack,
//! however deep the nesting.

use bstr::BStr;

use crate::DecodeError;
use crate::wire::Reader;

/// An undecoded table: its content, without the length in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableRef<'a>(pub(super) &'a [u8]);

impl<'a> TableRef<'a> {
    /// Wraps a table's content. Nothing is checked yet.
    #[inline]
    pub fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The content.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether there are no entries.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Entries in order; ends after the first error.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = Result<(&'a BStr, ValueRef<'a>), DecodeError>> + use<'a> {
        let mut reader = Reader::new(self.0);
        walk(move || {
            if reader.rest().is_empty() {
                return None;
            }
            Some(reader.shortbytes().and_then(|name| Ok((name, read_value(&mut reader)?))))
        })
    }

    /// The first value of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Result<Option<ValueRef<'a>>, DecodeError> {
        for entry in self.iter() {
            let (key, value) = entry?;
            if key == name.as_ref() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// An undecoded array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArrayRef<'a>(pub(super) &'a [u8]);

impl<'a> ArrayRef<'a> {
    /// Elements in order; ends after the first error.
    pub fn iter(&self) -> impl Iterator<Item = Result<ValueRef<'a>, DecodeError>> + use<'a> {
        let mut reader = Reader::new(self.0);
        walk(move || if reader.rest().is_empty() { None } else { Some(read_value(&mut reader)) })
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Repeats `step` until it returns `None` or an error; after an error the position means nothing.
fn walk<T>(
    mut step: impl FnMut() -> Option<Result<T, DecodeError>>,
) -> impl Iterator<Item = Result<T, DecodeError>> {
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let item = step();
        failed = matches!(item, Some(Err(_)));
        item
    })
}

/// A value of an undecoded table: the borrowed counterpart of [`FieldValue`](crate::FieldValue).
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "documented at FieldValue")]
pub enum ValueRef<'a> {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal { scale: u8, value: u32 },
    LongString(&'a [u8]),
    Array(ArrayRef<'a>),
    Timestamp(u64),
    Table(TableRef<'a>),
    Void,
    Bytes(&'a [u8]),
}

impl<'a> ValueRef<'a> {
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
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::LongString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The bytes of a long string or byte array.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match *self {
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
    pub fn as_table(&self) -> Option<TableRef<'a>> {
        match *self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<ArrayRef<'a>> {
        match *self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }
}

fn read_value<'a>(reader: &mut Reader<'a>) -> Result<ValueRef<'a>, DecodeError> {
    const WHAT: &str = "field value";
    let octet = reader.octet()?;
    Ok(match octet {
        b'S' => ValueRef::LongString(reader.longstr()?),
        b'I' => ValueRef::I32(i32::from_be_bytes(reader.array(WHAT)?)),
        b'l' | b'L' => ValueRef::I64(i64::from_be_bytes(reader.array(WHAT)?)),
        b't' => ValueRef::Bool(reader.octet()? != 0),
        b'T' => ValueRef::Timestamp(reader.longlong()?),
        b'F' => ValueRef::Table(TableRef(reader.longstr()?)),
        b'A' => ValueRef::Array(ArrayRef(reader.longstr()?)),
        b'b' => ValueRef::I8(i8::from_be_bytes(reader.array(WHAT)?)),
        b'B' => ValueRef::U8(reader.octet()?),
        // `U` is the specification's octet for what RabbitMQ and all clients write as `s`.
        b's' | b'U' => ValueRef::I16(i16::from_be_bytes(reader.array(WHAT)?)),
        b'u' => ValueRef::U16(reader.short()?),
        b'i' => ValueRef::U32(reader.long()?),
        b'f' => ValueRef::F32(f32::from_be_bytes(reader.array(WHAT)?)),
        b'd' => ValueRef::F64(f64::from_be_bytes(reader.array(WHAT)?)),
        b'D' => ValueRef::Decimal { scale: reader.octet()?, value: reader.long()? },
        b'x' => ValueRef::Bytes(reader.longstr()?),
        b'V' => ValueRef::Void,
        other => return Err(DecodeError::BadFieldType(other)),
    })
}
