//! The publishing side: one thread, one connection.
//!
//! Unpaced, it writes as long as the confirm window has room, and otherwise waits for confirms:
//! messages one by one, looking for confirms now and then; or gathered, in batches of up to 64 KiB,
//! and then a quarter of the window must be free before it writes again, or every confirm would cost
//! a system call on both sides. Paced, it writes each message when it is due.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use amqp::{Frame, FrameKind, Method, OwnedProperties};
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::client::{CHANNEL, Connection, check_open};
use super::outgoing::{Outgoing, Writes};
use super::stats::{Event, Shared, Worker, now_ns};
use super::window::Window;

const BATCH_BYTES: usize = 64 << 10;
/// Messages with a write of their own between two looks at what has come: ordinary clients have a
/// thread or task for that, which is not woken for every write.
const WRITES_PER_READ: u64 = 16;
/// After a stop, how long to wait for confirms of what has been sent.
const LAST_CONFIRMS_NS: u64 = 5_000_000_000;

/// What to publish.
#[derive(Debug, Clone)]
pub(super) struct PublishPlan {
    pub(super) exchange: String,
    /// Used in turn.
    pub(super) routing_keys: Vec<String>,
    pub(super) size_bytes: usize,
    pub(super) persistent: bool,
    pub(super) mandatory: bool,
    /// The most messages unconfirmed at a time; 0 for no confirms.
    pub(super) confirm_window: u64,
    pub(super) writes: Writes,
    /// Messages per second; 0 for as fast as possible.
    pub(super) rate: f64,
    /// Messages to publish; 0 for no limit.
    pub(super) count: u64,
}

/// The frames of one message, to be copied and timestamped.
struct Template {
    frames: Vec<u8>,
    /// Where the timestamp goes: the first 8 bytes of the body, if it has them.
    stamp_at: Option<usize>,
}

/// One publishing connection.
pub(super) struct Publisher<'a> {
    connection: Connection,
    plan: &'a PublishPlan,
    templates: Vec<Template>,
    window: Window,
    published: u64,
    shared: &'a Shared,
    worker: &'a Worker,
}

impl<'a> Publisher<'a> {
    /// Prepares a connection; nothing is published yet.
    pub(super) fn new(
        mut connection: Connection,
        plan: &'a PublishPlan,
        index: usize,
        shared: &'a Shared,
    ) -> Result<Self> {
        if plan.confirm_window > 0 {
            connection.call(amqp::ConfirmSelect { no_wait: false }, |reply| {
                matches!(reply, Method::ConfirmSelectOk(_))
            })?;
        }
        let mut templates: Vec<_> = plan
            .routing_keys
            .iter()
            .map(|key| Template::new(plan, key, connection.frame_max()))
            .collect();
        // Each publisher starts with a different queue.
        let first = index % templates.len();
        templates.rotate_left(first);
        let window = Window::of_confirms(plan.confirm_window);
        let worker = &shared.publishers[index];
        Ok(Self { connection, plan, templates, window, published: 0, shared, worker })
    }

    /// Publishes until the count is reached or the run stops.
    pub(super) fn run(mut self, events: &Sender<Event>) -> Result<()> {
        let mut out = Outgoing::new(self.plan.writes);
        let largest = self.templates.iter().map(|template| template.frames.len()).max();
        let batch = Batch::new(self.plan.writes, largest, self.plan.confirm_window);
        let started_ns = now_ns();
        while !self.shared.stopping() {
            self.connection.receive(false)?;
            self.take_replies()?;
            let left = self.left();
            if left == 0 {
                break;
            }
            let room = self.window.room();
            if self.plan.rate > 0.0 {
                let due = self.due(started_ns).min(room).min(left);
                if due == 0 {
                    self.wait_until_due(started_ns, room)?;
                    continue;
                }
                if !self.publish(due.min(batch.max), &mut out)? {
                    return Ok(());
                }
            } else if room < batch.min.min(left) {
                self.connection.receive(true)?;
                self.take_replies()?;
            } else if !self.publish(room.min(left).min(batch.max), &mut out)? {
                return Ok(());
            }
        }
        self.finish(events)
    }

    fn left(&self) -> u64 {
        if self.plan.count == 0 { u64::MAX } else { self.plan.count - self.published }
    }

    /// Messages that should have been published by now but have not been.
    fn due(&self, started_ns: u64) -> u64 {
        let elapsed = (now_ns() - started_ns) as f64 / 1e9;
        ((elapsed * self.plan.rate) as u64 + 1).saturating_sub(self.published)
    }

    /// Waits for the next message's time, or for confirms.
    fn wait_until_due(&mut self, started_ns: u64, room: u64) -> Result<()> {
        if room == 0 {
            self.connection.receive(true)?;
            return self.take_replies();
        }
        let due_ns = started_ns + (self.published as f64 / self.plan.rate * 1e9) as u64;
        // At least a microsecond, but not so long that a stop goes unnoticed.
        let wait_ns = due_ns.saturating_sub(now_ns()).clamp(1_000, 200_000_000);
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ns as i64 };
        let mut sockets =
            [PollFd::from_borrowed_fd(self.connection.stream().as_fd(), PollFlags::IN)];
        match poll(&mut sockets, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Publishes `count` messages. False if stopped in the middle.
    fn publish(&mut self, count: u64, out: &mut Outgoing) -> Result<bool> {
        out.clear();
        let now = now_ns();
        let mut next = self.published as usize % self.templates.len();
        for _ in 0..count {
            out.add(|out| self.templates[next].append(out, now));
            next += 1;
            if next == self.templates.len() {
                next = 0;
            }
        }
        if self.plan.confirm_window > 0 {
            self.window.sent(count, now);
        }
        self.published += count;
        if !self.connection.send_all(out, &self.shared.stop)? {
            return Ok(false);
        }
        self.worker.counters.published.store(self.published, Ordering::Relaxed);
        Ok(true)
    }

    /// Processes confirms and whatever else has been received.
    fn take_replies(&mut self) -> Result<()> {
        let Self { connection, window, worker, .. } = self;
        let (mut confirmed, mut nacked, mut returned, mut blocked) = (0, 0, 0, 0);
        let mut latencies = None;
        let mut now = 0;
        connection.frames(|frame| {
            let Frame { kind: FrameKind::Method, payload, .. } = frame else { return Ok(()) };
            match Method::decode(payload)? {
                Method::BasicAck(ack) => {
                    if latencies.is_none() {
                        now = now_ns();
                    }
                    let latencies = latencies.get_or_insert_with(|| worker.latencies());
                    confirmed += window.confirm(ack.delivery_tag, ack.multiple, |sent_at_ns| {
                        latencies.record(sent_at_ns, now);
                    });
                }
                Method::BasicNack(nack) => {
                    nacked += window.refuse(nack.delivery_tag, nack.multiple);
                }
                Method::BasicReturn(_) => returned += 1,
                Method::ConnectionBlocked(_) => blocked += 1,
                other => check_open(&other)?,
            }
            Ok(())
        })?;
        let counters = &worker.counters;
        for (counter, more) in [
            (&counters.confirmed, confirmed),
            (&counters.nacked, nacked),
            (&counters.returned, returned),
            (&counters.blocked, blocked),
        ] {
            if more > 0 {
                counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Waits until the broker has accepted everything, and closes.
    fn finish(mut self, events: &Sender<Event>) -> Result<()> {
        let give_up_ns = now_ns() + LAST_CONFIRMS_NS;
        while self.window.unfinished() > 0 && !(self.shared.stopping() && now_ns() > give_up_ns) {
            self.connection.receive(true)?;
            self.take_replies()?;
        }
        if self.left() == 0 {
            if self.plan.confirm_window == 0 {
                // The reply to any method comes after the broker has processed what was sent before
                // it.
                let qos = amqp::BasicQos { prefetch_count: 1, ..Default::default() };
                self.connection.call(qos, |reply| matches!(reply, Method::BasicQosOk(_)))?;
            }
            let _ = events.send(Event::PublisherDone { at_ns: now_ns() });
        }
        self.connection.close()
    }
}

/// How many messages are published between two looks at what has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    /// The window must have room for this many.
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Batch {
    /// `largest` is the size of the largest message with its frames, `window` how many may be
    /// unfinished; 0 for no limit.
    pub(super) fn new(writes: Writes, largest: Option<usize>, window: u64) -> Self {
        let fitting = (BATCH_BYTES / largest.unwrap_or(1)).max(1) as u64;
        match writes {
            Writes::Each => Self { min: 1, max: fitting.min(WRITES_PER_READ) },
            Writes::Gathered if window == 0 => Self { min: 1, max: fitting },
            Writes::Gathered => Self { min: fitting.min((window / 4).max(1)), max: fitting },
        }
    }
}

impl Template {
    fn new(plan: &PublishPlan, routing_key: &str, frame_max: u32) -> Self {
        let publish = amqp::BasicPublish {
            exchange: plan.exchange.as_str().into(),
            routing_key: routing_key.into(),
            mandatory: plan.mandatory,
            immediate: false,
        };
        let delivery_mode = if plan.persistent { Some(2) } else { None };
        let mut properties = Vec::new();
        OwnedProperties { delivery_mode, ..Default::default() }.encode(&mut properties);
        let body: Vec<u8> = (0..plan.size_bytes).map(|at| b'a' + (at % 26) as u8).collect();

        let mut frames = Vec::new();
        amqp::write_method(&mut frames, CHANNEL, &publish.into());
        amqp::write_content_header(&mut frames, CHANNEL, body.len() as u64, &properties);
        let stamp_at = (body.len() >= 8).then_some(frames.len() + amqp::FRAME_OVERHEAD - 1);
        amqp::write_body(&mut frames, CHANNEL, &body, frame_max);
        Self { frames, stamp_at }
    }

    #[inline]
    fn append(&self, out: &mut Vec<u8>, now_ns: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frames);
        if let Some(at) = self.stamp_at {
            out[start + at..start + at + 8].copy_from_slice(&now_ns.to_be_bytes());
        }
    }
}
