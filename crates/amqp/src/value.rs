//! One owned value of a field table or array.

use crate::FieldTable;
use crate::wire::Writer;

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
    /// A table or array that cannot be decoded (nested too deep, an unknown type or a cut value in
    /// it), carried on as it came. Only [`TableRef::to_headers`](crate::TableRef::to_headers) makes
    /// these.
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

    /// Appends type octet and value.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(v) => out.extend_from_slice(&[b't', u8::from(*v)]),
            Self::I8(v) => out.extend_from_slice(&[b'b', *v as u8]),
            Self::U8(v) => out.extend_from_slice(&[b'B', *v]),
            Self::I16(v) => tagged(out, b's', &v.to_be_bytes()),
            Self::U16(v) => tagged(out, b'u', &v.to_be_bytes()),
            Self::I32(v) => tagged(out, b'I', &v.to_be_bytes()),
            Self::U32(v) => tagged(out, b'i', &v.to_be_bytes()),
            Self::I64(v) => tagged(out, b'l', &v.to_be_bytes()),
            Self::F32(v) => tagged(out, b'f', &v.to_be_bytes()),
            Self::F64(v) => tagged(out, b'd', &v.to_be_bytes()),
            Self::Decimal { scale, value } => {
                out.extend_from_slice(&[b'D', *scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::LongString(v) => {
                out.push(b'S');
                Writer::new(out).longstr(v);
            }
            Self::Array(values) => {
                out.push(b'A');
                with_length(out, |out| values.iter().for_each(|value| value.encode(out)));
            }
            Self::Timestamp(v) => tagged(out, b'T', &v.to_be_bytes()),
            Self::Table(table) => {
                out.push(b'F');
                table.encode_with_length(out);
            }
            Self::Void => out.push(b'V'),
            Self::Bytes(v) => {
                out.push(b'x');
                Writer::new(out).longstr(v);
            }
            Self::Undecoded { octet, content } => {
                out.push(*octet);
                Writer::new(out).longstr(content);
            }
        }
    }
}

fn tagged(out: &mut Vec<u8>, octet: u8, bytes: &[u8]) {
    out.push(octet);
    out.extend_from_slice(bytes);
}

/// Appends what `body` writes, with its length in front.
pub(crate) fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
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
