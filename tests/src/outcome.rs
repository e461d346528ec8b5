//! Decoded outcome messages, and the ledger's view of them over HTTP.

use crate::{
    Broker, Json, PATIENCE, http,
    table::{number, string},
};
use lapin::{
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

/// An outcome message, as its headers describe it. [`Told::read`] fails on any other header, and on
/// one with a wrong type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `x-outcome`.
    pub outcome: String,
    /// `x-message-id`.
    pub message_id: String,
    /// `x-queue`.
    pub queue: String,
    /// `x-queues`.
    pub queue_count: i64,
    /// `x-reason`.
    pub reason: String,
    /// `x-attempts`.
    pub attempts: i64,
    /// `x-worker`.
    pub worker: Option<String>,
    /// `x-error`.
    pub error: Option<String>,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<String>,
    /// `x-result-bytes`.
    pub result_bytes: Option<i64>,
    /// `x-published-at`, ms since the epoch.
    pub published_at_ms: i64,
    /// `x-settled-at`, ms since the epoch.
    pub settled_at_ms: i64,
    /// `x-unverified`.
    pub is_unverified: bool,
    /// `x-late`.
    pub is_late: bool,
    /// `x-duplicate`.
    pub is_duplicate: bool,
}

/// All headers of outcome messages.
const NAMES: [&str; 16] = [
    "x-outcome",
    "x-message-id",
    "x-queue",
    "x-queues",
    "x-reason",
    "x-attempts",
    "x-worker",
    "x-worker-user",
    "x-error",
    "x-dead-letter-exchange",
    "x-result-bytes",
    "x-published-at",
    "x-settled-at",
    "x-unverified",
    "x-late",
    "x-duplicate",
];

impl Told {
    /// Decodes an outcome message.
    #[track_caller]
    pub fn read(delivery: &Delivery) -> Told {
        let properties = &delivery.properties;
        let kind = properties.kind().as_ref().map(|kind| kind.as_str());
        assert_eq!(kind, Some("outcome"), "{properties:?}");
        let headers = properties.headers().as_ref().expect("headers");
        for (name, _) in headers {
            assert!(NAMES.contains(&name.as_str()), "{name} in {headers:?}");
        }
        let text = |name| string_at(headers, name).unwrap_or_else(|| panic!("{name}: {headers:?}"));
        let integer =
            |name| number_at(headers, name).unwrap_or_else(|| panic!("{name}: {headers:?}"));
        let flag = |name: &str| match headers.inner().get(name) {
            None => false,
            Some(AMQPValue::Boolean(true)) => true,
            other => panic!("{name}: {other:?}"),
        };
        Told {
            outcome: text("x-outcome"),
            message_id: text("x-message-id"),
            queue: text("x-queue"),
            queue_count: integer("x-queues"),
            reason: text("x-reason"),
            attempts: integer("x-attempts"),
            worker: string_at(headers, "x-worker"),
            error: string_at(headers, "x-error"),
            dead_letter_exchange: string_at(headers, "x-dead-letter-exchange"),
            result_bytes: number_at(headers, "x-result-bytes"),
            published_at_ms: integer("x-published-at"),
            settled_at_ms: integer("x-settled-at"),
            is_unverified: flag("x-unverified"),
            is_late: flag("x-late"),
            is_duplicate: flag("x-duplicate"),
        }
    }
}

fn string_at(headers: &FieldTable, name: &str) -> Option<String> {
    let value = headers.inner().get(name)?;
    Some(string(value).unwrap_or_else(|| panic!("{name} is no text: {value:?}")))
}

fn number_at(headers: &FieldTable, name: &str) -> Option<i64> {
    let value = headers.inner().get(name)?;
    Some(number(value).unwrap_or_else(|| panic!("{name} is no integer: {value:?}")))
}

impl Broker {
    /// What the ledger knows about a message of the default virtual host; [`Json::Null`] if
    /// nothing.
    #[track_caller]
    pub fn message(&self, id: &str) -> Json {
        self.message_in("/", id)
    }

    /// The same for any virtual host.
    #[track_caller]
    pub fn message_in(&self, vhost: &str, id: &str) -> Json {
        let (vhost, id) = (http::escape(vhost), http::escape(id));
        let answer = self.http("GET", &format!("/v1/messages/{id}?vhost={vhost}"));
        match answer.status {
            200 => answer.json,
            404 => Json::Null,
            other => panic!("{other}: {:?}", answer.json),
        }
    }

    /// Waits until a message has its outcome everywhere; returns what the ledger knows about it
    /// then.
    #[track_caller]
    pub fn settled(&self, id: &str) -> Json {
        let wait_s = PATIENCE.as_secs();
        let path = format!("/v1/messages/{}/outcome?wait={wait_s}", http::escape(id));
        let mut found = Json::Null;
        // The ledger may not know the message yet.
        crate::eventually(&format!("message {id} is settled"), || {
            let answer = self.http("GET", &path);
            found = answer.json;
            answer.status == 200
        });
        found
    }

    /// The outcomes that the ledger lists for a queue, as far as it has followed the log; at most a
    /// thousand.
    #[track_caller]
    pub fn outcomes_of(&self, queue: &str) -> Vec<Json> {
        self.outcomes_where(&format!("queue={}", http::escape(queue)))
    }

    /// All outcomes in a virtual host.
    pub fn outcomes_in(&self, vhost: &str) -> Vec<Json> {
        self.outcomes_where(&format!("vhost={}", http::escape(vhost)))
    }

    fn outcomes_where(&self, query: &str) -> Vec<Json> {
        let answer = self.http("GET", &format!("/v1/outcomes?limit=1000&{query}"));
        assert_eq!(answer.status, 200, "{:?}", answer.json);
        answer.json["outcomes"].elements().to_vec()
    }
}
