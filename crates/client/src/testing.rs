//! Tests of producers and workers, without a server: the real engine in memory, with a clock that is moved
//! by hand, and faults on demand.
//!
//! ```
//! use std::time::Duration;
//! use wilco::{Backoff, Context, Failure, Queue, testing::Broker};
//!
//! const STOCK: Queue<String, u32> = Queue::new("stock");
//!
//! async fn reserve(item: String, context: Context) -> Result<u32, Failure> {
//!     match context.attempt() {
//!         1 => Err(Failure::retry(format!("no {item} yet"))),
//!         _ => Ok(6),
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let broker = Broker::start();
//! let hourly = Backoff::constant(Duration::from_secs(3600));
//! let _worker = broker.worker().handle(STOCK, reserve).attempts(3, hourly).spawn();
//! let receipt = broker.producer(STOCK).build().await?.send(&"cup".to_owned()).await?;
//! broker.advance(Duration::from_secs(4000)).await;
//! assert_eq!(receipt.outcome().await?.processed().unwrap().result()?, 6);
//! # Ok::<_, wilco::Error>(()) }).unwrap();
//! ```
//!
//! Bodies are encoded and decoded as everywhere, outcomes and deadlines are the broker's: what passes here
//! passes on a wilco server. Whoever waits in real time, such as [`Receipt::outcome`](crate::Receipt::outcome)
//! for its time-out, still does.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::awaited::Awaited;
use crate::clock::{Clock, ManualClock};
use crate::error::{Error, ErrorKind};
use crate::transport::embedded::{Controls, EmbeddedTransport};
use crate::wilco::Wilco;

/// How long something that goes on by itself may take, in real time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long workers that get no further are waited for, in real time.
const IDLE_AFTER: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A broker in memory for a test; see the module's documentation. It is a [`Wilco`] as well: producers and
/// workers come from it.
pub struct Broker {
    wilco: Wilco,
    controls: Controls,
    clock: Arc<ManualClock>,
}

/// What is going on.
#[derive(PartialEq, Eq)]
struct Activity {
    /// Messages in the broker.
    count: u64,
    /// Those that wait for the clock, in queues, or for anybody to consume from theirs.
    unattended: u64,
    /// Those that wait for the clock in workers.
    parked: u64,
    /// How often the broker has had something to tell.
    turns: u64,
}

impl Activity {
    /// Whether nothing happens before the clock is moved.
    fn is_over(&self) -> bool {
        self.count == self.unattended + self.parked
    }
}

impl Broker {
    /// Starts one, empty, with the clock at the present. Needs a tokio runtime.
    ///
    /// # Panics
    /// There is no runtime, or no thread can be started.
    pub fn start() -> Self {
        let awaited = Arc::new(Awaited::default());
        let clock = Arc::new(ManualClock::new());
        let opened = EmbeddedTransport::for_tests(Arc::clone(&awaited) as _, &clock);
        let (transport, controls) = match opened {
            Ok(opened) => opened,
            Err(error) => panic!("a broker for tests: {error}"),
        };
        let wilco = Wilco::over(transport, awaited, Clock::Manual(Arc::clone(&clock)));
        Self { wilco, controls, clock }
    }

    /// What its clock shows.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Moves the clock: deadlines pass, and what waits to be tried again is. Before that and after it waits
    /// until workers have done what there was to do, or have not got on for a tenth of a second, in real time.
    pub async fn advance(&self, by: Duration) {
        self.idle().await;
        self.controls.advance(by);
        self.idle().await;
    }

    /// Waits until each message has its outcome, and each outcome has been told.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`]: not after 30 s, in real time. What waits for the clock waits for ever.
    pub async fn drain(&self) -> Result<(), Error> {
        let drained = async {
            while !self.controls.is_drained() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, drained).await.map_err(|_| {
            let count = self.controls.message_count();
            let text = format!("after {PATIENCE:?} there are {count} messages without an outcome");
            Error::new(ErrorKind::TimedOut, text)
        })
    }

    async fn idle(&self) {
        let mut seen = self.activity();
        let mut since = Instant::now();
        while since.elapsed() < IDLE_AFTER && !(seen.is_over() && self.is_asleep()) {
            tokio::time::sleep(LOOK_AGAIN).await;
            let now = self.activity();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
    }

    /// Whether everybody who is to do something has begun.
    fn is_asleep(&self) -> bool {
        !self.clock.is_waking() && !self.wilco.has_starting_workers()
    }

    fn activity(&self) -> Activity {
        let (unattended, count, turns) = self.controls.activity();
        Activity { parked: self.wilco.parked_count(), unattended, count, turns }
    }

    /// Ends all workers that were [spawned](crate::WorkerBuilder::spawn) at once, as when their process ends:
    /// what they had goes back to its queue.
    pub fn crash_workers(&self) {
        self.wilco.abort_workers();
    }

    /// Loses the connection, and makes it again: what was not confirmed is sent again, and what workers had
    /// goes back to its queue, while they still work on it.
    ///
    /// # Panics
    /// It was closed before.
    pub fn disconnect(&self) {
        if let Err(error) = self.controls.disconnect() {
            panic!("a broker for tests: {error}");
        }
    }

    /// Restarts the broker, with what is on its disk.
    ///
    /// # Panics
    /// It was closed before.
    pub fn restart(&self) {
        if let Err(error) = self.controls.restart() {
            panic!("a broker for tests: {error}");
        }
    }
}

impl Deref for Broker {
    type Target = Wilco;

    fn deref(&self) -> &Wilco {
        &self.wilco
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("now", &self.now()).finish_non_exhaustive()
    }
}
