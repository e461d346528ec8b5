//! Delivering to one webhook: in order, each outcome until it is accepted or all attempts have
//! failed.
//!
//! Delivers at least once: the cursor moves past each delivered event and is saved now and then, so
//! after a crash the last events are repeated, with the same `webhook-id`. The connection is kept
//! between events; it ends with this task, which starts anew whenever the webhook is changed.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::Webhooks;
use super::connection::Kept;
use super::endpoint::Endpoint;
use super::model::Webhook;
use super::schedule::{Attempt, Noted, note};
use crate::caller::Caller;
use crate::follow::Follower;
use crate::ports::{Cursor, OutcomeEvent};
use crate::time::{now_ms, rfc3339};
use crate::view::{OutcomeView, Sight};

/// A connection is closed after this long without anything to deliver.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long to pause before reading outcomes again that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// The body of a call.
#[derive(Serialize)]
struct Envelope<'a, T> {
    r#type: &'a str,
    timestamp: String,
    data: T,
}

/// Delivers to a webhook until it is disabled or deleted, or the server stops.
pub(crate) async fn run(webhooks: Webhooks, id: String) {
    while let Some(webhook) = webhooks.find(&id).filter(|webhook| webhook.enabled) {
        let follower = webhooks.follower(webhook.query(&*webhooks.ports().messages));
        if deliver_all(&webhooks, &webhook, follower).await.is_some() {
            // The webhook is disabled or deleted, or the server is stopping.
            return;
        }
        sleep(READ_AGAIN).await;
    }
}

/// `None`: the caller should start again from the webhook's cursor.
async fn deliver_all(webhooks: &Webhooks, webhook: &Webhook, mut follower: Follower) -> Option<()> {
    let mut connection = Kept::default();
    loop {
        match timeout(IDLE_MAX, follower.wait()).await {
            Ok(found) => found?,
            Err(_) => {
                connection.close();
                follower.wait().await?;
            }
        }
        for event in follower.take() {
            let is_wanted = webhook.wants(&event.settled);
            if is_wanted && !deliver(webhooks, webhook, &mut connection, &event).await {
                return Some(());
            }
        }
        // This also passes events that the webhook did not want.
        if let Some(cursor) = follower.cursor() {
            webhooks.note(&webhook.id, |webhook| stand_at(webhook, cursor))?;
        }
    }
}

fn stand_at(webhook: &mut Webhook, cursor: &Cursor) {
    webhook.cursor = Some(cursor.to_string());
}

/// Delivers one event. `false`: the webhook is disabled or deleted; its cursor is still before the
/// event.
async fn deliver(
    webhooks: &Webhooks,
    webhook: &Webhook,
    connection: &mut Kept,
    event: &OutcomeEvent,
) -> bool {
    let name = format!("outcome.{}", event.settled.verdict.outcome.name());
    let event_id = format!("evt_{}", event.cursor);
    loop {
        if let Some(at_ms) = webhooks.find(&webhook.id).and_then(|w| w.status.next_attempt_at_ms) {
            sleep(Duration::from_millis(at_ms.saturating_sub(now_ms()))).await;
        }
        // Looked up before each attempt: what the webhook's user may see can have changed
        // meanwhile.
        let Some(user) = Caller::absent(webhooks.ports(), webhook.owner()) else {
            let reason = format!("there is no administrator '{}' any more", webhook.user);
            tracing::warn!(id = webhook.id, url = webhook.url, "a webhook is disabled: {reason}");
            let _ = webhooks.update(&webhook.id, |webhook| webhook.disable(reason)).await;
            return false;
        };
        let sight = Sight::new(webhooks.ports(), &user, &event.settled.vhost);
        let Some(view) = OutcomeView::new(&sight, event) else {
            return pass_by(webhooks, &webhook.id);
        };
        let body = envelope(&name, event.time_ms, view);
        let attempt = attempt(webhooks, webhook, connection, &event_id, body).await;
        let is_delivered = matches!(attempt, Attempt::Delivered(_));
        let noted = webhooks.note(&webhook.id, |webhook| {
            if is_delivered {
                stand_at(webhook, &event.cursor);
            }
            note(webhook, attempt, webhooks.retry_delays())
        });
        if !is_delivered {
            // Saved now, so that a restart does not begin the schedule anew. If that fails, it is
            // saved, and the failure logged, later.
            let _ = webhooks.keep().await;
        }
        match noted {
            Some(Noted::Delivered) => return true,
            Some(Noted::TryAgain) => {}
            Some(Noted::Disabled) => {
                tracing::warn!(id = webhook.id, url = webhook.url, "a webhook is disabled");
                return false;
            }
            // Deleted.
            None => return false,
        }
    }
}

/// Passes an event that is hidden from the webhook's user: failed attempts for it no longer count.
fn pass_by(webhooks: &Webhooks, id: &str) -> bool {
    if webhooks.find(id).is_some_and(|webhook| webhook.status.failure_count == 0) {
        return true;
    }
    let begin_anew = |webhook: &mut Webhook| {
        webhook.status.failure_count = 0;
        webhook.status.next_attempt_at_ms = None;
    };
    webhooks.note(id, begin_anew).is_some()
}

/// Signs and posts an event.
pub(crate) async fn attempt(
    webhooks: &Webhooks,
    webhook: &Webhook,
    connection: &mut Kept,
    event_id: &str,
    body: Bytes,
) -> Attempt {
    let client = webhooks.client();
    let endpoint = match Endpoint::parse(&webhook.url, client.allows_private()) {
        Ok(endpoint) => endpoint,
        Err(reason) => return Attempt::Failed(reason.to_string(), None),
    };
    let timestamp_s = now_ms() / 1000;
    let headers = [
        ("webhook-id", event_id.to_owned()),
        ("webhook-timestamp", timestamp_s.to_string()),
        ("webhook-signature", webhook.secret.sign(event_id, timestamp_s, &body)),
    ];
    match client.post(connection, &endpoint, headers, body).await {
        Ok(status) if status.is_success() => Attempt::Delivered(status),
        Ok(StatusCode::GONE) => Attempt::Gone,
        Ok(status) => Attempt::Failed(format!("it answered {status}"), Some(status)),
        Err(reason) => Attempt::Failed(reason, None),
    }
}

/// The body of a call.
pub(crate) fn envelope(name: &str, time_ms: u64, data: impl Serialize) -> Bytes {
    let envelope = Envelope { r#type: name, timestamp: rfc3339(time_ms), data };
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}
