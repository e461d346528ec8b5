//! Questions about messages, which clients publish to `amq.wilco.query`, and the way back to them.
//!
//! Owns the question and its answer. Never knows what is asked: whoever is told to
//! ([`Node::answer_queries`](crate::Node::answer_queries)) answers, on threads of its own.
//!
//! *Invariants:* a question is asked once and answered at most once, to whoever asked, on the connection
//! that asked. Nothing of it is stored.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use amqp::{BStr, BString, ByteSlice, Properties, TableRef, TableWriter};
use broker::Message;

use crate::auth::Identity;
use crate::registry::ConsumerHandle;

/// Questions of one session that may be unanswered at a time.
const UNANSWERED_MAX: usize = 100;

/// Answers questions.
pub trait Queries: Send + Sync {
    /// Takes a question; returns at once, and has it answered some time.
    fn ask(&self, question: Question);
}

/// A question, and the way back to who asked. One that is dropped is never answered.
pub struct Question {
    /// Who asks.
    pub who: Identity,
    /// The virtual host of the connection: what is asked is about its messages.
    pub vhost: Arc<str>,
    /// What is asked: the routing key.
    pub subject: String,
    /// The body.
    pub body: Vec<u8>,
    pub(crate) correlation_id: Option<BString>,
    pub(crate) asker: Weak<ConsumerHandle>,
    pub(crate) _place: Place,
}

/// A place among the unanswered questions of a session; free again when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// `None`: there are as many as there may be.
    pub(crate) fn take(unanswered: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(unanswered));
        // If it is one too many, dropping it takes it out again.
        (unanswered.fetch_add(1, Ordering::Relaxed) < UNANSWERED_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Question {
    /// Answers, with a status as in HTTP. Nobody is told if the asker is gone, or reads so slowly that
    /// there is no room for the answer.
    pub fn answer(self, status: u16, content_type: &str, body: &[u8]) {
        let Some(asker) = self.asker.upgrade() else { return };
        answer(&asker, self.correlation_id.as_ref(), status, content_type, body);
    }
}

/// Sends an answer to a consumer of direct reply-to.
pub(crate) fn answer(
    asker: &ConsumerHandle,
    correlation_id: Option<&BString>,
    status: u16,
    content_type: &str,
    body: &[u8],
) {
    let mut headers = Vec::new();
    TableWriter::new(&mut headers).integer("x-status", i64::from(status));
    let properties = Properties {
        content_type: Some(content_type.into()),
        headers: Some(TableRef::new(&headers)),
        correlation_id: correlation_id.map(|id| id.as_bstr()),
        kind: Some("answer".into()),
        ..Properties::default()
    };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let content = ("", BStr::new(""), encoded.as_slice(), body);
    asker.reply(&Message::new(0, &properties, content, &mut Vec::new()));
}
