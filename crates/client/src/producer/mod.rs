//! Producers: put messages in, and learn what became of them.
//!
//! A message is known by its id, which is given to the engine with it and never changes: that is what
//! makes sending it again harmless. Who waits for which id is known to
//! [`Awaited`](crate::awaited::Awaited).

#[cfg(feature = "sql")]
mod encoded;
mod receipt;
mod send;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::Semaphore;

use crate::codec::Encode;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::outcome::Outcome;
use crate::queue::check_name;
use crate::target::Target;

pub use self::receipt::{ProgressStream, Receipt};
pub use self::send::Sending;
#[cfg(feature = "sql")]
pub(crate) use self::{
    encoded::EncodedProducer,
    send::Encoded,
    send::{check_deadline, check_headers, check_id, not_written},
};

/// Messages under way, unless said otherwise.
const WINDOW: usize = 1000;
/// Bytes of bodies under way, unless said otherwise.
const WINDOW_BYTES: usize = 64 << 20;
/// Bytes are counted in units, since a semaphore has no more than 2^29 permits to give.
const UNIT_BYTES: usize = 1024;
/// How long sending may take, unless said otherwise.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an outcome is waited for if there is no deadline.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(30);

/// Says how a producer is to be; [`build`](Self::build) makes it.
#[must_use]
pub struct ProducerBuilder<In, Out, C> {
    connection: Arc<Connection>,
    target: Target,
    settings: Settings,
    types: PhantomData<fn(In, C) -> Out>,
}

#[derive(Debug, Clone)]
struct Settings {
    deadline: Option<Duration>,
    window: usize,
    window_bytes: usize,
    send_timeout: Duration,
    outcome_timeout: Duration,
}

/// Puts messages into a queue, or sends them to a topic. Cloning is cheap; all clones share one window.
pub struct Producer<In, Out = (), C = crate::codec::Json> {
    inner: Arc<Inner>,
    types: PhantomData<fn(In, C) -> Out>,
}

struct Inner {
    connection: Arc<Connection>,
    target: Target,
    settings: Settings,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl<In, Out, C> ProducerBuilder<In, Out, C> {
    pub(crate) fn new(connection: Arc<Connection>, target: Target) -> Self {
        let settings = Settings {
            deadline: None,
            window: WINDOW,
            window_bytes: WINDOW_BYTES,
            send_timeout: SEND_TIMEOUT,
            outcome_timeout: OUTCOME_TIMEOUT,
        };
        Self { connection, target, settings, types: PhantomData }
    }

    /// By when a message must be processed, from the moment it is sent: after that its outcome is
    /// [`DeadlineMissed`](crate::Outcome::DeadlineMissed). Each message may have one of its own.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = Some(deadline);
        self
    }

    /// How many messages may be under way at a time: handed over and not confirmed, or with a callback
    /// that has not been called. 1000 unless said otherwise. [`Producer::send`] waits for room.
    pub fn window(mut self, messages: usize) -> Self {
        self.settings.window = messages.max(1);
        self
    }

    /// How many bytes their bodies may have together; 64 MiB unless said otherwise. A larger body is
    /// refused.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.settings.window_bytes = bytes.max(UNIT_BYTES);
        self
    }

    /// How long a send may take, with all waiting for room, for a connection and for the disk; 30 s
    /// unless said otherwise.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.settings.send_timeout = timeout;
        self
    }

    /// How long [`Receipt::outcome`] waits for a message without a deadline; 30 s unless said
    /// otherwise.
    pub fn outcome_timeout(mut self, timeout: Duration) -> Self {
        self.settings.outcome_timeout = timeout;
        self
    }

    /// Makes the producer, and the queue or topic if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unreachable`]; [`ErrorKind::NoLedger`]: a topic on a broker
    /// that does not say which queues it has, without a ledger that does.
    pub async fn build(self) -> Result<Producer<In, Out, C>, Error> {
        let Self { connection, target, settings, types: PhantomData } = self;
        check_name(target.name())?;
        let transport = &connection.transport;
        let ready = async {
            transport.ensure(&target).await?;
            transport.ensure_outcomes().await
        };
        tokio::time::timeout(settings.send_timeout, ready).await.map_err(|_| {
            let text = format!(
                "the broker did not answer within {:?}; check that it runs",
                settings.send_timeout
            );
            Error::new(ErrorKind::Unreachable, text)
        })??;
        let inner = Inner {
            target,
            messages: Arc::new(Semaphore::new(settings.window.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(settings.window_bytes.div_ceil(UNIT_BYTES))),
            settings,
            connection,
        };
        Ok(Producer { inner: Arc::new(inner), types: PhantomData })
    }
}

impl<In, Out, C> Producer<In, Out, C> {
    /// Sends a message: await it, and the engine has it on disk.
    ///
    /// ```no_run
    /// # use wilco::{Producer, Error};
    /// # async fn example(stock: Producer<String>) -> Result<(), Error> {
    /// let receipt = stock.send(&"7 cups".to_owned()).id("order-7").await?;
    /// println!("{}", receipt.outcome().await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// While the window is full, it waits.
    pub fn send(&self, message: &In) -> Sending<Out, C>
    where
        C: Encode<In>,
    {
        Sending::new(Arc::clone(&self.inner), C::encode(message), C::CONTENT_TYPE)
    }

    /// The same, but fails with [`ErrorKind::Full`] instead of waiting for room in the window.
    pub fn try_send(&self, message: &In) -> Sending<Out, C>
    where
        C: Encode<In>,
    {
        self.send(message).without_waiting()
    }

    /// Sends all that a stream has, or an iterator by [`stream::iter`](futures_util::stream::iter), in its
    /// order, and tells what became of each as that becomes known, in any order: the id is among an outcome's
    /// details. As many are under way as the window has room for, until their outcomes are known, so however
    /// much there is, so much memory it takes. Who takes no more outcomes sends no more.
    ///
    /// ```no_run
    /// # use wilco::{Producer, Error};
    /// use futures_util::{StreamExt, stream};
    ///
    /// # async fn example(stock: Producer<u32>) -> Result<(), Error> {
    /// let mut outcomes = std::pin::pin!(stock.send_all(stream::iter(0..1_000_000)));
    /// while let Some(outcome) = outcomes.next().await {
    ///     println!("{}", outcome?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of each message by itself, as [`send`](Self::send) and [`Receipt::outcome`] have them; the others go on.
    pub fn send_all<S>(&self, messages: S) -> impl Stream<Item = Result<Outcome<Out, C>, Error>>
    where
        S: Stream<Item = In>,
        C: Encode<In> + 'static,
        Out: 'static,
    {
        let window = self.inner.settings.window;
        let told = |message: In| {
            let sending = self.send(&message);
            async move { sending.await?.outcome().await }
        };
        // Polled first in the order in which they came, so they are sent in it.
        messages.map(told).buffer_unordered(window)
    }

    /// The name of its queue or topic.
    pub fn name(&self) -> &str {
        self.inner.target.name()
    }
}

impl<In, Out, C> Clone for Producer<In, Out, C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), types: PhantomData }
    }
}

impl<In, Out, C> std::fmt::Debug for Producer<In, Out, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("target", &self.inner.target).finish_non_exhaustive()
    }
}
