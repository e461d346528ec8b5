//! The command line of `wilco bench`.

use std::time::Duration;

use amqp::{FieldTable, FieldValue};
use anyhow::{Result, bail};
use clap::builder::ArgPredicate;

use super::consumer::ConsumePlan;
use super::outgoing::Writes;
use super::publisher::PublishPlan;
use super::setup::{Topology, parse_argument};
use super::uri::Uri;

/// Load to generate. Without `--time` and `--count` it runs for ten seconds.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// The broker
    #[arg(long, default_value = "amqp://guest:guest@127.0.0.1:5672/%2f")]
    pub(super) uri: Uri,
    /// Publishing connections; 0 to drain
    #[arg(short = 'x', long, value_name = "N", default_value_t = 1)]
    pub(super) publishers: usize,
    /// Consuming connections; 0 to publish only
    #[arg(short = 'y', long, value_name = "N", default_value_t = 1)]
    pub(super) consumers: usize,
    /// Body size in bytes (tracked: 1024); from 8 bytes on it carries the timestamp for latencies
    #[arg(
        short,
        long,
        value_name = "BYTES",
        default_value_t = 16,
        default_value_if("tracked", ArgPredicate::IsPresent, "1024")
    )]
    pub(super) size: usize,
    /// Publish persistent messages (to durable queues only with --durable)
    #[arg(short, long)]
    pub(super) persistent: bool,
    /// Publish with the mandatory flag
    #[arg(long)]
    pub(super) mandatory: bool,
    /// Turn confirms on, with at most N messages unconfirmed; 0 for no confirms. Tracked: with at
    /// most N messages whose confirm or outcome is still missing (1000)
    #[arg(
        short,
        long,
        value_name = "WINDOW",
        default_value_t = 0,
        default_value_if("tracked", ArgPredicate::IsPresent, "1000")
    )]
    pub(super) confirm: u64,
    /// Unacknowledged deliveries per consumer; 0 for no limit (tracked: for twice the window)
    #[arg(short = 'q', long, value_name = "N", default_value_t = 0)]
    pub(super) prefetch: u16,
    /// Acknowledge every N messages; 0 for automatic acknowledgement (tracked: 1)
    #[arg(
        short = 'a',
        long,
        value_name = "N",
        default_value_t = 0,
        default_value_if("tracked", ArgPredicate::IsPresent, "1")
    )]
    pub(super) ack_every: u64,
    /// How publishes and acks are written to the socket
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Writes::Each)]
    pub(super) writes: Writes,
    /// Messages per second and publisher, each sent when due; 0 for as fast as possible
    #[arg(short, long, value_name = "PER_SECOND", default_value_t = 0.0)]
    pub(super) rate: f64,
    /// Seconds to measure
    #[arg(short = 'z', long, value_name = "SECONDS")]
    pub(super) time: Option<f64>,
    /// Seconds to run before measuring
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    pub(super) warm_up: f64,
    /// Messages per publisher; without publishers, messages to consume
    #[arg(short = 'C', long, value_name = "N", conflicts_with = "warm_up")]
    pub(super) count: Option<u64>,
    /// Queues, published to in turn
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    pub(super) queues: usize,
    /// Name of the queue, or prefix of the names of several
    #[arg(short = 'u', long, value_name = "NAME", default_value = "wilco.bench")]
    pub(super) queue: String,
    /// Declare queues (and exchange) durable
    #[arg(short, long)]
    pub(super) durable: bool,
    /// Queue argument, such as x-queue-type=quorum; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_argument)]
    pub(super) queue_arg: Vec<(String, FieldValue)>,
    /// Exchange to publish to; queues are bound to it by their names
    #[arg(short, long, value_name = "NAME", default_value = "")]
    pub(super) exchange: String,
    /// Type of the exchange
    #[arg(short = 't', long, value_name = "TYPE", default_value = "direct")]
    pub(super) exchange_type: String,
    /// Use the queues as they are, without declaring them
    #[arg(long)]
    pub(super) passive: bool,
    /// Empty the queues first
    #[arg(long)]
    pub(super) purge: bool,
    /// Keep the queues when done (always so when publishing only)
    #[arg(short, long)]
    pub(super) keep: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// No progress lines
    #[arg(long)]
    pub(super) quiet: bool,
    /// Process id of the broker, to report its processor time and memory
    #[arg(long, value_name = "PID")]
    pub(super) server_pid: Option<u32>,
    /// Measure round trips: persistent messages to durable queues, taken and acknowledged by the
    /// consumers, until the publisher has matched the outcome that the broker sends it; with
    /// `reply`, the reply that the consumer publishes. A missing or second one is a failure
    #[arg(long, value_name = "BY", num_args = 0..=1, require_equals = true,
          default_missing_value = "broker",
          conflicts_with_all = ["rate", "mandatory", "idle_connections", "topology"])]
    pub(super) tracked: Option<By>,
    /// Measure round trips through the library, over the engine that this URL names: `amqp://…`, `memory:`,
    /// `embedded:PATH`. --count, --confirm (the window), --size, --queue and --json count, and no others
    #[arg(long, value_name = "URL",
          conflicts_with_all = ["tracked", "rate", "idle_connections", "topology"])]
    pub(super) transport: Option<String>,
    /// Instead of messages: open N idle connections and hold them for --time (5 s)
    #[arg(long, value_name = "N", conflicts_with = "topology")]
    pub(super) idle_connections: Option<usize>,
    /// Instead of messages: time declaring and binding --queues queues
    #[arg(long)]
    pub(super) topology: bool,
}

/// Who tells the producer that a message was processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// The broker, with an outcome message
    Broker,
    /// The worker, with a reply of its own: works with any broker
    Reply,
}

impl BenchArgs {
    /// Checks what the types cannot express.
    pub(super) fn check(&self) -> Result<()> {
        if self.publishers + self.consumers == 0 {
            bail!("neither publishers nor consumers: nothing to do");
        }
        if self.count == Some(0) {
            bail!("--count must be at least 1");
        }
        if self.queues == 0 {
            bail!("--queues must be at least 1");
        }
        for (name, value) in [
            ("--rate", self.rate),
            ("--warm-up", self.warm_up),
            ("--time", self.time.unwrap_or(1.0)),
        ] {
            if !value.is_finite() || value < 0.0 {
                bail!("{name} must be a number from 0 on");
            }
        }
        if self.prefetch > 0 && self.ack_every > u64::from(self.prefetch) {
            bail!("--ack-every above --prefetch would wait for ever");
        }
        if self.tracked.is_some() {
            self.check_tracked()?;
        }
        Ok(())
    }

    fn check_tracked(&self) -> Result<()> {
        if self.publishers == 0 || self.consumers == 0 {
            bail!("--tracked needs publishers and consumers");
        }
        if self.confirm == 0 {
            bail!("--tracked needs a window: --confirm from 1 on");
        }
        if self.ack_every == 0 {
            bail!("--tracked needs acknowledgements: --ack-every from 1 on");
        }
        Ok(())
    }

    pub(super) fn topology_plan(&self) -> Topology {
        let exchange = match self.exchange.as_str() {
            // Measuring a topology without bindings would say little.
            "" if self.topology => "amq.direct".to_owned(),
            name => name.to_owned(),
        };
        let queues = match self.queues {
            1 => vec![self.queue.clone()],
            count => (1..=count).map(|index| format!("{}.{index}", self.queue)).collect(),
        };
        Topology {
            exchange,
            exchange_kind: self.exchange_type.clone(),
            queues,
            durable: self.durable,
            arguments: self.queue_arg.iter().cloned().collect::<FieldTable>(),
        }
    }

    pub(super) fn publish_plan(&self) -> PublishPlan {
        PublishPlan {
            exchange: self.exchange.clone(),
            routing_keys: self.topology_plan().queues,
            size_bytes: self.size,
            persistent: self.persistent,
            mandatory: self.mandatory,
            confirm_window: self.confirm,
            writes: self.writes,
            rate: self.rate,
            count: self.count.unwrap_or(0),
        }
    }

    pub(super) fn consume_plan(&self) -> ConsumePlan {
        ConsumePlan {
            prefetch: self.prefetch,
            ack_every: self.ack_every,
            writes: self.writes,
            stamped: self.size >= 8,
        }
    }

    /// How many messages end the run, if any number does.
    pub(super) fn consume_target(&self) -> Option<u64> {
        let copies = if self.publishers > 0 { self.copies() } else { 1 };
        self.count.map(|count| count * self.publishers.max(1) as u64 * copies)
    }

    /// Into how many queues each message goes.
    pub(super) fn copies(&self) -> u64 {
        let is_fanout = !self.exchange.is_empty() && self.exchange_type == "fanout";
        if is_fanout { self.queues as u64 } else { 1 }
    }

    /// How long to measure, unless the count ends the run earlier.
    pub(super) fn measure_time(&self) -> Option<Duration> {
        let seconds = self.time.or(if self.count.is_none() { Some(10.0) } else { None });
        seconds.map(Duration::from_secs_f64)
    }

    /// Whether the queues are kept.
    pub(super) fn keeps_queues(&self) -> bool {
        self.keep || self.passive || self.consumers == 0
    }
}
