//! Publishing with confirms, over any number of sockets.
//!
//! All that is published and not confirmed stands in one queue, in order. On each socket the channel
//! numbers what is published from 1 on, and the queue is published anew from its beginning, so the
//! numbers on a socket are consecutive along the queue.
//!
//! An error closes the channel and says neither which message was wrong nor what became of those behind
//! it. So after an error each that is not confirmed is published by itself, until all have been through:
//! the one during which the channel closes again is the one that is refused.

use std::collections::VecDeque;

use amqp::{BStr, ByteSlice, Properties, write_body, write_content_header};
use bytes::Bytes;

use super::{Event, Link, PUBLISHING, Refusal, Token};

/// What may wait to be written: what goes beyond stays in the queue until there is room.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// `NO_ROUTE`
const NO_ROUTE: u16 = 312;

/// A message to publish. It has a message id among its properties.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub exchange: Box<str>,
    pub routing_key: Box<str>,
    /// Encoded.
    pub properties: Bytes,
    pub body: Bytes,
}

impl Publish {
    fn message_id(&self) -> Option<&BStr> {
        Properties::decode(&self.properties).ok()?.message_id
    }
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// It reached a queue.
    pub is_routed: bool,
}

struct Unconfirmed<P> {
    publish: Publish,
    is_returned: bool,
    /// `None` once it is confirmed and waits for those before it to leave the queue.
    token: Option<P>,
}

pub(super) struct Publishing<P> {
    queue: VecDeque<Unconfirmed<P>>,
    /// The number that the first in the queue has on this socket.
    first_number: u64,
    /// How many of the queue have been published on this socket.
    sent: usize,
    /// How many from the front are published by themselves, because one of them is wrong.
    suspects: usize,
}

impl<P> Default for Publishing<P> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), first_number: 1, sent: 0, suspects: 0 }
    }
}

impl<P> Publishing<P> {
    pub(super) fn disconnected(&mut self) {
        self.forget_confirmed();
        (self.first_number, self.sent) = (1, 0);
    }

    pub(super) fn take_all(&mut self) -> Vec<P> {
        (self.sent, self.suspects) = (0, 0);
        self.queue.drain(..).filter_map(|unconfirmed| unconfirmed.token).collect()
    }

    /// Only those stay that are not confirmed.
    fn forget_confirmed(&mut self) {
        let suspects = self.queue.iter().take(self.suspects);
        self.suspects = suspects.filter(|unconfirmed| unconfirmed.token.is_some()).count();
        self.queue.retain_mut(|unconfirmed| {
            unconfirmed.is_returned = false;
            unconfirmed.token.is_some()
        });
    }

    /// How many of the queue may be under way.
    fn limit(&self) -> usize {
        if self.suspects > 0 { 1 } else { self.queue.len() }
    }
}

impl<P: Token, C: Token> Link<P, C> {
    /// Publishes; the event `Published` says that the broker has it. Once the link is closed, nothing
    /// is taken, and the token is dropped.
    pub(crate) fn publish(&mut self, publish: Publish, token: P) {
        if self.is_closing {
            return;
        }
        let unconfirmed = Unconfirmed { publish, is_returned: false, token: Some(token) };
        self.publishing.queue.push_back(unconfirmed);
        if self.is_open() {
            self.publish_more();
        }
    }

    pub(super) fn start_publishing(&mut self) {
        self.send(PUBLISHING, amqp::ChannelOpen {});
        self.send(PUBLISHING, amqp::ConfirmSelect { no_wait: false });
        self.publish_more();
    }

    /// Publishes what may be under way and is not. What nobody waits for any more is not published (again):
    /// its sender has been told that it may or may not have been.
    pub(super) fn publish_more(&mut self) {
        while self.publishing.sent < self.publishing.limit() && self.output.len() < OUTPUT_BYTES_MAX
        {
            let at = self.publishing.sent;
            if self.publishing.queue[at].token.as_ref().is_some_and(Token::is_abandoned) {
                self.publishing.queue.remove(at);
                if at < self.publishing.suspects {
                    self.publishing.suspects -= 1;
                }
                continue;
            }
            let publish = &self.publishing.queue[self.publishing.sent].publish;
            let method = amqp::BasicPublish {
                exchange: publish.exchange.as_bytes().as_bstr(),
                routing_key: publish.routing_key.as_bytes().as_bstr(),
                mandatory: true,
                immediate: false,
            };
            amqp::write_method(&mut self.output, PUBLISHING, &method.into());
            let Publish { properties, body, .. } = publish;
            write_content_header(&mut self.output, PUBLISHING, body.len() as u64, properties);
            write_body(&mut self.output, PUBLISHING, body, self.frame_max);
            self.publishing.sent += 1;
        }
    }

    pub(super) fn confirmed(&mut self, number: u64, is_multiple: bool, is_accepted: bool) {
        let publishing = &mut self.publishing;
        let end = publishing.first_number + publishing.sent as u64;
        let last = if number == 0 && is_multiple { end - 1 } else { number };
        if last >= end {
            return self.unexpected("a confirm of what was not published");
        }
        let first = if is_multiple { publishing.first_number } else { number };
        for number in first.max(publishing.first_number)..=last {
            let at = (number - publishing.first_number) as usize;
            let unconfirmed = &mut publishing.queue[at];
            let Some(token) = unconfirmed.token.take() else { continue };
            // Only its number is still needed.
            (unconfirmed.publish.body, unconfirmed.publish.properties) = Default::default();
            let result = match is_accepted {
                true => Ok(Published { is_routed: !unconfirmed.is_returned }),
                false => Err(Refusal { code: 0, text: "one of its queues is full".to_owned() }),
            };
            self.events.push(Event::Published { token, result });
        }
        while publishing.queue.front().is_some_and(|first| first.token.is_none()) {
            publishing.queue.pop_front();
            publishing.first_number += 1;
            publishing.sent -= 1;
            publishing.suspects = publishing.suspects.saturating_sub(1);
        }
        self.publish_more();
    }

    /// A mandatory message has come back; its confirm follows.
    pub(super) fn returned(&mut self, message_id: &BStr, code: u16) {
        let sent = self.publishing.sent;
        let mut under_way = self.publishing.queue.iter_mut().take(sent);
        let it = under_way.find(|unconfirmed| {
            unconfirmed.token.is_some()
                && !unconfirmed.is_returned
                && unconfirmed.publish.message_id() == Some(message_id)
        });
        if let Some(unconfirmed) = it
            && code == NO_ROUTE
        {
            unconfirmed.is_returned = true;
        }
    }

    /// The broker has closed the channel because of one of the messages.
    pub(super) fn publishing_failed(&mut self, refusal: &Refusal) {
        let publishing = &mut self.publishing;
        let was_alone = publishing.suspects > 0 && publishing.sent == 1;
        let sent = publishing.sent;
        if !was_alone {
            publishing.suspects = publishing.suspects.max(sent);
        }
        publishing.forget_confirmed();
        (publishing.first_number, publishing.sent) = (1, 0);
        // One that was alone is the culprit; so is the only one.
        let is_found = was_alone || publishing.suspects == 1;
        if is_found
            && let Some(culprit) = publishing.queue.pop_front()
            && let Some(token) = culprit.token
        {
            publishing.suspects = publishing.suspects.saturating_sub(1);
            self.events.push(Event::Published { token, result: Err(refusal.clone()) });
        }
        self.start_publishing();
    }
}
