//! The JSON shapes of messages and outcomes, as `openapi.json` describes them.
//!
//! Owns names and forms. `Timeline` says what the story of a message is, module `sight` who sees
//! what of it: every view is made from what a caller has seen, and there is no other way.

mod entry;
mod outcome;
mod own;
mod seen;
mod sight;

use serde::Serialize;

use self::entry::EntryView;
use self::outcome::VerdictView;
use crate::ports::{Entry, Outcome, Publication, QueueStory, Worker};
use crate::time::rfc3339;

pub(crate) use self::outcome::OutcomeView;
pub(crate) use seen::Seen;
pub(crate) use sight::Sight;

/// The most earlier publications of an id that are shown, and the most entries of a timeline.
const EARLIER_MAX: usize = 100;
const ENTRIES_MAX: usize = 1000;

/// A message: its newest publication, and earlier ones.
#[derive(Serialize)]
pub(crate) struct MessageView {
    id: String,
    vhost: String,
    #[serde(flatten)]
    newest: PublicationView,
    /// Newest first; only the newest [`EARLIER_MAX`].
    earlier: Vec<PublicationView>,
}

/// One publication of a message.
#[derive(Serialize)]
pub(crate) struct PublicationView {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_at: Option<String>,
    queues: Vec<QueueView>,
    copies: Vec<CopyView>,
    timeline: Vec<EntryView>,
}

/// A dead-letter copy of a message.
#[derive(Serialize)]
struct CopyView {
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routing_key: Option<String>,
    queues: Vec<QueueView>,
}

/// A message in a queue.
#[derive(Serialize)]
struct QueueView {
    queue: String,
    state: &'static str,
    attempts: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    worker: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    worker_user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<String>,
    #[serde(flatten)]
    verdict: Option<VerdictView>,
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
}

impl MessageView {
    /// What a caller has seen of a message; `None` if that is nothing.
    pub(crate) fn new(seen: &Seen) -> Option<Self> {
        let publications = seen.timeline.publications.iter();
        let mut views = publications.map(|it| PublicationView::new(seen, it));
        let newest = views.next()?;
        let (id, vhost) = (seen.id.clone(), seen.vhost.clone());
        Some(Self { id, vhost, newest, earlier: views.take(EARLIER_MAX).collect() })
    }
}

impl PublicationView {
    fn new(seen: &Seen, publication: &Publication) -> Self {
        let copy = |copy: &Publication| CopyView {
            exchange: copy.published.as_ref().map(|it| it.exchange.clone().into_owned()),
            routing_key: copy.published.as_ref().and_then(|it| seen.routing_key(it)),
            queues: copy.queues.iter().map(QueueView::new).collect(),
        };
        let published = publication.published.as_ref();
        Self {
            state: publication.stage().name(),
            outcome: publication.outcome().map(Outcome::name),
            recovered: publication.is_recovered(),
            exchange: published.map(|it| it.exchange.clone().into_owned()),
            routing_key: published.and_then(|it| seen.routing_key(it)),
            body_bytes: published.map(|it| it.body_bytes),
            published_at: time(publication.published_at_ms),
            deadline_at: published.and_then(|it| time(it.deadline_at_ms)),
            queues: publication.queues.iter().map(QueueView::new).collect(),
            copies: publication.copies.iter().map(copy).collect(),
            timeline: last_entries(publication).map(|it| EntryView::new(seen, it)).collect(),
        }
    }
}

impl QueueView {
    fn new(story: &QueueStory) -> Self {
        let settled = story.settled.as_ref();
        Self {
            queue: story.name.clone(),
            state: story.stage.name(),
            attempts: story.attempts,
            worker: Worker::parse(&story.worker).name.to_owned(),
            worker_user: Worker::parse(&story.worker).user.to_owned(),
            retry_at: time(story.retry_at_ms),
            settled_at: settled.map(|(_, time_ms, _)| rfc3339(*time_ms)),
            verdict: settled.map(|(_, _, settled)| VerdictView::new(settled)),
            recovered: story.is_recovered,
            received_at: story.received_at_ms.map(rfc3339),
        }
    }
}

/// The latest entries of its timeline.
fn last_entries(publication: &Publication) -> impl Iterator<Item = &Entry> {
    let count = publication.entries.len();
    publication.entries.iter().skip(count.saturating_sub(ENTRIES_MAX))
}

/// A time; 0 stands for none.
fn time(ms: u64) -> Option<String> {
    (ms != 0).then(|| rfc3339(ms))
}

#[cfg(test)]
mod tests;
