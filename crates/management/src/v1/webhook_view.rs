//! The JSON shape of a webhook.

use serde::Serialize;

use crate::time::rfc3339;
use crate::webhooks::model::{Status, Webhook};

/// A webhook as it is shown.
#[derive(Serialize)]
pub(super) struct View {
    id: String,
    url: String,
    user: String,
    description: String,
    vhost: Option<String>,
    queue: Option<String>,
    outcomes: Vec<String>,
    enabled: bool,
    created_at: String,
    /// Only in the response that creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    has_secret: bool,
    cursor: Option<String>,
    status: StatusView,
}

#[derive(Serialize)]
struct StatusView {
    failure_count: u32,
    last_error: Option<String>,
    last_failure_at: Option<String>,
    last_success_at: Option<String>,
    next_attempt_at: Option<String>,
    disabled_reason: Option<String>,
}

impl View {
    pub(super) fn new(webhook: Webhook) -> Self {
        let Status { failure_count, last_error, disabled_reason, .. } = webhook.status;
        Self {
            id: webhook.id,
            url: webhook.url,
            user: webhook.user,
            description: webhook.description,
            vhost: webhook.vhost,
            queue: webhook.queue,
            outcomes: webhook.outcomes,
            enabled: webhook.enabled,
            created_at: rfc3339(webhook.created_at_ms),
            secret: None,
            has_secret: true,
            cursor: webhook.cursor,
            status: StatusView {
                failure_count,
                last_error,
                last_failure_at: webhook.status.last_failure_at_ms.map(rfc3339),
                last_success_at: webhook.status.last_success_at_ms.map(rfc3339),
                next_attempt_at: webhook.status.next_attempt_at_ms.map(rfc3339),
                disabled_reason,
            },
        }
    }

    /// The same with the secret, for the client that created the webhook.
    pub(super) fn with_secret(self, secret: String) -> Self {
        Self { secret: Some(secret), ..self }
    }
}
