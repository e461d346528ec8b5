//! The few cases in which the broker changes a message's properties; everything else passes
//! unchanged.

use amqp::{BString, DecodeError, FieldValue, OwnedProperties};
use broker::Message;

/// The properties with `x-delivery-count`, as RabbitMQ's quorum queues add it to redeliveries.
pub(crate) fn with_delivery_count(message: &Message, count: u16) -> Vec<u8> {
    edited(message.properties_bytes(), |properties| {
        let headers = properties.headers.get_or_insert_default();
        headers.insert("x-delivery-count", FieldValue::I64(i64::from(count)));
    })
    // Properties that cannot be decoded were refused when they were published.
    .unwrap_or_else(|_| message.properties_bytes().to_vec())
}

/// The properties without the header `BCC`, which receivers must not see.
pub(crate) fn without_bcc(properties: &[u8]) -> Result<Vec<u8>, DecodeError> {
    edited(properties, |properties| {
        if let Some(headers) = &mut properties.headers {
            headers.remove("BCC");
        }
    })
}

/// The properties with another `reply_to`.
pub(crate) fn with_reply_to(properties: &[u8], reply_to: BString) -> Result<Vec<u8>, DecodeError> {
    edited(properties, |properties| properties.reply_to = Some(reply_to))
}

/// The properties with a `message_id`.
pub(crate) fn with_message_id(properties: &[u8], id: BString) -> Result<Vec<u8>, DecodeError> {
    edited(properties, |properties| properties.message_id = Some(id))
}

fn edited(bytes: &[u8], edit: impl FnOnce(&mut OwnedProperties)) -> Result<Vec<u8>, DecodeError> {
    let mut properties = OwnedProperties::decode(bytes)?;
    edit(&mut properties);
    let mut encoded = Vec::with_capacity(bytes.len() + 64);
    properties.encode(&mut encoded);
    Ok(encoded)
}
