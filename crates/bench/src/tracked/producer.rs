//! The producing side: one thread and one connection that publishes and receives the outcomes.
//!
//! Outcomes are acknowledged each as they come; or, where writes are gathered, with the next batch of
//! messages, so that they cost no system call of their own. Nothing limits how many may be
//! unacknowledged, so nothing waits for that.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use amqp::ByteSlice;
use amqp::{FrameKind, Method, OwnedProperties, Properties};
use anyhow::{Result, bail};

use super::delivery::Delivery;
use super::ids::{COUNTER_BYTES, ID_BYTES, Ids, counter_digits};
use super::plan::Plan;
use super::report::Tally;
use super::run::Run;
use crate::args::By;
use crate::client::{CHANNEL, Connection, check_open};
use crate::consumer::write_ack;
use crate::outgoing::{Outgoing, Writes};
use crate::publisher::Batch;
use crate::stats::{Counters, Event, now_ns};
use crate::window::{Matched, Window};

/// If nothing has come for this long, the rest is not coming.
const GIVE_UP_NS: u64 = if cfg!(test) { 3_000_000_000 } else { 10_000_000_000 };

/// One producing connection.
pub(super) struct Producer<'a> {
    connection: Connection,
    plan: &'a Plan,
    run: &'a Run,
    index: usize,
    reply_queue: String,
    templates: Vec<Template>,
    outcomes: Outcomes,
    published: u64,
    out: Outgoing,
}

/// What comes back, and how it is matched to messages.
struct Outcomes {
    by: By,
    ids: Ids,
    outstanding: Window,
    delivery: Delivery,
    /// The latest complete delivery, and the latest that was acknowledged.
    last_tag: u64,
    acked_tag: u64,
    /// When a confirm or an outcome last made progress.
    last_ns: u64,
    duplicate: u64,
    unmatched: u64,
}

/// The frames of one message, to be copied and given an id.
struct Template {
    frames: Vec<u8>,
    /// Where the counters of the ids go, in `correlation_id` and in `message_id`.
    counters_at: Vec<usize>,
}

impl<'a> Producer<'a> {
    /// Prepares a connection; nothing is published yet.
    pub(super) fn new(
        mut connection: Connection,
        plan: &'a Plan,
        reply_queue: &str,
        index: usize,
        run: &'a Run,
    ) -> Result<Self> {
        connection.call(amqp::ConfirmSelect { no_wait: false }, |reply| {
            matches!(reply, Method::ConfirmSelectOk(_))
        })?;
        let ids = Ids::random();
        let frame_max = connection.frame_max();
        let templates = plan.routing_keys.iter();
        let mut templates: Vec<_> =
            templates.map(|key| Template::new(plan, key, reply_queue, &ids, frame_max)).collect();
        // Each producer starts with a different queue.
        let first = index % templates.len();
        templates.rotate_left(first);
        let outcomes = Outcomes {
            by: plan.by,
            ids,
            outstanding: Window::of_outcomes(plan.window),
            delivery: Delivery::default(),
            last_tag: 0,
            acked_tag: 0,
            last_ns: 0,
            duplicate: 0,
            unmatched: 0,
        };
        let (reply_queue, out) = (reply_queue.to_owned(), Outgoing::new(plan.writes));
        Ok(Self {
            connection,
            plan,
            run,
            index,
            reply_queue,
            templates,
            outcomes,
            published: 0,
            out,
        })
    }

    /// Publishes until the count is reached or the run stops, and waits for what is outstanding.
    pub(super) fn run(mut self, events: &Sender<Event>) -> Result<()> {
        let result = self.round_trips(events);
        // However the run ended, what is missing counts as missing.
        let (missing, unconfirmed) = self.outcomes.outstanding.missing();
        let Outcomes { duplicate, unmatched, .. } = self.outcomes;
        self.run.add(Tally { missing, duplicate, unmatched, unconfirmed });
        result?;
        self.connection.close()
    }

    fn round_trips(&mut self, events: &Sender<Event>) -> Result<()> {
        self.subscribe();
        let largest = self.templates.iter().map(|template| template.frames.len()).max();
        let batch = Batch::new(self.plan.writes, largest, self.plan.window);
        self.outcomes.last_ns = now_ns();
        while !self.run.shared.stopping() {
            let left = self.left();
            if left == 0 {
                break;
            }
            let room = self.outcomes.outstanding.room();
            if room >= batch.min.min(left) {
                if !self.publish(room.min(left).min(batch.max))? {
                    return Ok(());
                }
            } else if !self.receive()? {
                break;
            }
        }
        self.outcomes.last_ns = now_ns();
        while self.outcomes.outstanding.unfinished() > 0 && !self.run.has_failed() {
            if !self.receive()? {
                break;
            }
        }
        self.outcomes.acknowledge(&mut self.out);
        self.connection.send_all(&self.out, &self.run.shared.stop)?;
        if !self.run.shared.stopping() {
            let _ = events.send(Event::PublisherDone { at_ns: self.outcomes.last_ns });
        }
        Ok(())
    }

    fn left(&self) -> u64 {
        if self.plan.count == 0 { u64::MAX } else { self.plan.count - self.published }
    }

    /// Writes the subscription in front of the first batch.
    fn subscribe(&mut self) {
        // No reply is asked for: what comes next may already be an outcome.
        let consume = amqp::BasicConsume {
            queue: &self.reply_queue,
            consumer_tag: "outcomes",
            no_wait: true,
            ..Default::default()
        };
        self.out.add(|out| amqp::write_method(out, CHANNEL, &consume.into()));
    }

    /// Publishes `count` messages. False if stopped in the middle.
    fn publish(&mut self, count: u64) -> Result<bool> {
        let Self { outcomes, templates, out, .. } = self;
        outcomes.acknowledge(out);
        let first = outcomes.outstanding.next();
        let mut next = self.published as usize % templates.len();
        for number in first..first + count {
            out.add(|out| templates[next].append(out, number));
            next += 1;
            if next == templates.len() {
                next = 0;
            }
        }
        outcomes.outstanding.sent(count, now_ns());
        self.published += count;
        if !self.connection.send_all(out, &self.run.shared.stop)? {
            return Ok(false);
        }
        out.clear();
        let counters = &self.run.shared.publishers[self.index].counters;
        counters.published.store(self.published, Ordering::Relaxed);
        Ok(true)
    }

    /// Waits for confirms and outcomes and processes them. False if it is time to give up.
    fn receive(&mut self) -> Result<bool> {
        if !self.connection.receive(true)? {
            return Ok(now_ns() < self.outcomes.last_ns + GIVE_UP_NS);
        }
        let Self { connection, outcomes, plan, run, index, out, .. } = self;
        let mut confirms = Confirms::default();
        let now = now_ns();
        let publishing = &run.shared.publishers[*index];
        let hearing = &run.shared.consumers[*index];
        let mut confirm_latencies = publishing.latencies();
        let mut latencies = hearing.latencies();
        connection.frames(|frame| {
            let is_complete = match frame.kind {
                FrameKind::Method if outcomes.delivery.begins(frame.payload) => false,
                FrameKind::Method => {
                    let record = |sent_at_ns| confirm_latencies.record(sent_at_ns, now);
                    confirms.take(frame.payload, &mut outcomes.outstanding, record)?;
                    false
                }
                FrameKind::Header => {
                    let header = outcomes.delivery.header(frame.payload)?;
                    if let Some(sent_at_ns) = outcomes.take(header.properties)? {
                        latencies.record(sent_at_ns, now);
                        outcomes.last_ns = now;
                    }
                    header.body_size == 0
                }
                FrameKind::Body => outcomes.delivery.body(frame.payload),
                FrameKind::Heartbeat => false,
            };
            if is_complete {
                outcomes.last_tag = outcomes.delivery.tag;
                if plan.writes == Writes::Each {
                    outcomes.acknowledge(out);
                }
            }
            Ok(())
        })?;
        if confirms.confirmed > 0 {
            outcomes.last_ns = now;
        }
        confirms.add_to(&publishing.counters);
        hearing.counters.consumed.store(outcomes.outstanding.done(), Ordering::Relaxed);
        drop((confirm_latencies, latencies));
        if plan.writes == Writes::Each && !out.is_empty() {
            let is_sent = connection.send_all(out, &run.shared.stop)?;
            out.clear();
            return Ok(is_sent);
        }
        Ok(true)
    }
}

/// What one read brought about confirms.
#[derive(Default)]
struct Confirms {
    confirmed: u64,
    nacked: u64,
    blocked: u64,
}

impl Confirms {
    /// Processes a method that is not a delivery; `record` gets the send time of each confirmed
    /// message.
    #[inline]
    fn take(
        &mut self,
        payload: &[u8],
        outstanding: &mut Window,
        record: impl FnMut(u64),
    ) -> Result<()> {
        match Method::decode(payload)? {
            Method::BasicAck(ack) => {
                self.confirmed += outstanding.confirm(ack.delivery_tag, ack.multiple, record);
            }
            Method::BasicNack(nack) => {
                self.nacked += outstanding.refuse(nack.delivery_tag, nack.multiple);
            }
            Method::ConnectionBlocked(_) => self.blocked += 1,
            other => check_open(&other)?,
        }
        Ok(())
    }

    fn add_to(&self, counters: &Counters) {
        for (counter, more) in [
            (&counters.confirmed, self.confirmed),
            (&counters.nacked, self.nacked),
            (&counters.blocked, self.blocked),
        ] {
            if more > 0 {
                counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            }
        }
    }
}

impl Outcomes {
    /// Processes an outcome, and returns when its message was sent if it is the first one for it.
    #[inline]
    fn take(&mut self, properties: &[u8]) -> Result<Option<u64>> {
        let properties = Properties::decode(properties)?;
        if self.by == By::Broker {
            check_outcome(&properties)?;
        }
        let number =
            properties.correlation_id.and_then(|id| self.ids.counter_of(id.to_str().ok()?));
        match number.map_or(Matched::Unknown, |number| self.outstanding.outcome(number)) {
            Matched::First { sent_at_ns } => return Ok(Some(sent_at_ns)),
            Matched::Again => self.duplicate += 1,
            Matched::Unknown => self.unmatched += 1,
        }
        Ok(None)
    }

    /// Writes the acknowledgement of everything that has come.
    fn acknowledge(&mut self, out: &mut Outgoing) {
        if self.last_tag > self.acked_tag {
            let multiple = self.last_tag > self.acked_tag + 1;
            out.add(|out| write_ack(out, self.last_tag, multiple));
            self.acked_tag = self.last_tag;
        }
    }
}

/// Refuses anything but the outcome that a message was processed.
#[inline]
fn check_outcome(properties: &Properties<'_>) -> Result<()> {
    let outcome = match properties.headers {
        Some(headers) => headers.get("x-outcome")?,
        None => None,
    };
    let outcome = outcome.as_ref().and_then(amqp::ValueRef::as_str);
    if (properties.kind, outcome) == (Some("outcome".into()), Some("processed")) {
        return Ok(());
    }
    let id = properties.correlation_id.unwrap_or("no message".into());
    bail!(
        "expected type outcome and x-outcome processed for {id}, and got type {} and x-outcome {}",
        properties.kind.unwrap_or("none".into()),
        outcome.unwrap_or("none")
    )
}

impl Template {
    fn new(plan: &Plan, routing_key: &str, reply_queue: &str, ids: &Ids, frame_max: u32) -> Self {
        let id = ids.id(0);
        let headers = match plan.by {
            By::Broker => Some([("x-notify", "all")].into_iter().collect()),
            By::Reply => None,
        };
        let mut properties = Vec::new();
        OwnedProperties {
            headers,
            delivery_mode: Some(2),
            correlation_id: Some(id.as_str().into()),
            reply_to: Some(reply_queue.into()),
            message_id: Some(id.as_str().into()),
            ..Default::default()
        }
        .encode(&mut properties);
        let body: Vec<u8> = (0..plan.size_bytes).map(|at| b'a' + (at % 26) as u8).collect();

        let mut frames = Vec::new();
        let publish = amqp::BasicPublish {
            exchange: plan.exchange.as_str().into(),
            routing_key: routing_key.into(),
            ..Default::default()
        };
        amqp::write_method(&mut frames, CHANNEL, &publish.into());
        amqp::write_content_header(&mut frames, CHANNEL, body.len() as u64, &properties);
        // The random beginning of the ids occurs nowhere else.
        let found = frames.windows(ID_BYTES).enumerate().filter(|(_, text)| *text == id.as_bytes());
        let counters_at = found.map(|(at, _)| at + ID_BYTES - COUNTER_BYTES).collect();
        amqp::write_body(&mut frames, CHANNEL, &body, frame_max);
        Self { frames, counters_at }
    }

    #[inline]
    fn append(&self, out: &mut Vec<u8>, number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frames);
        let digits = counter_digits(number);
        for at in &self.counters_at {
            out[start + at..start + at + COUNTER_BYTES].copy_from_slice(&digits);
        }
    }
}
