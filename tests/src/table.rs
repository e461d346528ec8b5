//! Field tables on one line, for arguments and headers.

use lapin::types::{AMQPValue, FieldTable};

/// A table from name and value pairs.
pub fn table<const N: usize>(pairs: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert(name.into(), value);
    }
    table
}

/// A long string value.
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A signed 32-bit value, which is what most clients send for a number.
pub fn int(value: i32) -> AMQPValue {
    AMQPValue::LongInt(value)
}

/// An array of long strings.
pub fn texts(values: &[&str]) -> AMQPValue {
    AMQPValue::FieldArray(values.iter().map(|value| text(value)).collect::<Vec<_>>().into())
}

/// The number in a value of any integer width.
pub fn number(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(n) => Some((*n).into()),
        AMQPValue::ShortShortUInt(n) => Some((*n).into()),
        AMQPValue::ShortInt(n) => Some((*n).into()),
        AMQPValue::ShortUInt(n) => Some((*n).into()),
        AMQPValue::LongInt(n) => Some((*n).into()),
        AMQPValue::LongUInt(n) => Some((*n).into()),
        AMQPValue::LongLongInt(n) => Some(*n),
        _ => None,
    }
}

/// The text in a string value.
pub fn string(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
