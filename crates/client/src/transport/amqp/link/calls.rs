//! Calls: what is asked of the broker and answered, one at a time.
//!
//! One at a time because an error closes the channel, and with it all that was asked behind. What was not
//! answered on one socket is asked again on the next, unless that would do more than was asked for; what
//! nobody waits for any more is not asked.

use std::collections::VecDeque;

use amqp::{FieldTable, Method};

use super::{CALLS, Event, Link, Refusal, Token};

/// Something to ask for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    /// Whether there is such a queue: not found (404) if not.
    Inspect(String),
    /// A durable queue, made if it is not there.
    Declare { queue: String, arguments: FieldTable },
    /// A durable exchange that spreads what it gets over all its queues, made if it is not there.
    DeclareTopic(String),
    /// Has a queue get what comes to an exchange with this key.
    Bind { queue: String, exchange: String, key: String },
    /// Removes the queue's messages.
    Purge(String),
    /// Removes the queue.
    Delete(String),
}

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Reply {
    /// Messages that are ready, or were removed.
    pub messages: u32,
    /// Consumers of the queue.
    pub consumers: u32,
}

/// Those that wait; the first has been asked if `is_asked`.
pub(super) struct Calls<C> {
    waiting: VecDeque<(Call, C)>,
    is_asked: bool,
}

impl<C> Default for Calls<C> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), is_asked: false }
    }
}

impl<C> Calls<C> {
    /// Returns the one that cannot be asked again, for it may have been carried out.
    pub(super) fn disconnected(&mut self) -> Option<C> {
        let was_asked = std::mem::take(&mut self.is_asked);
        let (call, _) = self.waiting.front()?;
        let once = matches!(call, Call::Purge(_) | Call::Delete(_));
        if was_asked && once { self.waiting.pop_front().map(|(_, token)| token) } else { None }
    }

    pub(super) fn take_all(&mut self) -> Vec<C> {
        self.waiting.drain(..).map(|(_, token)| token).collect()
    }
}

impl<P: Token, C: Token> Link<P, C> {
    /// Asks; the answer is an event. Once the link is closed, nothing is asked, and the token is
    /// dropped.
    pub(crate) fn call(&mut self, call: Call, token: C) {
        if self.is_closing {
            return;
        }
        self.calls.waiting.push_back((call, token));
        if self.is_open() {
            self.next_call();
        }
    }

    pub(super) fn next_call(&mut self) {
        if self.calls.is_asked {
            return;
        }
        while self.calls.waiting.front().is_some_and(|(_, token)| token.is_abandoned()) {
            self.calls.waiting.pop_front();
        }
        let Some((call, _)) = self.calls.waiting.front() else { return };
        amqp::write_method(&mut self.output, CALLS, &method(call));
        self.calls.is_asked = true;
    }

    pub(super) fn answered(&mut self, method: &Method<'_>) {
        let reply = match method {
            Method::QueueDeclareOk(ok) => {
                Reply { messages: ok.message_count, consumers: ok.consumer_count }
            }
            Method::QueuePurgeOk(ok) => Reply { messages: ok.message_count, consumers: 0 },
            Method::QueueDeleteOk(ok) => Reply { messages: ok.message_count, consumers: 0 },
            Method::ExchangeDeclareOk(_) | Method::QueueBindOk(_) => Reply::default(),
            other => return self.unexpected(other.name()),
        };
        self.call_is_over(Ok(reply));
    }

    pub(super) fn call_failed(&mut self, refusal: Refusal) {
        self.call_is_over(Err(refusal));
    }

    fn call_is_over(&mut self, result: Result<Reply, Refusal>) {
        if std::mem::take(&mut self.calls.is_asked)
            && let Some((_, token)) = self.calls.waiting.pop_front()
        {
            self.events.push(Event::Called { token, result });
        }
        self.next_call();
    }
}

fn method(call: &Call) -> Method<'_> {
    match call {
        Call::Inspect(queue) => {
            amqp::QueueDeclare { queue, passive: true, ..Default::default() }.into()
        }
        Call::Declare { queue, arguments } => {
            let arguments = arguments.clone();
            amqp::QueueDeclare { queue, durable: true, arguments, ..Default::default() }.into()
        }
        Call::DeclareTopic(exchange) => {
            let kind = "fanout";
            amqp::ExchangeDeclare { exchange, kind, durable: true, ..Default::default() }.into()
        }
        Call::Bind { queue, exchange, key } => {
            let routing_key = key.as_str();
            amqp::QueueBind { queue, exchange, routing_key, ..Default::default() }.into()
        }
        Call::Purge(queue) => amqp::QueuePurge { queue, no_wait: false }.into(),
        Call::Delete(queue) => amqp::QueueDelete { queue, ..Default::default() }.into(),
    }
}
