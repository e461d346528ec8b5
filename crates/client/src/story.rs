//! What is known of a message by its id, asked from any process at any time.

use std::time::{Duration, SystemTime};

use ::outcome::{Outcome as Kind, Reason};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::outcome::{Details, Outcome, Settled};
use crate::target::Key;
use crate::transport::{Answer, Question};

/// How long the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that one question waits for an outcome, s.
const WAIT_S_MAX: u64 = 60;

/// What is known of a message: where it is, and what became of it there.
#[derive(Debug, Clone)]
pub struct Story {
    queues: Vec<InQueue>,
    json: Bytes,
}

/// A message in one of its queues.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InQueue {
    /// The queue.
    pub queue: String,
    /// How often a worker had it.
    pub attempts: u16,
    /// Who has it, or had it last, as the broker names it; may be empty.
    pub worker: String,
    /// Where it stands.
    pub stage: Stage,
    settled: Option<Settled>,
}

/// Where a message stands in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Delivered,
    /// It has its outcome.
    Settled,
}

impl Stage {
    /// Its name: `queued`, `delivered`, `settled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Settled => "settled",
        }
    }
}

impl Story {
    /// The message in each queue that it was routed to and that this user may read. If the id was sent
    /// several times, the latest in each queue.
    pub fn queues(&self) -> &[InQueue] {
        &self.queues
    }

    /// All that the broker says of it, as JSON: what `GET /v1/messages/{id}` answers.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    pub(crate) fn is_in_several_queues(&self) -> bool {
        self.queues.len() > 1
    }

    fn read(json: Bytes, id: &str) -> Result<Self, Error> {
        let read: StoryView = serde_json::from_slice(&json).map_err(|error| {
            Error::new(ErrorKind::Broker, format!("the broker's answer cannot be read: {error}"))
        })?;
        let mut queues: Vec<InQueue> = Vec::new();
        // The newest first.
        for publication in std::iter::once(read.newest).chain(read.earlier) {
            let published_at = time(publication.published_at.as_deref());
            for view in publication.queues {
                if queues.iter().all(|it| it.queue != view.queue) {
                    queues.push(view.in_queue(id, published_at));
                }
            }
        }
        Ok(Self { queues, json })
    }
}

impl InQueue {
    /// What became of it, if that is known.
    pub fn outcome<R, C>(&self) -> Option<Outcome<R, C>> {
        self.settled.as_ref().map(Outcome::from_settled)
    }
}

/// The part of the broker's answer that is read here.
#[derive(Deserialize)]
struct StoryView {
    #[serde(flatten)]
    newest: PublicationView,
    #[serde(default)]
    earlier: Vec<PublicationView>,
}

#[derive(Deserialize)]
struct PublicationView {
    published_at: Option<String>,
    queues: Vec<QueueView>,
}

#[derive(Deserialize)]
struct QueueView {
    queue: String,
    state: String,
    attempts: u16,
    #[serde(default)]
    worker: String,
    settled_at: Option<String>,
    outcome: Option<String>,
    reason: Option<String>,
    error: Option<String>,
    result: Option<String>,
    result_base64: Option<String>,
    #[serde(default)]
    unverified: bool,
    #[serde(default)]
    late: bool,
}

impl QueueView {
    fn in_queue(self, id: &str, published_at: SystemTime) -> InQueue {
        let stage = match self.state.as_str() {
            "delivered" => Stage::Delivered,
            "settled" => Stage::Settled,
            _ => Stage::Queued,
        };
        let kind = self.outcome.as_deref().and_then(Kind::parse);
        let settled = kind.map(|kind| self.settled(kind, id, published_at));
        let Self { queue, attempts, worker, .. } = self;
        InQueue { queue, attempts, worker, stage, settled }
    }

    fn settled(&self, kind: Kind, id: &str, published_at: SystemTime) -> Settled {
        let base64 = self.result_base64.as_deref().and_then(|text| STANDARD.decode(text).ok());
        let result = base64.or_else(|| self.result.clone().map(String::into_bytes));
        Settled {
            kind,
            key: Key::of_outcome(&self.queue, id, None),
            details: Details {
                id: id.to_owned(),
                queue: self.queue.clone(),
                attempts: self.attempts,
                reason: self.reason.as_deref().and_then(Reason::parse).map(Reason::name),
                worker: self.worker.clone(),
                published_at,
                settled_at: time(self.settled_at.as_deref()),
                is_late: self.late,
                is_unverified: self.unverified,
                is_duplicate: false,
                queue_count: 0,
                traceparent: None,
            },
            result: result.unwrap_or_default().into(),
            cut_from: None,
            error: self.error.clone().unwrap_or_default(),
        }
    }
}

fn time(text: Option<&str>) -> SystemTime {
    let parsed = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

/// Nothing is known of an id that no message can have.
fn can_be(id: &str) -> bool {
    (1..=255).contains(&id.len())
}

/// Asks for a message's story, and the more for a queue that is named; `None` if nothing is known of the id.
pub(crate) async fn look_up(
    connection: &Connection,
    id: &str,
    queue: Option<&str>,
) -> Result<Option<Story>, Error> {
    if !can_be(id) {
        return Ok(None);
    }
    let (parameters, queue) = (json!({ "id": id }), queue.map(str::to_owned));
    let question = Question { subject: "message", parameters, queue, is_repeatable: true };
    read(&connection.transport.ask(question, ANSWER_TIMEOUT).await?, id)
}

/// The same, once it is settled in all queues, or after so long.
pub(crate) async fn settled_within(
    connection: &Connection,
    id: &str,
    queue: &str,
    wait: Duration,
) -> Result<Option<Story>, Error> {
    if !can_be(id) {
        return Ok(None);
    }
    let is_waiting = !wait.is_zero();
    let wait_s = wait.as_secs().saturating_add(u64::from(is_waiting)).min(WAIT_S_MAX);
    let parameters = json!({ "id": id, "wait": wait_s });
    let queue = Some(queue.to_owned());
    let question = Question { subject: "outcome", parameters, queue, is_repeatable: true };
    let timeout = ANSWER_TIMEOUT + Duration::from_secs(wait_s);
    read(&connection.transport.ask(question, timeout).await?, id)
}

fn read(answer: &Answer, id: &str) -> Result<Option<Story>, Error> {
    match answer.status {
        200 | 202 => Story::read(answer.body.clone(), id).map(Some),
        404 => Ok(None),
        _ => Err(refused(answer)),
    }
}

/// Has something done with a message: `retry` or `cancel`.
pub(crate) async fn change(
    connection: &Connection,
    subject: &'static str,
    id: &str,
    queue: Option<&str>,
) -> Result<(), Error> {
    if !can_be(id) {
        return Err(Error::new(
            ErrorKind::NotFound,
            "an id has 1 to 255 bytes, so nobody knows this one",
        ));
    }
    let parameters = match queue {
        Some(queue) => json!({ "id": id, "queue": queue }),
        None => json!({ "id": id }),
    };
    let queue = queue.map(str::to_owned);
    let question = Question { subject, parameters, queue, is_repeatable: false };
    let answer = connection.transport.ask(question, ANSWER_TIMEOUT).await?;
    if answer.status == 204 { Ok(()) } else { Err(refused(&answer)) }
}

/// What the broker says is wrong.
fn refused(answer: &Answer) -> Error {
    let kind = match answer.status {
        403 => ErrorKind::Forbidden,
        404 | 410 => ErrorKind::NotFound,
        501 => ErrorKind::Unsupported,
        503 => ErrorKind::Refused,
        _ => ErrorKind::Broker,
    };
    let problem: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let text =
        detail.map_or_else(|| format!("the broker answers {}", answer.status), str::to_owned);
    Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Raw;

    #[test]
    fn a_story_is_read_as_the_broker_tells_it() {
        let json = r#"{"id":"a","vhost":"/","state":"delivered","recovered":false,
            "published_at":"2026-11-30T12:00:00.25Z","queues":[
            {"queue":"mail","state":"delivered","attempts":1,"worker":"w","recovered":false},
            {"queue":"stock","state":"settled","attempts":2,"outcome":"processed","reason":"acked",
             "result_base64":"AP8=","settled_at":"2026-11-30T12:00:01Z","late":true,"new":1}],
            "earlier":[{"queues":[{"queue":"mail","state":"settled","attempts":9},
             {"queue":"bill","state":"queued","attempts":0}]}]}"#;
        let story = Story::read(json.into(), "a").expect("a good answer");
        let [mail, stock, bill] = story.queues() else { panic!("{story:?}") };
        assert_eq!((&*bill.queue, bill.stage), ("bill", Stage::Queued));
        assert_eq!((&*mail.queue, mail.stage, &*mail.worker), ("mail", Stage::Delivered, "w"));
        assert!(mail.outcome::<Bytes, Raw>().is_none());
        let outcome = stock.outcome::<Bytes, Raw>().expect("it is settled");
        let done = outcome.processed().expect("processed");
        assert_eq!((&done.body()[..], done.attempts, done.is_late), (&[0, 255][..], 2, true));
        let took = done.settled_at.duration_since(done.published_at).expect("later");
        assert_eq!((took, done.reason), (Duration::from_millis(750), Some("acked")));
        assert!(Story::read("[]".into(), "a").is_err());
    }
}
