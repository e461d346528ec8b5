//! A broker that is only a list of events: a second implementation of the ports, small and honest,
//! to show that nothing above them relies on the node.
//!
//! It has queues, the default exchange, one virtual host and one user. What becomes of a message is
//! up to the test.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use management::ports::{
    Access, Broker, Changed, Cursor, CursorError, Freshness, LoginRefused, MessageEvent, Messages,
    MessagesError, Outcome, OutcomeEvent, OutcomePage, OutcomeQuery, Outgoing, Placed, Published,
    PublishedQueue, Receipt, Settled, Source, User, What,
};
use outcome::{Details, Flags, Reason, Verdict};
use tokio::sync::watch;

const VHOST: &str = "/";

#[derive(Default)]
pub struct InMemory {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    queues: BTreeSet<String>,
    queued: Vec<Queued>,
    /// Messages that have failed, kept for another try.
    failed: Vec<Queued>,
    events: Vec<Recorded>,
}

#[derive(Clone)]
struct Queued {
    queue: String,
    published_at_ms: u64,
    message: Outgoing,
}

struct Recorded {
    id: String,
    time_ms: u64,
    what: What<'static>,
}

impl InMemory {
    pub fn declare(&self, queue: &str) {
        self.state().queues.insert(queue.to_owned());
    }

    pub fn message_count(&self) -> u64 {
        self.state().queued.len() as u64
    }

    /// Delivers the next message of a queue and settles it. Returns whether there was one.
    pub fn work(&self, queue: &str, outcome: Outcome) -> bool {
        let mut state = self.state();
        let Some(at) = state.queued.iter().position(|it| it.queue == queue) else { return false };
        let message = state.queued.remove(at);
        let (queue, worker) = (queue.to_owned().into(), "worker".into());
        state.record(&message.message.message_id, What::Delivered { queue, worker, attempt: 1 });
        state.settle(&message, outcome, None, 1);
        if outcome != Outcome::Processed {
            state.failed.push(message);
        }
        self.changed.send_replace(());
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl State {
    fn record(&mut self, id: &str, what: What<'static>) -> (Cursor, u64) {
        // No two events have the same time.
        let last_ms = self.events.last().map_or(0, |last| last.time_ms);
        let time_ms = super::now_ms().max(last_ms + 1);
        self.events.push(Recorded { id: id.to_owned(), time_ms, what });
        (cursor(self.events.len()), time_ms)
    }

    fn put(&mut self, queue: &str, message: Outgoing) -> Receipt {
        let published = Published {
            vhost: VHOST.into(),
            id: amqp::BString::from(message.message_id.clone()).into(),
            routing_key: amqp::BString::from(message.routing_key.clone()).into(),
            queues: vec![PublishedQueue { id: 0, name: queue.to_owned().into() }],
            body_bytes: message.body.len() as u32,
            ..Published::default()
        };
        let recorded = self.record(&message.message_id, What::Published(published));
        let (published, published_at_ms) = (Some(recorded.0), recorded.1);
        self.queued.push(Queued { queue: queue.to_owned(), published_at_ms, message });
        Receipt { published, published_at_ms }
    }

    fn settle(&mut self, of: &Queued, outcome: Outcome, reason: Option<Reason>, attempts: u16) {
        let verdict = Verdict {
            outcome,
            reason,
            attempts,
            queue_count: 1,
            published_at_ms: of.published_at_ms,
            flags: Flags::NONE,
        };
        let message_id = amqp::BString::from(of.message.message_id.clone()).into();
        let settled = Settled {
            vhost: VHOST.into(),
            queue: of.queue.clone().into(),
            verdict,
            details: Details { message_id, ..Details::default() },
            message: None,
        };
        self.record(&of.message.message_id, What::Settled(Box::new(settled)));
    }

    fn has_outcome(&self, queue: &str, id: &str) -> bool {
        let is_it = |what: &What<'_>| matches!(what, What::Settled(it) if it.queue == queue);
        self.events.iter().any(|event| event.id == id && is_it(&event.what))
    }
}

/// The cursor with this many events before it.
fn cursor(count: usize) -> Cursor {
    Cursor::new(format!("after:{count}"))
}

fn count(text: &str) -> Result<usize, CursorError> {
    let count = text.strip_prefix("after:").and_then(|count| count.parse().ok());
    count.ok_or_else(|| CursorError("a cursor looks like after:1".to_owned()))
}

fn matches(query: &OutcomeQuery, time_ms: u64, settled: &Settled<'_>) -> bool {
    query.vhost.as_ref().is_none_or(|vhost| *vhost == settled.vhost)
        && query.queue.as_ref().is_none_or(|queue| *queue == settled.queue)
        && query.outcome.is_none_or(|outcome| outcome == settled.verdict.outcome)
        && query.since_ms.is_none_or(|since_ms| time_ms >= since_ms)
        && query.until_ms.is_none_or(|until_ms| time_ms < until_ms)
}

#[async_trait]
impl Messages for InMemory {
    async fn publish(&self, _: &User, _: &str, message: Outgoing) -> Result<Placed, MessagesError> {
        if !message.exchange.is_empty() {
            let text = format!("no exchange '{}'", message.exchange);
            return Err(MessagesError::UnknownExchange(text));
        }
        let mut state = self.state();
        let routed = state.queues.contains(&message.routing_key);
        let receipt = if routed {
            let queue = message.routing_key.clone();
            state.put(&queue, message)
        } else {
            let published_at_ms = super::now_ms();
            let nowhere = Queued { queue: String::new(), published_at_ms, message };
            state.settle(&nowhere, Outcome::Unroutable, None, 0);
            Receipt { published: None, published_at_ms }
        };
        self.changed.send_replace(());
        Ok(Placed { routed, is_duplicate: false, receipt: Some(receipt) })
    }

    async fn events(
        &self,
        _: &str,
        id: &str,
        _: Freshness,
    ) -> Result<Vec<MessageEvent>, MessagesError> {
        let state = self.state();
        let all = state.events.iter().zip(1..).filter(|(event, _)| event.id == id);
        let told = |(event, nth): (&Recorded, usize)| MessageEvent {
            cursor: cursor(nth),
            time_ms: event.time_ms,
            what: event.what.clone(),
        };
        Ok(all.map(told).collect())
    }

    async fn outcomes(&self, query: OutcomeQuery) -> Result<OutcomePage, MessagesError> {
        let after = query.after.as_ref().map(|after| count(after.as_str())).transpose();
        let after = after.map_err(|error| MessagesError::Invalid(error.to_string()))?.unwrap_or(0);
        let state = self.state();
        let mut page = OutcomePage { next: query.after.clone(), ..OutcomePage::default() };
        for (event, nth) in state.events.iter().zip(1..).skip(after) {
            page.next = Some(cursor(nth));
            let What::Settled(settled) = &event.what else { continue };
            if matches(&query, event.time_ms, settled) {
                let (cursor, settled) = (cursor(nth), settled.clone());
                page.events.push(OutcomeEvent { cursor, time_ms: event.time_ms, settled });
            }
            if page.events.len() == query.limit.max(1) {
                page.has_more = nth < state.events.len();
                break;
            }
        }
        Ok(page)
    }

    async fn end(&self) -> Result<Option<Cursor>, MessagesError> {
        Ok(Some(self.state().events.len()).filter(|count| *count > 0).map(cursor))
    }

    fn beginning(&self) -> Cursor {
        cursor(0)
    }

    fn cursor(&self, text: &str) -> Result<Cursor, CursorError> {
        count(text).map(cursor)
    }

    fn changed(&self) -> Changed {
        let mut changed = self.changed.subscribe();
        Box::pin(async move {
            // An error means that the broker is gone; then nothing changes any more.
            let _ = changed.changed().await;
        })
    }

    async fn cancel(&self, _: &str, queue: &str, id: &str) -> Result<(), MessagesError> {
        let mut state = self.state();
        let is_it = |it: &Queued| it.queue == queue && it.message.message_id == id;
        let Some(at) = state.queued.iter().position(is_it) else {
            let is_settled = state.has_outcome(queue, id);
            return Err(if is_settled {
                MessagesError::AlreadySettled
            } else {
                MessagesError::Unknown
            });
        };
        let message = state.queued.remove(at);
        state.settle(&message, Outcome::Dropped, Some(Reason::Cancelled), 0);
        self.changed.send_replace(());
        Ok(())
    }

    async fn retry(&self, _: &User, _: &str, queue: &str, id: &str) -> Result<(), MessagesError> {
        let mut state = self.state();
        let is_it = |it: &Queued| it.queue == queue && it.message.message_id == id;
        let at = state.failed.iter().position(is_it).ok_or(MessagesError::NotFailed)?;
        let message = state.failed.remove(at).message;
        state.put(queue, message);
        self.changed.send_replace(());
        Ok(())
    }

    fn message_bytes_max(&self) -> u64 {
        1 << 20
    }

    fn may(&self, user: &str, vhost: &str, _: Access, _: &str) -> bool {
        user == "guest" && vhost == VHOST
    }
}

#[async_trait]
impl Broker for InMemory {
    async fn log_in(&self, _: Source, user: &str, password: &str) -> Result<User, LoginRefused> {
        match (user, password) {
            ("guest", "guest") => Ok(User { name: user.to_owned(), incarnation: 0 }),
            _ => Err(LoginRefused::Wrong),
        }
    }

    fn is_current(&self, user: &User) -> bool {
        user.name == "guest"
    }

    fn revoked(&self) -> Changed {
        // Nobody ever loses anything here.
        Box::pin(std::future::pending())
    }

    fn tags(&self, user: &str) -> Option<Vec<String>> {
        (user == "guest").then(|| vec!["administrator".to_owned()])
    }

    fn may_enter(&self, user: &str, vhost: &str) -> bool {
        user == "guest" && vhost == VHOST
    }

    fn has_history(&self) -> bool {
        false
    }
}
