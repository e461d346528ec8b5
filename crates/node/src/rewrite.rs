//! The few cases in which the broker changes a message's properties; everything else passes
//! unchanged.

use std::borrow::Cow;

use amqp::{BString, DecodeError, FieldValue, OwnedProperties};
use broker::Message;

/// The properties as a receiver sees them: without the header `BCC`, and with `x-delivery-count` for
/// the number of earlier deliveries, as RabbitMQ's quorum queues add it to redeliveries.
pub(crate) fn for_receiver(message: &Message, delivery_count: Option<u16>) -> Cow<'_, [u8]> {
    let has_bcc = message.head().has_bcc;
    if !has_bcc && delivery_count.is_none() {
        return Cow::Borrowed(message.properties_bytes());
    }
    let seen = edited(message.properties_bytes(), |properties| {
        let headers = properties.headers.get_or_insert_default();
        if has_bcc {
            headers.remove("BCC");
        }
        if let Some(count) = delivery_count {
            headers.insert("x-delivery-count", FieldValue::I64(i64::from(count)));
        }
    });
    // Properties that cannot be decoded were refused when they were published.
    seen.map_or(Cow::Borrowed(message.properties_bytes()), Cow::Owned)
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
