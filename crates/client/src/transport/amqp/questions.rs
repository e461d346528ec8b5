//! Questions that are not answered yet: asked again on the next socket, unless that would do something
//! twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::amqp::{FieldValue, OwnedProperties};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::super::{Answer, Question};
use super::AmqpTransport;
use super::link::{Consumer, ConsumerId, Delivery};
use crate::error::{Error, ErrorKind};

/// Questions that wait for something to happen, and others, that are under way at a time: a server lets a
/// connection have a hundred, and one kind does not keep out the other.
const WAITING_MAX: usize = 64;
const OTHERS_MAX: usize = 32;

/// See the module's documentation.
pub(super) struct Questions {
    unanswered: Mutex<HashMap<String, Unanswered>>,
    next: AtomicU64,
    waiting: Semaphore,
    others: Semaphore,
}

impl Default for Questions {
    fn default() -> Self {
        let (unanswered, next) = Default::default();
        let (waiting, others) = (Semaphore::new(WAITING_MAX), Semaphore::new(OTHERS_MAX));
        Self { unanswered, next, waiting, others }
    }
}

struct Unanswered {
    question: Question,
    /// On which socket it was asked.
    asked_on: Option<u64>,
    answer: oneshot::Sender<Answer>,
}

/// Forgets a question that nobody waits for any more.
struct Waiting<'a> {
    questions: &'a Questions,
    correlation_id: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.questions.unanswered.lock().remove(&self.correlation_id);
    }
}

impl Questions {
    /// An answer has come.
    pub(super) fn answered(&self, delivery: &Delivery) {
        let Ok(properties) = OwnedProperties::decode(&delivery.properties) else { return };
        let id = properties.correlation_id.and_then(|id| String::from_utf8(id.into()).ok());
        let status = properties.headers.as_ref().and_then(|headers| headers.get("x-status"));
        let status = status.and_then(FieldValue::as_i64).and_then(|it| u16::try_from(it).ok());
        let (Some(id), Some(status)) = (id, status) else { return };
        if let Some(unanswered) = self.unanswered.lock().remove(&id) {
            let _ = unanswered.answer.send(Answer { status, body: delivery.body.clone() });
        }
    }

    /// There will be no more answers.
    pub(super) fn close(&self) {
        self.unanswered.lock().clear();
    }
}

impl AmqpTransport {
    /// Asks, and waits for the answer.
    pub(super) async fn ask_and_wait(
        &self,
        question: Question,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let places = match question.subject {
            "outcome" => &self.questions.waiting,
            _ => &self.questions.others,
        };
        let place = tokio::time::timeout(timeout, places.acquire()).await;
        let _place = place.map_err(|_| {
            let text = format!("too many questions were under way for {timeout:?}; ask again");
            Error::new(ErrorKind::TimedOut, text)
        })?;
        let consuming = self.consuming().await?;
        let consume = || self.consume(consuming, Consumer::of_answers());
        let answers = self.consumptions.answers(consume)?;
        let correlation_id = self.questions.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { questions: &self.questions, correlation_id };
        let id = waiting.correlation_id.as_str();
        let (subject, body) = (question.subject, question.parameters.to_string());
        consuming.with(|link, _| {
            // Entered under the link's lock: neither its answer nor a new socket comes in between.
            let asked_on = link.ask(answers, subject, id, body.as_bytes());
            let unanswered = Unanswered { question, asked_on, answer: sender };
            self.questions.unanswered.lock().insert(id.to_owned(), unanswered);
        });
        let answer = tokio::time::timeout(timeout, answer).await.map_err(|_| {
            let trouble = consuming.trouble().unwrap_or_else(|| "no answer".to_owned());
            let text = format!("after {timeout:?}: {trouble}; check that the broker runs");
            Error::new(ErrorKind::Unreachable, text)
        })?;
        answer.map_err(|_| match consuming.is_closed() {
            true => Error::closed(),
            false => {
                let text = "the connection was lost before the answer; it may have been done, so \
                            look it up before you do it again";
                Error::new(ErrorKind::Unreachable, text)
            }
        })
    }

    /// There is a new socket; some may have been asked on it already.
    pub(super) fn ask_again(&self, answers: ConsumerId) {
        let Some(consuming) = self.consuming.get() else { return };
        consuming.with(|link, _| {
            let is_asked = |it: &Unanswered| it.asked_on == Some(link.epoch());
            let mut unanswered = self.questions.unanswered.lock();
            // What was asked on an earlier one may have been carried out.
            unanswered
                .retain(|_, it| is_asked(it) || it.asked_on.is_none() || it.question.is_repeatable);
            let again: Vec<_> = unanswered.iter_mut().filter(|(_, it)| !is_asked(it)).collect();
            for (id, it) in again {
                let body = it.question.parameters.to_string();
                it.asked_on = link.ask(answers, it.question.subject, id, body.as_bytes());
            }
        });
    }
}
