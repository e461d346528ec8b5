//! Delivering to one webhook: in order, each outcome until it is taken or everything was tried.
//!
//! At least once: the cursor moves on after what was delivered, and is written down now and then, so a
//! crash repeats the last events, with the same `webhook-id`. A connection is kept from one to the
//! next; it goes with this task, which begins anew with every change of the webhook.

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

/// A connection without anything to deliver is closed after so long.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Pause before outcomes that could not be read are read again.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// What is posted.
#[derive(Serialize)]
struct Envelope<'a, T> {
    r#type: &'a str,
    timestamp: String,
    data: T,
}

/// Delivers to a webhook until it is disabled, deleted, or the server stops.
pub(crate) async fn run(webhooks: Webhooks, id: String) {
    while let Some(webhook) = webhooks.find(&id).filter(|webhook| webhook.enabled) {
        let follower = webhooks.follower(webhook.query(&*webhooks.ports().messages));
        if deliver_all(&webhooks, &webhook, follower).await.is_some() {
            // Disabled, or the server stops.
            return;
        }
        sleep(READ_AGAIN).await;
    }
}

/// `None`: to be begun again from where it stands.
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
        // Past what nobody wanted, too.
        if let Some(cursor) = follower.cursor() {
            webhooks.note(&webhook.id, |webhook| stand_at(webhook, cursor))?;
        }
    }
}

fn stand_at(webhook: &mut Webhook, cursor: &Cursor) {
    webhook.cursor = Some(cursor.to_string());
}

/// Delivers one event. `false`: the webhook is disabled, with the cursor before the event.
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
        // Before each attempt: what its user may see can have changed meanwhile.
        let Some(user) = Caller::absent(webhooks.ports(), &webhook.user) else {
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
            // So that a restart does not begin the schedule anew. What cannot be written now is
            // written, and complained of, later.
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

/// An event that is hidden from the webhook's user: whatever failed about it counts no more.
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

/// Signs and posts.
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

/// The body of a request.
pub(crate) fn envelope(name: &str, time_ms: u64, data: impl Serialize) -> Bytes {
    let envelope = Envelope { r#type: name, timestamp: rfc3339(time_ms), data };
    serde_json::to_vec(&envelope).unwrap_or_default().into()
}
