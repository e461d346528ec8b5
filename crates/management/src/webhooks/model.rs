//! A webhook: what it is sent, and its status.

use serde::{Deserialize, Serialize};

use super::signature::Secret;
use crate::ports::{Messages, Outcome, OutcomeQuery, Settled, User};

/// How many outcomes are read at once.
const PAGE: usize = 100;

/// A webhook as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Webhook {
    pub id: String,
    pub url: String,
    pub secret: Secret,
    /// The administrator who created it or last changed it: it is sent what that user sees.
    #[serde(default)]
    pub user: String,
    /// Tells that user from others of its name.
    #[serde(default)]
    pub user_incarnation: u64,
    #[serde(default)]
    pub description: String,
    /// Only outcomes of this virtual host.
    #[serde(default)]
    pub vhost: Option<String>,
    /// Only outcomes in this queue.
    #[serde(default)]
    pub queue: Option<String>,
    /// Only these outcomes; empty for all.
    #[serde(default)]
    pub outcomes: Vec<String>,
    pub enabled: bool,
    pub created_at_ms: u64,
    /// Everything up to here has been delivered.
    #[serde(default)]
    pub cursor: Option<String>,
    #[serde(default)]
    pub status: Status,
}

/// The status of a webhook.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// Failed attempts to deliver the current event.
    pub failure_count: u32,
    /// What last went wrong.
    pub last_error: Option<String>,
    pub last_failure_at_ms: Option<u64>,
    pub last_success_at_ms: Option<u64>,
    pub next_attempt_at_ms: Option<u64>,
    /// Why it is disabled, unless a user disabled it.
    pub disabled_reason: Option<String>,
}

impl Webhook {
    /// The user whose sight it has.
    pub(crate) fn owner(&self) -> User {
        User { name: self.user.clone(), incarnation: self.user_incarnation }
    }

    /// It has this user's sight from now on.
    pub(crate) fn belong_to(&mut self, user: &User) {
        (self.user, self.user_incarnation) = (user.name.clone(), user.incarnation);
    }

    /// The outcomes that it may be sent, from its cursor on.
    pub(crate) fn query(&self, messages: &dyn Messages) -> OutcomeQuery {
        let only = match self.outcomes.as_slice() {
            [name] => Outcome::parse(name),
            _ => None,
        };
        OutcomeQuery {
            after: self.cursor.as_deref().and_then(|text| messages.cursor(text).ok()),
            limit: PAGE,
            vhost: self.vhost.clone(),
            queue: self.queue.clone(),
            outcome: only,
            since_ms: None,
            until_ms: None,
        }
    }

    /// Whether it wants an outcome that its query found.
    pub(crate) fn wants(&self, settled: &Settled<'_>) -> bool {
        let name = settled.verdict.outcome.name();
        self.outcomes.is_empty() || self.outcomes.iter().any(|wanted| wanted == name)
    }

    /// Disables it.
    pub(crate) fn disable(&mut self, reason: String) {
        self.enabled = false;
        self.status.disabled_reason = Some(reason);
    }

    #[cfg(test)]
    pub(crate) fn example(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            url: "https://example.com/".to_owned(),
            secret: Secret::generate().expect("random bytes"),
            user: "guest".to_owned(),
            user_incarnation: 0,
            description: String::new(),
            vhost: None,
            queue: None,
            outcomes: Vec::new(),
            enabled: true,
            created_at_ms: 0,
            cursor: None,
            status: Status::default(),
        }
    }
}
