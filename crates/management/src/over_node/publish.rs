//! Publishing through a session of the user's own, in confirm mode.
//!
//! *Never here:* permissions and limits of messages, which the session checks. No thread is held
//! while the store makes the message durable.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use amqp::{FieldTable, FieldValue, OwnedProperties, ReplyCode};
use broker::BrokerError;
use node::auth::Identity;
use node::{Node, Publish, Returned, Session, Sink};
use serde_json::{Map, Value};

use super::events::cursor;
use crate::ports::{MessagesError, Outgoing, Placed, Receipt};
use crate::time::now_ms;

/// The session's only channel.
const CHANNEL: u16 = 1;
/// How long to wait for the store's confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// See [`crate::ports::Messages::publish`].
pub(super) async fn publish(
    node: &Arc<Node>,
    user: &Identity,
    vhost: &str,
    message: Outgoing,
) -> Result<Placed, MessagesError> {
    if node.holds_publishers() {
        let text = "the server is short of memory or disk and takes no messages right now";
        return Err(MessagesError::Busy(text.to_owned()));
    }
    let bytes_max = node.message_bytes_max();
    if message.body.len() as u64 > bytes_max {
        let text = format!("a message may have {bytes_max} bytes");
        return Err(MessagesError::TooLarge(text));
    }
    if node::is_reserved_target(&message.exchange, message.routing_key.as_bytes()) {
        let text = "only workers, the broker and replies over AMQP publish there";
        return Err(MessagesError::ReservedTarget(text.to_owned()));
    }
    let opened = node.open_session_as(vhost, user, Box::<Answers>::default());
    let mut session = Closing(opened.map_err(refused)?);
    let session = &mut session.0;
    session.open_channel(CHANNEL).map_err(refused)?;
    session.select_confirms(CHANNEL).map_err(refused)?;
    // The answer says that it is on disk; for its outcome there are other calls.
    session.confirm_when_stored();
    if let Some(deduplicates) = message.deduplicate {
        session.deduplicate(deduplicates);
    }
    let Outgoing { exchange, routing_key, body, .. } = &message;
    let properties = properties(&message);
    let routing_key = routing_key.as_str().into();
    let publish = Publish { exchange, routing_key, mandatory: true, properties: &properties, body };
    session.publish(CHANNEL, &publish).map_err(refused)?;
    if let Some((_, error)) = session.flush().into_iter().next() {
        return Err(refused(error));
    }
    let placed = session.placed();
    let confirmed = tokio::time::timeout(CONFIRM_TIMEOUT, confirmed(session)).await;
    let answers = confirmed.map_err(|_| {
        let text = "the store did not confirm the message within 30 seconds; it may yet be \
                    published";
        MessagesError::Busy(text.to_owned())
    })??;
    if answers.accepted == Some(false) {
        return Err(MessagesError::Refused);
    }
    let is_duplicate = placed.is_duplicate;
    Ok(Placed { routed: !answers.returned, is_duplicate, receipt: receipt(placed) })
}

/// For a record of the log that is a message, the cursor of its first and only event.
fn receipt(placed: node::Placed) -> Option<Receipt> {
    let published = placed.position.map(|position| cursor(outcome::Cursor { position, nth: 0 }));
    Some(Receipt { published, published_at_ms: placed.published_at_ms? })
}

/// Waits for the only confirm.
async fn confirmed(session: &mut Session) -> Result<Answers, MessagesError> {
    poll_fn(|context| {
        session.outbox().register(context.waker());
        session.outbox().take_dirty();
        session.release_confirms();
        let seen = session.outbox().with_sink::<Answers, _>(|answers, _| *answers);
        if let Some(answers) = seen.filter(|answers| answers.accepted.is_some()) {
            return Poll::Ready(Ok(answers));
        }
        // Also reports a store that has failed.
        match session.is_settled_in_store() {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(refused(error))),
        }
    })
    .await
}

/// A session that is closed in the end, whatever happens.
struct Closing(Session);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the node answers for one message.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    accepted: Option<bool>,
    returned: bool,
}

impl Sink for Answers {
    fn confirmed(&mut self, _: u16, _: u64, _: bool) {
        self.accepted = Some(true);
    }

    fn refused(&mut self, _: u16, _: u64) {
        self.accepted = Some(false);
    }

    fn returned(&mut self, _: u16, _: &Returned<'_>) {
        self.returned = true;
    }
}

/// What a refusal by the broker means to a publisher.
fn refused(error: BrokerError) -> MessagesError {
    let text = error.to_string();
    match error.reply_code() {
        ReplyCode::NotFound => MessagesError::UnknownExchange(text),
        ReplyCode::AccessRefused | ReplyCode::NotAllowed => MessagesError::Forbidden(text),
        ReplyCode::PreconditionFailed | ReplyCode::SyntaxError | ReplyCode::CommandInvalid => {
            MessagesError::Invalid(text)
        }
        ReplyCode::ContentTooLarge => MessagesError::TooLarge(text),
        ReplyCode::ResourceError | ReplyCode::ConnectionForced => MessagesError::Busy(text),
        _ => MessagesError::Store(text),
    }
}

/// The message's properties, encoded.
fn properties(message: &Outgoing) -> Vec<u8> {
    let mut headers = table(&message.headers);
    if let Some(deadline_ms) = message.deadline_ms {
        headers.insert("x-deadline", FieldValue::I64(deadline_ms.get() as i64));
    }
    let properties = OwnedProperties {
        content_type: message.content_type.as_deref().map(Into::into),
        headers: (!headers.is_empty()).then_some(headers),
        delivery_mode: Some(if message.persistent { 2 } else { 1 }),
        priority: message.priority,
        correlation_id: message.correlation_id.as_deref().map(Into::into),
        expiration: message.expiration_ms.map(|ms| ms.to_string().into()),
        message_id: Some(message.message_id.as_str().into()),
        timestamp: Some(now_ms() / 1000),
        ..OwnedProperties::default()
    };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    encoded
}

fn table(object: &Map<String, Value>) -> FieldTable {
    let mut table = FieldTable::new();
    for (name, value) in object {
        table.insert(name.as_str(), field(value));
    }
    table
}

fn field(value: &Value) -> FieldValue {
    match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => FieldValue::Bool(*value),
        Value::String(text) => text.clone().into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => FieldValue::I64(number),
            None => FieldValue::F64(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::Array(values) => FieldValue::Array(values.iter().map(field).collect()),
        Value::Object(object) => FieldValue::Table(table(object)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_has_its_properties() {
        let headers = json!({"a": 1, "b": [true, null, "x"], "c": {"d": 1.5}});
        let message = Outgoing {
            message_id: "m".to_owned(),
            content_type: Some("text/plain".to_owned()),
            headers: headers.as_object().cloned().expect("an object"),
            priority: Some(3),
            expiration_ms: Some(500),
            deadline_ms: std::num::NonZeroU64::new(1000),
            persistent: true,
            ..Outgoing::default()
        };
        let properties = OwnedProperties::decode(&properties(&message)).expect("properties");
        assert_eq!(properties.delivery_mode, Some(2));
        assert_eq!(properties.priority, Some(3));
        assert_eq!(properties.message_id, Some("m".into()));
        assert_eq!(properties.content_type, Some("text/plain".into()));
        assert_eq!(properties.expiration, Some("500".into()));
        let headers = properties.headers.expect("headers");
        assert_eq!(headers.get("x-deadline"), Some(&FieldValue::I64(1000)));
        assert_eq!(headers.get("a"), Some(&FieldValue::I64(1)));
        assert!(matches!(headers.get("b"), Some(FieldValue::Array(all)) if all.len() == 3));
        assert!(matches!(headers.get("c"), Some(FieldValue::Table(_))));
    }
}
