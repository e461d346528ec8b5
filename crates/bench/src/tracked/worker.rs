//! The working side: one thread and one connection that takes messages, replies if the plan says
//! so, and acknowledges.
//!
//! With replies, a message is acknowledged only when the broker has confirmed its reply: otherwise
//! a crash could lose the reply to a message that is gone. Each delivery gets one reply, in order,
//! so the delivery tag and the reply's publishing sequence number are the same number.

use std::sync::mpsc::Sender;

use amqp::{FrameKind, Method, Properties};
use anyhow::{Context, Result, bail};

use super::delivery::Delivery;
use super::plan::Plan;
use super::run::Run;
use crate::args::By;
use crate::client::{CHANNEL, Connection, check_open};
use crate::consumer::write_ack;
use crate::outgoing::Outgoing;
use crate::stats::{Event, now_ns};
use crate::window::Window;

/// At the end, how long to wait for confirms of replies.
const LAST_CONFIRMS_NS: u64 = 5_000_000_000;
const REPLY_BODY: &[u8] = b"done";

/// One working connection.
pub(super) struct Worker<'a> {
    connection: Connection,
    plan: &'a Plan,
    run: &'a Run,
    queues: Vec<String>,
    progress: Progress,
    out: Outgoing,
}

struct Progress {
    delivery: Delivery,
    /// The latest complete delivery, and the latest that was acknowledged.
    last_tag: u64,
    acked_tag: u64,
    replies: Option<Replies>,
}

/// What is needed to reply.
struct Replies {
    /// Unconfirmed replies.
    unconfirmed: Window,
    /// The frames of the reply to the message that is being received.
    frames: Vec<u8>,
    properties: Vec<u8>,
    frame_max: u32,
}

impl<'a> Worker<'a> {
    /// Prepares a connection; working starts with [`run`](Self::run).
    pub(super) fn new(
        mut connection: Connection,
        plan: &'a Plan,
        queues: Vec<String>,
        run: &'a Run,
    ) -> Result<Self> {
        let qos = amqp::BasicQos { prefetch_count: plan.prefetch, ..Default::default() };
        connection.call(qos, |reply| matches!(reply, Method::BasicQosOk(_)))?;
        let replies = match plan.by {
            By::Broker => None,
            By::Reply => {
                connection.call(amqp::ConfirmSelect { no_wait: false }, |reply| {
                    matches!(reply, Method::ConfirmSelectOk(_))
                })?;
                Some(Replies::new(plan, connection.frame_max()))
            }
        };
        let progress =
            Progress { delivery: Delivery::default(), last_tag: 0, acked_tag: 0, replies };
        Ok(Self { connection, plan, run, queues, progress, out: Outgoing::new(plan.writes) })
    }

    /// Works until the producers have ended.
    pub(super) fn run(mut self, events: &Sender<Event>) -> Result<()> {
        if !self.subscribe()? {
            return Ok(());
        }
        let _ = events.send(Event::Subscribed);
        let mut give_up_ns = u64::MAX;
        let mut is_idle = false;
        loop {
            let is_over = self.run.is_over();
            if is_over && give_up_ns == u64::MAX {
                give_up_ns = now_ns() + LAST_CONFIRMS_NS;
            }
            self.take()?;
            // An acknowledgement of fewer messages is due when nothing more comes.
            self.progress.acknowledge(&mut self.out, self.plan.ack_every, is_idle || is_over);
            if !self.out.is_empty() {
                if !self.connection.send_all(&self.out, &self.run.shared.stop)? {
                    return Ok(());
                }
                self.out.clear();
            }
            if is_over && (self.progress.is_settled() || now_ns() > give_up_ns) {
                return self.connection.close();
            }
            is_idle = !self.connection.receive(true)?;
        }
    }

    /// Subscribes. False if stopped before that.
    fn subscribe(&mut self) -> Result<bool> {
        // No reply is asked for: what comes next may already be a delivery.
        let mut out = Vec::new();
        for queue in &self.queues {
            let consume = amqp::BasicConsume {
                queue,
                consumer_tag: queue,
                no_wait: true,
                ..Default::default()
            };
            amqp::write_method(&mut out, CHANNEL, &consume.into());
        }
        self.connection.send(&out, &self.run.shared.stop)
    }

    /// Processes every complete frame that was received.
    fn take(&mut self) -> Result<()> {
        let Self { connection, progress, out, .. } = self;
        connection.frames(|frame| {
            let is_complete = match frame.kind {
                FrameKind::Method if progress.delivery.begins(frame.payload) => false,
                FrameKind::Method => {
                    progress.method(&Method::decode(frame.payload)?)?;
                    false
                }
                FrameKind::Header => {
                    let header = progress.delivery.header(frame.payload)?;
                    if let Some(replies) = &mut progress.replies {
                        replies.prepare(&Properties::decode(header.properties)?)?;
                    }
                    header.body_size == 0
                }
                FrameKind::Body => progress.delivery.body(frame.payload),
                FrameKind::Heartbeat => false,
            };
            if is_complete { progress.complete(out) } else { Ok(()) }
        })
    }
}

impl Progress {
    fn method(&mut self, method: &Method<'_>) -> Result<()> {
        match (method, &mut self.replies) {
            (Method::BasicAck(ack), Some(replies)) => {
                replies.unconfirmed.confirm(ack.delivery_tag, ack.multiple, |_| ());
                Ok(())
            }
            (Method::BasicNack(_), _) => bail!("the broker refused a reply"),
            _ => check_open(method),
        }
    }

    #[inline]
    fn complete(&mut self, out: &mut Outgoing) -> Result<()> {
        let tag = self.delivery.tag;
        if tag != self.last_tag + 1 {
            bail!("delivery {tag} comes after delivery {}", self.last_tag);
        }
        self.last_tag = tag;
        if let Some(replies) = &mut self.replies {
            out.add(|out| out.extend_from_slice(&replies.frames));
            // How long replies take is not measured.
            replies.unconfirmed.sent(1, 0);
        }
        Ok(())
    }

    /// Writes the acknowledgements that are due.
    fn acknowledge(&mut self, out: &mut Outgoing, every: u64, all: bool) {
        let may_be_acked = self.may_be_acked();
        while may_be_acked - self.acked_tag >= every {
            self.acked_tag += every;
            out.add(|out| write_ack(out, self.acked_tag, every > 1));
        }
        if all && may_be_acked > self.acked_tag {
            self.acked_tag = may_be_acked;
            out.add(|out| write_ack(out, may_be_acked, true));
        }
    }

    /// The latest delivery that may be acknowledged together with all before it.
    fn may_be_acked(&self) -> u64 {
        match &self.replies {
            Some(replies) => replies.unconfirmed.oldest_unfinished() - 1,
            None => self.last_tag,
        }
    }

    /// Whether everything that has come is acknowledged.
    fn is_settled(&self) -> bool {
        self.acked_tag == self.last_tag
    }
}

impl Replies {
    fn new(plan: &Plan, frame_max: u32) -> Self {
        // At most `prefetch` deliveries are unacknowledged, so at most as many replies are
        // unconfirmed.
        let unconfirmed = Window::of_confirms(u64::from(plan.prefetch));
        Self { unconfirmed, frames: Vec::new(), properties: Vec::new(), frame_max }
    }

    /// Makes the reply to a message.
    #[inline]
    fn prepare(&mut self, message: &Properties<'_>) -> Result<()> {
        let reply_to = message.reply_to.context("a message without reply_to was in the queue")?;
        self.properties.clear();
        Properties {
            delivery_mode: Some(2),
            correlation_id: message.correlation_id,
            ..Default::default()
        }
        .encode(&mut self.properties);
        self.frames.clear();
        let publish = amqp::BasicPublish { routing_key: reply_to, ..Default::default() };
        let out = &mut self.frames;
        amqp::write_method(out, CHANNEL, &publish.into());
        amqp::write_content_header(out, CHANNEL, REPLY_BODY.len() as u64, &self.properties);
        amqp::write_body(out, CHANNEL, REPLY_BODY, self.frame_max);
        Ok(())
    }
}
