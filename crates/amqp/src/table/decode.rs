//! Decoding: from borrowed tables and values to owned ones.
//!
//! Owns the limit on nesting, since nothing else recurses. Headers of messages need not be
//! understood: [`TableRef::to_headers`] keeps what it cannot decode.

use super::borrowed::{TableRef, ValueRef};
use super::owned::{FieldTable, FieldValue};
use crate::wire::Reader;
use crate::{DecodeError, MAX_DEPTH};

impl FieldTable {
    /// Decodes a table's content, without the length in front.
    pub fn decode(content: &[u8]) -> Result<Self, DecodeError> {
        TableRef::new(content).to_table()
    }
}

impl Reader<'_> {
    /// A table, with its length in front.
    pub(crate) fn table(&mut self) -> Result<FieldTable, DecodeError> {
        let length = u32::from_be_bytes(self.array("table")?);
        FieldTable::decode(self.take(length as usize, "table")?)
    }
}

impl TableRef<'_> {
    /// Decodes and copies the whole table.
    pub fn to_table(&self) -> Result<FieldTable, DecodeError> {
        self.to_table_at(0)
    }

    /// Decodes and copies a message's headers. A broker passes on what it need not understand: a
    /// value that cannot be decoded is kept as it came ([`FieldValue::Undecoded`]).
    ///
    /// # Errors
    /// If the bytes cannot even be split into entries.
    pub fn to_headers(&self) -> Result<FieldTable, DecodeError> {
        self.iter()
            .map(|entry| entry.map(|(name, value)| (name, value.to_owned_or_kept())))
            .collect()
    }

    fn to_table_at(self, depth: usize) -> Result<FieldTable, DecodeError> {
        self.iter()
            .map(|entry| entry.and_then(|(name, value)| Ok((name, value.to_owned_at(depth)?))))
            .collect()
    }
}

impl ValueRef<'_> {
    /// Decodes and copies the value with everything nested in it.
    pub fn to_owned(&self) -> Result<FieldValue, DecodeError> {
        self.to_owned_at(0)
    }

    fn to_owned_or_kept(self) -> FieldValue {
        let kept =
            |octet, content: &[u8]| FieldValue::Undecoded { octet, content: content.to_vec() };
        match (self.to_owned(), self) {
            (Ok(value), _) => value,
            (Err(_), Self::Table(table)) => kept(b'F', table.0),
            (Err(_), Self::Array(array)) => kept(b'A', array.0),
            // Only tables and arrays can fail to decode here.
            (Err(_), _) => FieldValue::Void,
        }
    }

    fn to_owned_at(self, depth: usize) -> Result<FieldValue, DecodeError> {
        if depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        Ok(match self {
            Self::Bool(v) => FieldValue::Bool(v),
            Self::I8(v) => FieldValue::I8(v),
            Self::U8(v) => FieldValue::U8(v),
            Self::I16(v) => FieldValue::I16(v),
            Self::U16(v) => FieldValue::U16(v),
            Self::I32(v) => FieldValue::I32(v),
            Self::U32(v) => FieldValue::U32(v),
            Self::I64(v) => FieldValue::I64(v),
            Self::F32(v) => FieldValue::F32(v),
            Self::F64(v) => FieldValue::F64(v),
            Self::Decimal { scale, value } => FieldValue::Decimal { scale, value },
            Self::LongString(v) => FieldValue::LongString(v.to_vec()),
            Self::Array(array) => FieldValue::Array(
                array
                    .iter()
                    .map(|value| value.and_then(|value| value.to_owned_at(depth + 1)))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Timestamp(v) => FieldValue::Timestamp(v),
            Self::Table(table) => FieldValue::Table(table.to_table_at(depth + 1)?),
            Self::Void => FieldValue::Void,
            Self::Bytes(v) => FieldValue::Bytes(v.to_vec()),
        })
    }
}
