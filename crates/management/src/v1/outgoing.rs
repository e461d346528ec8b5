//! A message as a client sends it: its form, and how it becomes one that a port accepts.

use std::num::NonZeroU64;

use base64::Engine;
use base64::engine::GeneralPurposeConfig;
use base64::engine::general_purpose::GeneralPurpose;
use outcome::DURATION_MS_MAX;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::extract::{present, whole};
use crate::ports::Outgoing;
use crate::problem::{Answer, Problem};

/// Base64 as anybody may write it: unused bits may have any value.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
/// The most bytes of a short string.
const SHORT_BYTES_MAX: usize = 255;
/// The most headers of a message.
const HEADER_COUNT_MAX: usize = 100;
/// How deep headers may be nested.
const DEPTH_MAX: usize = 16;

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
    expiration_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    deadline_ms: Option<NonZeroU64>,
    #[serde(default, deserialize_with = "present")]
    deduplicate: Option<bool>,
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

impl Request {
    /// The message, if it may be published.
    pub(super) fn checked(self) -> Answer<Outgoing> {
        let body = match (self.payload, self.payload_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => BASE64
                .decode(text)
                .map_err(|error| Problem::bad(format!("payload_base64: {error}")))?,
            _ => return Err(Problem::bad("give one of payload and payload_base64")),
        };
        within("expiration_ms", self.expiration_ms)?;
        within("deadline_ms", self.deadline_ms.map(NonZeroU64::get))?;
        let message_id = match self.message_id {
            Some(id) if id.is_empty() => return Err(Problem::bad("message_id: it is empty")),
            Some(id) => short("message_id", id)?,
            None => uuid::Uuid::now_v7().to_string(),
        };
        if self.headers.len() > HEADER_COUNT_MAX {
            let detail = format!("headers: there may be {HEADER_COUNT_MAX}");
            return Err(Problem::bad(detail));
        }
        for (name, value) in &self.headers {
            check_header(name, value, 0)?;
        }
        Ok(Outgoing {
            content_type: optional("content_type", self.content_type)?,
            correlation_id: optional("correlation_id", self.correlation_id)?,
            exchange: short("exchange", self.exchange)?,
            routing_key: short("routing_key", self.routing_key)?,
            message_id,
            headers: self.headers,
            priority: self.priority,
            expiration_ms: self.expiration_ms,
            deadline_ms: self.deadline_ms,
            deduplicate: self.deduplicate,
            persistent: self.persistent,
            body,
        })
    }
}

/// The same bound as for durations over AMQP.
fn within(name: &str, duration_ms: Option<u64>) -> Answer<()> {
    if duration_ms.is_some_and(|ms| ms > DURATION_MS_MAX) {
        return Err(Problem::bad(format!("{name}: it is more than {DURATION_MS_MAX}, ten years")));
    }
    Ok(())
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

fn check_header(name: &str, value: &Value, depth: usize) -> Answer<()> {
    if name.len() > SHORT_BYTES_MAX {
        return Err(Problem::bad("headers: a name is longer than 255 bytes of UTF-8"));
    }
    check_depth(value, depth)
}

fn check_depth(value: &Value, depth: usize) -> Answer<()> {
    if depth >= DEPTH_MAX {
        return Err(Problem::bad(format!("headers: they are nested deeper than {DEPTH_MAX}")));
    }
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| check_depth(value, depth + 1)),
        Value::Object(object) => {
            object.iter().try_for_each(|(name, value)| check_header(name, value, depth + 1))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;

    fn outgoing(body: &str) -> Result<Outgoing, Kind> {
        let request: Request = serde_json::from_str(body).expect("a request");
        request.checked().map_err(|problem| problem.kind())
    }

    #[test]
    fn a_request_becomes_a_message() {
        let outgoing = outgoing(
            r#"{"routing_key": "q", "message_id": "m", "content_type": "text/plain", "priority": 3.0,
                "expiration_ms": 500, "deadline_ms": 1000, "payload_base64": "AQI=",
                "headers": {"a": 1, "b": [true, null, "x"], "c": {"d": 1.5}}}"#,
        )
        .expect("a message");
        assert_eq!((outgoing.body.as_slice(), outgoing.message_id.as_str()), (&[1, 2][..], "m"));
        assert!(outgoing.persistent);
        assert_eq!((outgoing.priority, outgoing.expiration_ms), (Some(3), Some(500)));
        assert_eq!(outgoing.deadline_ms, NonZeroU64::new(1000));
        assert_eq!(outgoing.headers.len(), 3);
    }

    #[test]
    fn a_message_without_an_id_is_given_one_that_sorts_by_time() {
        let first = outgoing(r#"{"routing_key": "q", "payload": ""}"#).expect("a message");
        let second = outgoing(r#"{"routing_key": "q", "payload": ""}"#).expect("a message");
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
