//! What a binding of a headers exchange asks of a message's headers.
//!
//! Owns the rules: `x-match` says whether `all` (the default) or `any` of the binding's arguments
//! must be among the headers, ignoring those whose names begin with `x-` unless it says
//! `all-with-x` or `any-with-x`; `x-match` itself never counts; an argument of type void requires
//! only that the header is present. Values are compared as in RabbitMQ: integers of all widths as
//! numbers, floats of both widths as numbers, but no integer equals a float; texts and byte arrays as
//! bytes.
//!
//! *Invariant:* decodes no more of a header than the comparison needs; a match allocates nothing.

use amqp::{BStr, BString, ByteSlice, DecodeError, FieldTable, FieldValue, TableRef, ValueRef};

use crate::BrokerError;
use crate::arguments::kind_name;

/// Values nested deeper than this never compare equal.
const DEPTH_MAX: usize = amqp::MAX_DEPTH;

/// A binding's arguments, ready to be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadersMatch {
    /// Whether one match is enough; otherwise all must match.
    any: bool,
    /// The arguments that count.
    wanted: Vec<(BString, FieldValue)>,
}

impl HeadersMatch {
    /// Reads a binding's arguments.
    ///
    /// # Errors
    ///
    /// `PRECONDITION_FAILED` if `x-match` has another value or type, in RabbitMQ's words.
    pub fn parse(arguments: &FieldTable) -> Result<Self, BrokerError> {
        let (any, with_x) = match arguments.get("x-match") {
            None => (false, false),
            Some(FieldValue::LongString(value)) => match value.as_slice() {
                b"all" => (false, false),
                b"any" => (true, false),
                b"all-with-x" => (false, true),
                b"any-with-x" => (true, true),
                other => {
                    return Err(BrokerError::precondition_failed(format!(
                        "Invalid x-match field value <<\"{}\">>; \
                         expected all, any, all-with-x, or any-with-x",
                        String::from_utf8_lossy(other)
                    )));
                }
            },
            Some(other) => {
                let value = match other.as_i64() {
                    Some(number) => number.to_string(),
                    None => other.as_bool().map_or("?".to_owned(), |value| value.to_string()),
                };
                return Err(BrokerError::precondition_failed(format!(
                    "Invalid x-match field type {} (value {value}); expected longstr",
                    kind_name(other)
                )));
            }
        };
        let wanted = arguments
            .iter()
            .filter(|(name, _)| *name != "x-match" && (with_x || !name.starts_with(b"x-")))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        Ok(Self { any, wanted })
    }

    /// Whether the binding accepts a message with these headers.
    pub fn matches(&self, headers: &MessageHeaders<'_>) -> bool {
        let hit = |(name, wanted): &(BString, FieldValue)| {
            headers.get(name.as_bstr()).is_some_and(|found| value_matches(wanted, found))
        };
        if self.any { self.wanted.iter().any(hit) } else { self.wanted.iter().all(hit) }
    }
}

/// A message's headers, read once for all bindings of an exchange.
#[derive(Clone, Debug, Default)]
pub struct MessageHeaders<'a> {
    /// Sorted by name, each name once.
    entries: Vec<(&'a BStr, ValueRef<'a>)>,
}

impl<'a> MessageHeaders<'a> {
    /// Reads the headers' names and the outer layer of their values.
    ///
    /// # Errors
    ///
    /// What is wrong with the table's bytes; nested values are not decoded yet.
    pub fn read(headers: Option<TableRef<'a>>) -> Result<Self, DecodeError> {
        let Some(headers) = headers else { return Ok(Self::default()) };
        let mut entries = headers.iter().collect::<Result<Vec<_>, _>>()?;
        // If a name occurs twice, the last value counts: reversed, it comes first and is kept.
        entries.reverse();
        entries.sort_by_key(|(name, _)| *name);
        entries.dedup_by_key(|(name, _)| *name);
        Ok(Self { entries })
    }

    fn get(&self, name: &BStr) -> Option<&ValueRef<'a>> {
        let at = self.entries.binary_search_by_key(&name, |(name, _)| *name).ok()?;
        Some(&self.entries[at].1)
    }
}

/// Whether the value of a binding's argument accepts a header's.
fn value_matches(wanted: &FieldValue, found: &ValueRef<'_>) -> bool {
    matches!(wanted, FieldValue::Void) || equal(wanted, found, 0)
}

fn equal(wanted: &FieldValue, found: &ValueRef<'_>, depth: usize) -> bool {
    if depth >= DEPTH_MAX {
        return false;
    }
    match (wanted, found) {
        (FieldValue::Bool(wanted), ValueRef::Bool(found)) => wanted == found,
        (FieldValue::Void, ValueRef::Void) => true,
        (
            FieldValue::LongString(wanted) | FieldValue::Bytes(wanted),
            ValueRef::LongString(found) | ValueRef::Bytes(found),
        ) => wanted == found,
        (
            FieldValue::Decimal { scale, value },
            ValueRef::Decimal { scale: found_scale, value: found_value },
        ) => scale == found_scale && value == found_value,
        (FieldValue::Array(wanted), ValueRef::Array(found)) => {
            let mut found = found.iter();
            wanted.iter().all(|wanted| {
                matches!(found.next(), Some(Ok(found)) if equal(wanted, &found, depth + 1))
            }) && found.next().is_none()
        }
        (FieldValue::Table(wanted), ValueRef::Table(found)) => {
            let mut found = found.iter();
            wanted.iter().all(|(name, wanted)| {
                matches!(found.next(), Some(Ok((found_name, found)))
                    if name == found_name && equal(wanted, &found, depth + 1))
            }) && found.next().is_none()
        }
        (wanted, found) => match (wanted_number(wanted), found_number(found)) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => false,
        },
    }
}

/// A number of any width.
#[derive(Clone, Copy, PartialEq)]
enum Number {
    Integer(i128),
    Float(f64),
}

fn wanted_number(value: &FieldValue) -> Option<Number> {
    match value {
        FieldValue::F32(value) => Some(Number::Float(f64::from(*value))),
        FieldValue::F64(value) => Some(Number::Float(*value)),
        FieldValue::Timestamp(seconds) => Some(Number::Integer(i128::from(*seconds))),
        value => value.as_i64().map(|value| Number::Integer(i128::from(value))),
    }
}

fn found_number(value: &ValueRef<'_>) -> Option<Number> {
    match value {
        ValueRef::F32(value) => Some(Number::Float(f64::from(*value))),
        ValueRef::F64(value) => Some(Number::Float(*value)),
        ValueRef::Timestamp(seconds) => Some(Number::Integer(i128::from(*seconds))),
        value => value.as_i64().map(|value| Number::Integer(i128::from(value))),
    }
}

#[cfg(test)]
mod tests;
