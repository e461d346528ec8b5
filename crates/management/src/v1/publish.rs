//! Publishing: `POST /v1/messages`, through a session of the caller's own, in confirm mode.
//!
//! *Never here:* permissions and limits of messages, which the session checks. No thread is held
//! while the store makes the message durable.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::task::Poll;
use std::time::Duration;

use amqp::{FieldTable, FieldValue, Method, OwnedProperties, ReplyCode};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::GeneralPurposeConfig;
use base64::engine::general_purpose::GeneralPurpose;
use broker::BrokerError;
use node::{Publish, Session, Wire, WireDelivery};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Json, Params, present, whole};
use crate::problem::{Answer, Kind, Problem};
use crate::v1::messages::{is_settled, settled_or_not, wait, watch};
use crate::v1::outcomes::json;
use crate::view::{MessageView, Own, Sight};

/// Base64 as anybody may write it: bits that mean nothing may have any value.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// The session's one channel.
const CHANNEL: u16 = 1;
/// How long the confirmation of the store is waited for.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a short string.
const SHORT_BYTES_MAX: usize = 255;
/// Headers of a message.
const HEADER_COUNT_MAX: usize = 100;
/// Nesting of headers.
const DEPTH_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishParams {
    vhost: Option<String>,
    wait: Option<u64>,
}

/// A message to publish.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    #[serde(default)]
    exchange: String,
    routing_key: String,
    #[serde(default, deserialize_with = "present")]
    message_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    correlation_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    content_type: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default, deserialize_with = "whole")]
    priority: Option<u8>,
    #[serde(default, deserialize_with = "whole")]
    expiration_ms: Option<u32>,
    #[serde(default, deserialize_with = "whole")]
    deadline_ms: Option<NonZeroU32>,
    #[serde(default = "yes")]
    persistent: bool,
    #[serde(default, deserialize_with = "present")]
    payload: Option<String>,
    #[serde(default, deserialize_with = "present")]
    payload_base64: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Serialize)]
struct Accepted<'a> {
    message_id: &'a str,
    routed: bool,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

#[derive(Serialize)]
struct Published {
    message_id: String,
    routed: bool,
    duplicate: bool,
    #[serde(flatten)]
    message: MessageView,
}

pub(crate) async fn publish(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(params): Params<PublishParams>,
    Json(request): Json<Request>,
) -> Answer {
    let sight = caller.sight(&app, params.vhost)?;
    let patience = wait(params.wait)?;
    if app.node().holds_publishers() {
        let detail = "the server is short of memory or disk and takes no messages right now";
        return Err(Problem::new(Kind::Busy, detail));
    }
    let outgoing = Outgoing::new(request)?;
    let id = outgoing.message_id.clone();
    let sent = outgoing.send(&app, sight.vhost(), &caller).await?;
    if params.wait.is_some()
        && let Some(response) = follow(&app, &sight, &id, patience, &sent).await?
    {
        return Ok(response);
    }
    let (state, outcome) =
        if sent.routed { ("queued", None) } else { ("settled", Some("unroutable")) };
    let accepted = Accepted { message_id: &id, routed: sent.routed, state, outcome };
    Ok((StatusCode::ACCEPTED, json(&accepted)).into_response())
}

/// What was sent.
struct Sent {
    /// Whether it reached a queue.
    routed: bool,
    /// As what it can be recognized, if anything can become of it.
    own: Option<Own>,
    is_duplicate: bool,
}

/// Waits for what becomes of what was published just now, which its publisher may know whatever
/// queues it went to; or of its original, if it is a duplicate and its publisher sees that. `None`:
/// there is nothing to show but that it was taken. Nothing is told of other publications.
async fn follow(
    app: &App,
    sight: &Sight,
    id: &str,
    patience: Duration,
    sent: &Sent,
) -> Answer<Option<Response>> {
    let (sight, duplicate) = match sent.own {
        Some(own) => (sight.of_own(own), false),
        None if sent.is_duplicate => (sight.clone(), true),
        None => return Ok(None),
    };
    // The original is the one that is the newest now, whatever is published meanwhile.
    let seen = app.look_now(&sight, id).await?;
    let Some(at) = seen.newest().map(|newest| newest.at) else { return Ok(None) };
    let seen = watch(app, &sight, id, patience, |seen| is_settled(seen.at(at))).await?.only(at);
    let Some(message) = MessageView::new(&seen) else { return Ok(None) };
    let (message_id, routed) = (id.to_owned(), sent.routed);
    let published = Published { message_id, routed, duplicate, message };
    Ok(Some(settled_or_not(seen.newest(), json(&published))))
}

/// A message that is fit to be published.
struct Outgoing {
    exchange: String,
    routing_key: String,
    message_id: String,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl Outgoing {
    fn new(request: Request) -> Answer<Self> {
        let body = match (request.payload, request.payload_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => BASE64
                .decode(text)
                .map_err(|error| Problem::bad(format!("payload_base64: {error}")))?,
            _ => return Err(Problem::bad("give one of payload and payload_base64")),
        };
        let message_id = match request.message_id {
            Some(id) if id.is_empty() => return Err(Problem::bad("message_id: it is empty")),
            Some(id) => short("message_id", id)?,
            None => uuid::Uuid::now_v7().to_string(),
        };
        if request.headers.len() > HEADER_COUNT_MAX {
            let detail = format!("headers: there may be {HEADER_COUNT_MAX}");
            return Err(Problem::bad(detail));
        }
        let mut headers = table(request.headers, 0)?;
        if let Some(deadline_ms) = request.deadline_ms {
            headers.insert("x-deadline", FieldValue::I64(i64::from(deadline_ms.get())));
        }
        let properties = OwnedProperties {
            content_type: optional("content_type", request.content_type)?,
            headers: (!headers.is_empty()).then_some(headers),
            delivery_mode: Some(if request.persistent { 2 } else { 1 }),
            priority: request.priority,
            correlation_id: optional("correlation_id", request.correlation_id)?,
            expiration: request.expiration_ms.map(|ms| ms.to_string()),
            message_id: Some(message_id.clone()),
            timestamp: Some(crate::time::now_ms() / 1000),
            ..OwnedProperties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        Ok(Self {
            exchange: short("exchange", request.exchange)?,
            routing_key: short("routing_key", request.routing_key)?,
            message_id,
            properties: encoded,
            body,
        })
    }

    /// Publishes it and waits until it is confirmed.
    async fn send(&self, app: &App, vhost: &str, caller: &Caller) -> Answer<Sent> {
        let bytes_max = app.node().message_bytes_max();
        if self.body.len() as u64 > bytes_max {
            let detail = format!("a message may have {bytes_max} bytes");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        let opened = app.node().open_session(vhost, caller.name(), Box::<Answers>::default());
        let mut session = Closing(opened.map_err(refused)?);
        let session = &mut session.0;
        session.open_channel(CHANNEL).map_err(refused)?;
        session.select_confirms(CHANNEL, true).map_err(refused)?;
        let publish = Publish {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            mandatory: true,
            properties: &self.properties,
            body: &self.body,
        };
        session.publish(CHANNEL, &publish).map_err(refused)?;
        if let Some((_, error)) = session.flush().into_iter().next() {
            return Err(refused(error));
        }
        let (own, is_duplicate) = (Own::of(session), session.placed().is_duplicate);
        let confirmed = tokio::time::timeout(CONFIRM_TIMEOUT, confirmed(session)).await;
        let answers = confirmed.map_err(|_| {
            let detail = "the store did not confirm the message within 30 seconds; it may yet be \
                          published";
            Problem::new(Kind::Busy, detail)
        })??;
        match answers.accepted {
            Some(false) => Err(Problem::new(
                Kind::Refused,
                "a queue that the message was routed to is full and refused it",
            )),
            _ => Ok(Sent { routed: !answers.returned, own, is_duplicate }),
        }
    }
}

/// Waits for the one confirm.
async fn confirmed(session: &mut Session) -> Answer<Answers> {
    poll_fn(|context| {
        session.outbox().register(context.waker());
        session.outbox().take_dirty();
        session.release_confirms();
        let seen = session.outbox().with_wire::<Answers, _>(|answers, _| *answers);
        if let Some(answers) = seen.filter(|answers| answers.accepted.is_some()) {
            return Poll::Ready(Ok(answers));
        }
        // Also tells a store that has failed.
        match session.is_settled_in_store() {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(Err(refused(error))),
        }
    })
    .await
}

/// A session that is closed in the end, come what may.
struct Closing(Session);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the node answers to one message.
#[derive(Debug, Clone, Copy, Default)]
struct Answers {
    accepted: Option<bool>,
    returned: bool,
}

impl Wire for Answers {
    fn send(&mut self, _: u16, method: &Method<'_>) {
        match method {
            Method::BasicAck(_) => self.accepted = Some(true),
            Method::BasicNack(_) => self.accepted = Some(false),
            _ => {}
        }
    }

    fn send_content(&mut self, _: u16, method: &Method<'_>, _: &[u8], _: &[u8]) {
        self.returned |= matches!(method, Method::BasicReturn(_));
    }

    fn deliver(&mut self, _: &WireDelivery<'_>) {}
}

/// The problem that a refusal of the broker is to a client.
fn refused(error: BrokerError) -> Problem {
    let kind = match error.reply_code() {
        ReplyCode::NotFound => Kind::UnknownExchange,
        ReplyCode::AccessRefused | ReplyCode::NotAllowed => Kind::Forbidden,
        ReplyCode::PreconditionFailed | ReplyCode::SyntaxError | ReplyCode::CommandInvalid => {
            Kind::BadRequest
        }
        ReplyCode::ContentTooLarge => Kind::TooLarge,
        ReplyCode::ResourceError | ReplyCode::ConnectionForced => Kind::Busy,
        _ => return Problem::store(error),
    };
    Problem::new(kind, error.to_string())
}

fn short(name: &str, text: String) -> Answer<String> {
    if text.len() <= SHORT_BYTES_MAX {
        return Ok(text);
    }
    Err(Problem::bad(format!("{name}: it is longer than {SHORT_BYTES_MAX} bytes of UTF-8")))
}

fn optional(name: &str, text: Option<String>) -> Answer<Option<String>> {
    text.map(|text| short(name, text)).transpose()
}

fn table(object: Map<String, Value>, depth: usize) -> Answer<FieldTable> {
    let mut table = FieldTable::new();
    for (name, value) in object {
        if name.len() > SHORT_BYTES_MAX {
            return Err(Problem::bad("headers: a name is longer than 255 bytes of UTF-8"));
        }
        table.insert(name, field(value, depth)?);
    }
    Ok(table)
}

fn field(value: Value, depth: usize) -> Answer<FieldValue> {
    if depth >= DEPTH_MAX {
        return Err(Problem::bad(format!("headers: they are nested deeper than {DEPTH_MAX}")));
    }
    Ok(match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => FieldValue::Bool(value),
        Value::String(text) => text.into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => FieldValue::I64(number),
            None => FieldValue::F64(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::Array(values) => {
            let fields = values.into_iter().map(|value| field(value, depth + 1));
            FieldValue::Array(fields.collect::<Answer<_>>()?)
        }
        Value::Object(object) => FieldValue::Table(table(object, depth + 1)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(body: &str) -> Result<(OwnedProperties, Outgoing), Kind> {
        let request: Request = serde_json::from_str(body).expect("a request");
        let outgoing = Outgoing::new(request).map_err(|problem| problem.kind())?;
        Ok((OwnedProperties::decode(&outgoing.properties).expect("properties"), outgoing))
    }

    #[test]
    fn a_request_becomes_a_message() {
        let (properties, outgoing) = outgoing(
            r#"{"routing_key": "q", "message_id": "m", "content_type": "text/plain", "priority": 3.0,
                "expiration_ms": 500, "deadline_ms": 1000, "payload_base64": "AQI=",
                "headers": {"a": 1, "b": [true, null, "x"], "c": {"d": 1.5}}}"#,
        )
        .expect("a message");
        assert_eq!((outgoing.body.as_slice(), outgoing.message_id.as_str()), (&[1, 2][..], "m"));
        assert_eq!(properties.delivery_mode, Some(2));
        assert_eq!(properties.expiration.as_deref(), Some("500"));
        let headers = properties.headers.expect("headers");
        assert_eq!(headers.get("x-deadline"), Some(&FieldValue::I64(1000)));
        assert_eq!(headers.get("a"), Some(&FieldValue::I64(1)));
        assert!(matches!(headers.get("b"), Some(FieldValue::Array(all)) if all.len() == 3));
        assert!(matches!(headers.get("c"), Some(FieldValue::Table(_))));
    }

    #[test]
    fn a_message_without_an_id_is_given_one_that_sorts_by_time() {
        let (first, _) = outgoing(r#"{"routing_key": "q", "payload": ""}"#).expect("a message");
        let (second, _) = outgoing(r#"{"routing_key": "q", "payload": ""}"#).expect("a message");
        assert!(first.message_id < second.message_id);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |body: &str| assert_eq!(outgoing(body).err(), Some(Kind::BadRequest), "{body}");
        check(r#"{"routing_key": "q"}"#);
        check(r#"{"routing_key": "q", "payload": "a", "payload_base64": "AQI="}"#);
        check(r#"{"routing_key": "q", "payload_base64": "?"}"#);
        check(r#"{"routing_key": "q", "payload": "a", "message_id": ""}"#);
        let long = "x".repeat(256);
        for name in ["routing_key", "exchange", "message_id", "correlation_id", "content_type"] {
            let mut body = serde_json::json!({"routing_key": "q", "payload": "a"});
            body[name] = long.clone().into();
            check(&body.to_string());
        }
        let deep = format!(
            r#"{{"routing_key": "q", "payload": "", "headers": {{"a": {}{}}}}}"#,
            "[".repeat(40),
            "]".repeat(40)
        );
        check(&deep);
        for wrong in [r#""deadline_ms": 0"#, r#""priority": 256"#, r#""priority": 1.5"#] {
            let body = format!(r#"{{"routing_key": "q", "payload": "", {wrong}}}"#);
            assert!(serde_json::from_str::<Request>(&body).is_err(), "{wrong}");
        }
        let unknown = serde_json::from_str::<Request>(r#"{"routing_key": "q", "body": "a"}"#);
        assert!(unknown.is_err());
    }
}
