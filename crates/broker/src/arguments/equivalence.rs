//! Whether a second declaration means the same as the first, and RabbitMQ's error text if not.

use std::fmt::Display;

use amqp::{FieldTable, FieldValue};

use super::kinds::QueueType;
use crate::BrokerError;

/// What RabbitMQ compares for a classic queue, in its order, and then what only wilco accepts
/// there.
const CLASSIC: [&str; 25] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-queue-master-locator",
    "x-queue-leader-locator",
    "x-delivery-limit",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-message-deduplication",
    "x-cache-ttl",
    "x-retry-delay-min",
    "x-retry-delay-max",
    "x-notify",
    "x-confirm-on",
    "x-deadline",
];

/// The same for a quorum queue.
const QUORUM: [&str; 25] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    QUEUE_TYPE,
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
    "x-delayed-retry-type",
    "x-delayed-retry-min",
    "x-delayed-retry-max",
    "x-message-deduplication",
    "x-cache-ttl",
    "x-retry-delay-min",
    "x-retry-delay-max",
    "x-notify",
    "x-confirm-on",
    "x-deadline",
];

const QUEUE_TYPE: &str = "x-queue-type";

/// Compares the arguments that a redeclaration must repeat.
///
/// Integers are compared by value, not by width. `queue` is how the error names the queue.
///
/// # Errors
///
/// `PRECONDITION_FAILED` for the first argument that differs.
pub fn assert_equivalent(
    queue_type: QueueType,
    current: &FieldTable,
    received: &FieldTable,
    queue: &str,
) -> Result<(), BrokerError> {
    let keys = match queue_type {
        QueueType::Classic => &CLASSIC,
        QueueType::Quorum => &QUORUM,
    };
    keys.iter().try_for_each(|key| compare(key, current.get(key), received.get(key), queue))
}

/// One argument of a queue or an exchange.
pub(crate) fn compare(
    key: &str,
    current: Option<&FieldValue>,
    received: Option<&FieldValue>,
    subject: &str,
) -> Result<(), BrokerError> {
    match (current, received) {
        (None, None) => Ok(()),
        (Some(current), Some(received)) if same_value(current, received) => Ok(()),
        (Some(current), Some(received)) => Err(field_inequivalent(
            key,
            subject,
            &format!("'{}'", Erlang(received)),
            &format!("'{}'", Erlang(current)),
        )),
        // A queue without a declared type is classic.
        (None, Some(only)) | (Some(only), None)
            if key == QUEUE_TYPE && only.as_str() == Some("classic") =>
        {
            Ok(())
        }
        (current, received) => {
            Err(field_inequivalent(key, subject, &described(received), &described(current)))
        }
    }
}

/// The error for a field that differs; `received` and `current` as RabbitMQ prints them.
pub(crate) fn field_inequivalent(
    key: &str,
    subject: &str,
    received: &str,
    current: &str,
) -> BrokerError {
    BrokerError::precondition_failed(format!(
        "inequivalent arg '{key}' for {subject}: received {received} but current is {current}"
    ))
}

/// Compares a flag of a queue or an exchange.
pub(crate) fn compare_field<T: PartialEq + Display>(
    key: &str,
    current: T,
    received: T,
    subject: &str,
) -> Result<(), BrokerError> {
    if current == received {
        return Ok(());
    }
    Err(field_inequivalent(key, subject, &format!("'{received}'"), &format!("'{current}'")))
}

fn described(value: Option<&FieldValue>) -> String {
    match value {
        None => "none".to_owned(),
        Some(value) => format!("the value '{}' of type '{}'", Erlang(value), kind_name(value)),
    }
}

fn same_value(left: &FieldValue, right: &FieldValue) -> bool {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return left == right;
    }
    match (left, right) {
        (FieldValue::F32(left), FieldValue::F64(right))
        | (FieldValue::F64(right), FieldValue::F32(left)) => f64::from(*left) == *right,
        _ => left == right,
    }
}

/// RabbitMQ's name for the type of a field.
pub(crate) fn kind_name(value: &FieldValue) -> &'static str {
    match value {
        FieldValue::Bool(_) => "bool",
        FieldValue::I8(_) => "byte",
        FieldValue::U8(_) => "unsignedbyte",
        FieldValue::I16(_) => "short",
        FieldValue::U16(_) => "unsignedshort",
        FieldValue::I32(_) => "signedint",
        FieldValue::U32(_) => "unsignedint",
        FieldValue::I64(_) => "long",
        FieldValue::F32(_) => "float",
        FieldValue::F64(_) => "double",
        FieldValue::Decimal { .. } => "decimal",
        FieldValue::LongString(_) => "longstr",
        FieldValue::Array(_) => "array",
        FieldValue::Timestamp(_) => "timestamp",
        FieldValue::Table(_) => "table",
        FieldValue::Void => "void",
        FieldValue::Bytes(_) => "binary",
        // Arguments are decoded completely, so this never occurs here.
        FieldValue::Undecoded { .. } => "undecoded",
    }
}

/// A value, roughly as RabbitMQ prints it in an error text.
struct Erlang<'a>(&'a FieldValue);

impl Display for Erlang<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            FieldValue::Bool(value) => write!(f, "{value}"),
            FieldValue::F32(value) => write!(f, "{value:?}"),
            FieldValue::F64(value) => write!(f, "{value:?}"),
            FieldValue::Decimal { scale, value } => write!(f, "{{{scale},{value}}}"),
            FieldValue::LongString(bytes)
            | FieldValue::Bytes(bytes)
            | FieldValue::Undecoded { content: bytes, .. } => {
                f.write_str(&String::from_utf8_lossy(bytes))
            }
            FieldValue::Timestamp(seconds) => write!(f, "{seconds}"),
            FieldValue::Void => f.write_str("undefined"),
            FieldValue::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{{{},{}}}", kind_name(value), Erlang(value))?;
                }
                f.write_str("]")
            }
            FieldValue::Table(table) => {
                f.write_str("[")?;
                for (at, (name, value)) in table.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    write!(f, "{comma}{{{name},{},{}}}", kind_name(value), Erlang(value))?;
                }
                f.write_str("]")
            }
            integer => match integer.as_i64() {
                Some(number) => write!(f, "{number}"),
                None => f.write_str("?"),
            },
        }
    }
}
