//! The consuming side: one thread, one connection.
//!
//! Reads up to 256 KiB at a time, looks only at what it needs of each frame, and then writes the
//! acknowledgements for what was read.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use amqp::{Frame, FrameKind, Method};
use anyhow::Result;

use super::client::{CHANNEL, Connection, check_open};
use super::outgoing::{Outgoing, Writes};
use super::stats::{Event, Latencies, Shared, Worker, now_ns};

/// What to consume and how.
#[derive(Debug, Clone)]
pub(super) struct ConsumePlan {
    /// 0 for no limit.
    pub(super) prefetch: u16,
    /// Acknowledge after this many messages; 0 for automatic acknowledgement.
    pub(super) ack_every: u64,
    pub(super) writes: Writes,
    /// Whether bodies begin with a timestamp.
    pub(super) stamped: bool,
}

/// One consuming connection.
pub(super) struct Consumer<'a> {
    connection: Connection,
    plan: &'a ConsumePlan,
    queues: Vec<String>,
    shared: &'a Shared,
    worker: &'a Worker,
}

/// How far the current delivery has been read.
#[derive(Default)]
struct Progress {
    delivery_tag: u64,
    /// Bytes of the body still to come.
    body_left: u64,
    at_body_start: bool,
    /// Deliveries since the last acknowledgement, and the tag of the latest.
    unacked: u64,
    last_tag: u64,
    consumed: u64,
}

impl<'a> Consumer<'a> {
    /// Prepares a connection; consuming starts with [`run`](Self::run).
    pub(super) fn new(
        connection: Connection,
        plan: &'a ConsumePlan,
        queues: Vec<String>,
        shared: &'a Shared,
        index: usize,
    ) -> Self {
        let worker = &shared.consumers[index];
        Self { connection, plan, queues, shared, worker }
    }

    /// Consumes until the run stops.
    pub(super) fn run(mut self, events: &Sender<Event>) -> Result<()> {
        self.subscribe()?;
        let _ = events.send(Event::Subscribed);
        let mut progress = Progress::default();
        let mut acks = Outgoing::new(self.plan.writes);
        while !self.shared.stopping() {
            let before = progress.consumed;
            self.take(&mut progress, &mut acks)?;
            if !acks.is_empty() {
                if !self.connection.send_all(&acks, &self.shared.stop)? {
                    return Ok(());
                }
                acks.clear();
            }
            if progress.consumed > before {
                self.count(progress.consumed, progress.consumed - before, events);
            }
            self.connection.receive(true)?;
        }
        if progress.unacked > 0 {
            acks.add(|out| write_ack(out, progress.last_tag, true));
            self.connection.send_all(&acks, &self.shared.stop)?;
        }
        self.connection.close()
    }

    fn subscribe(&mut self) -> Result<()> {
        let qos = amqp::BasicQos { prefetch_count: self.plan.prefetch, ..Default::default() };
        self.connection.call(qos, |reply| matches!(reply, Method::BasicQosOk(_)))?;
        let Some((last, others)) = self.queues.split_last() else { return Ok(()) };
        // Deliveries may come at once, and waiting for a reply drops what comes before it. So no
        // reply is asked for, and the first frames are deliveries or an error.
        let mut out = Vec::new();
        for queue in others.iter().chain([last]) {
            let consume = amqp::BasicConsume {
                queue,
                no_ack: self.plan.ack_every == 0,
                no_wait: true,
                // With `no_wait` the client must name the consumer.
                consumer_tag: queue,
                ..Default::default()
            };
            amqp::write_method(&mut out, CHANNEL, &consume.into());
        }
        self.connection.send(&out, &self.shared.stop)?;
        Ok(())
    }

    /// Processes every complete frame that was received.
    fn take(&mut self, progress: &mut Progress, acks: &mut Outgoing) -> Result<()> {
        let plan = self.plan;
        let now = now_ns();
        // Deliveries beyond the target are not counted, and go back to their queue unacknowledged.
        let target = self.shared.consume_target.load(Ordering::Relaxed);
        let mut left = target.saturating_sub(self.shared.consumed.load(Ordering::Relaxed));
        let mut latencies = self.worker.latencies();
        self.connection.frames(|frame| {
            let done = match frame.kind {
                FrameKind::Method => {
                    progress.method(frame)?;
                    false
                }
                FrameKind::Header => progress.header(frame.payload)?,
                FrameKind::Body => progress.body(frame.payload, plan.stamped, &mut latencies, now),
                FrameKind::Heartbeat => false,
            };
            if done && left > 0 {
                left -= 1;
                progress.consumed += 1;
                progress.last_tag = progress.delivery_tag;
                if plan.ack_every > 0 {
                    progress.unacked += 1;
                    if progress.unacked >= plan.ack_every {
                        acks.add(|out| write_ack(out, progress.delivery_tag, plan.ack_every > 1));
                        progress.unacked = 0;
                    }
                }
            }
            Ok(())
        })
    }

    fn count(&self, total: u64, more: u64, events: &Sender<Event>) {
        self.worker.counters.consumed.store(total, Ordering::Relaxed);
        let at_ns = now_ns();
        self.shared.consumed_at_ns.store(at_ns, Ordering::Relaxed);
        let before = self.shared.consumed.fetch_add(more, Ordering::SeqCst);
        let target = self.shared.consume_target.load(Ordering::SeqCst);
        if before < target && before + more >= target {
            let _ = events.send(Event::ConsumersDone { at_ns });
        }
    }
}

impl Progress {
    #[inline]
    fn method(&mut self, frame: Frame<'_>) -> Result<()> {
        if let Some(tag) = deliver_tag(frame.payload) {
            self.delivery_tag = tag;
            return Ok(());
        }
        check_open(&Method::decode(frame.payload)?)
    }

    /// True if the message is complete: it has no body.
    #[inline]
    fn header(&mut self, payload: &[u8]) -> Result<bool> {
        self.body_left = amqp::decode_content_header(payload)?.body_size;
        self.at_body_start = true;
        Ok(self.body_left == 0)
    }

    /// True if the message is complete.
    #[inline]
    fn body(&mut self, piece: &[u8], stamped: bool, latencies: &mut Latencies, now: u64) -> bool {
        if std::mem::take(&mut self.at_body_start)
            && stamped
            && let Some(stamp) = piece.first_chunk()
        {
            latencies.record(u64::from_be_bytes(*stamp), now);
        }
        self.body_left = self.body_left.saturating_sub(piece.len() as u64);
        self.body_left == 0
    }
}

/// The delivery tag, if the method is `basic.deliver`; nothing else is needed.
#[inline]
pub(super) fn deliver_tag(payload: &[u8]) -> Option<u64> {
    // 4 bytes of ids, then the consumer tag.
    let ([0, 60, 0, 60, name], rest) = payload.split_first_chunk::<5>()? else { return None };
    let tag = rest.get(usize::from(*name)..)?.first_chunk()?;
    Some(u64::from_be_bytes(*tag))
}

#[inline]
pub(super) fn write_ack(out: &mut Vec<u8>, delivery_tag: u64, multiple: bool) {
    amqp::write_method(out, CHANNEL, &amqp::BasicAck { delivery_tag, multiple }.into());
}
