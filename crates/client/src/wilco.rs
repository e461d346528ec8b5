//! The connection: where producers and workers come from.

use std::sync::Arc;

use crate::attached::Attached;
use crate::awaited::Awaited;
use crate::capability::Capability;
use crate::clock::Clock;
use crate::connection::Connection;
use crate::error::Error;
use crate::producer::ProducerBuilder;
use crate::queue::{Queue, SendTo, check_name};
use crate::story::{self, Story};
use crate::target::Target;
#[cfg(feature = "activemq")]
use crate::transport::activemq::ActivemqTransport;
use crate::transport::amqp::{AmqpTransport, Times};
#[cfg(feature = "embedded")]
use crate::transport::embedded::EmbeddedTransport;
#[cfg(feature = "kafka")]
use crate::transport::kafka::KafkaTransport;
use crate::transport::{Source, Transport};
use crate::url::{Endpoint, Scheme};
use crate::watch::Watch;
use crate::worker::WorkerBuilder;

/// A connection to an engine. Cloning is cheap, and all clones are the same connection; it closes when
/// the last one and everything made from it are gone, or with [`close`](Self::close).
///
/// It reconnects by itself. While there is no connection, sending waits, and so does working; what had
/// been handed over is sent again under its id, so nothing is lost. A worker that dies, or loses its
/// connection, before the broker knows that it is done may see its message again, as with every queue: what
/// it does should bear that.
#[derive(Clone)]
pub struct Wilco {
    connection: Arc<Connection>,
}

impl Wilco {
    /// Connects to the engine that a URL names:
    ///
    /// - `amqp://user:password@host:5672/vhost`: a wilco server, which makes the outcomes, or RabbitMQ,
    ///   where this library makes them; `amqp://host1,host2,host3` for several nodes of a cluster;
    /// - `amqps://user:password@host/vhost`: the same over TLS 1.2 or 1.3 (feature `tls`), with port 5671 and
    ///   options named as RabbitMQ's clients name them. `cacertfile=PATH` is who may have issued the broker's
    ///   certificate, else the authorities of the system are asked; `certfile=PATH` and `keyfile=PATH` are
    ///   our own, for a broker that demands one, and with `auth_mechanism=external` it says who we are;
    ///   `server_name_indication=NAME` is what the broker's is for, if not for the host. With
    ///   `verify=verify_none` whoever answers is taken for the broker, so that anybody in between can read
    ///   and change all, and a warning is logged each time. Files are in PEM, and read again at each connect;
    /// - `kafka://user:password@host1:9092,host2` (feature `kafka`): queues are topics; without a user nobody logs
    ///   in. `groups=classic` has each partition read by one worker at a time, where share groups would be
    ///   used; `partitions=COUNT` is what topics get that are made; `auth_mechanism=scram-sha-256` or
    ///   `scram-sha-512` instead of `plain`;
    /// - `activemq://user:password@host1:5672,host2` (feature `activemq`): Artemis or Classic, over AMQP 1.0;
    /// - `kafkas://` and `activemqs://`: the same over TLS, with the options of `amqps://`;
    /// - `embedded:PATH`: a broker in this process, with its store in that directory, which no other
    ///   process may use meanwhile (feature `embedded`);
    /// - `memory:`: the same with a store in memory, gone with the process.
    ///
    /// Options of servers, behind a `?`, percent-encoded: `heartbeat=SECONDS`, for `amqp://`; `name=NAME`, for
    /// the broker's list of connections; `ledger=URL`, where the engine keeps none (`sqlite:FILE` or
    /// `postgres://user:password@host/database`, feature `sql`): producers and workers name the same.
    ///
    /// On a server whose users may not do everything, a producer needs the permission to configure, write and
    /// read `wilco.outcomes.*`, its queue for outcomes, besides those for its own queues, and who
    /// [watches](Self::watch) the same for `wilco.watch.*`.
    ///
    /// # Errors
    /// [`ErrorKind::Url`](crate::ErrorKind::Url), [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable),
    /// [`ErrorKind::Login`](crate::ErrorKind::Login), [`ErrorKind::Tls`](crate::ErrorKind::Tls),
    /// [`ErrorKind::Store`](crate::ErrorKind::Store). Each address is tried once: a program that may start
    /// before its broker tries again.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let awaited = Arc::new(Awaited::default());
        let outcomes = Arc::clone(&awaited) as _;
        let transport: Arc<dyn Transport> = match Endpoint::parse(url)? {
            Endpoint::Server(address) => match address.scheme {
                Scheme::Amqp => {
                    let mut times = Times::default();
                    times.heartbeat = address.heartbeat.unwrap_or(times.heartbeat);
                    AmqpTransport::connect(*address, times, outcomes).await?
                }
                #[cfg(feature = "kafka")]
                Scheme::Kafka => KafkaTransport::connect(*address, outcomes).await?,
                #[cfg(feature = "activemq")]
                Scheme::Activemq => ActivemqTransport::connect(*address, outcomes).await?,
                #[cfg(not(all(feature = "kafka", feature = "activemq")))]
                _ => unreachable!("what has no feature is refused as a URL"),
            },
            #[cfg(feature = "embedded")]
            Endpoint::Embedded(path) => EmbeddedTransport::connect(path, outcomes).await?,
        };
        Ok(Self::over(transport, awaited, Clock::System))
    }

    pub(crate) fn over(transport: Arc<dyn Transport>, awaited: Arc<Awaited>, clock: Clock) -> Self {
        let (workers, parked, starting) = Default::default();
        let connection = Connection { transport, awaited, clock, workers, parked, starting };
        Self { connection: Arc::new(connection) }
    }

    /// Messages that wait in workers for the time of their next attempt.
    #[cfg(feature = "embedded")]
    pub(crate) fn parked_count(&self) -> u64 {
        Arc::strong_count(&self.connection.parked) as u64 - 1
    }

    /// Whether a worker was spawned that does not take messages yet.
    #[cfg(feature = "embedded")]
    pub(crate) fn has_starting_workers(&self) -> bool {
        Arc::strong_count(&self.connection.starting) > 1
    }

    /// Ends all workers that were spawned, at once, as when their process ends.
    #[cfg(feature = "embedded")]
    pub(crate) fn abort_workers(&self) {
        let workers = std::mem::take(&mut *self.connection.workers.lock());
        workers.iter().for_each(tokio::task::AbortHandle::abort);
    }

    /// Whether the engine can do this.
    pub fn can(&self, capability: Capability) -> bool {
        self.connection.transport.can(capability)
    }

    /// A producer for a [`Queue`] or a [`Topic`](crate::Topic).
    pub fn producer<T: SendTo>(&self, to: T) -> ProducerBuilder<T::In, T::Out, T::Codec> {
        ProducerBuilder::new(Arc::clone(&self.connection), to.target().0)
    }

    /// A worker, to be told what it handles.
    pub fn worker(&self) -> WorkerBuilder {
        WorkerBuilder::new(Arc::clone(&self.connection))
    }

    /// Makes a queue that is not there and, if it is one of a topic, has it get what is sent to that from now
    /// on: as a worker does that handles it, but without working on it.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden).
    pub async fn subscribe<In, Out, C>(&self, queue: &Queue<In, Out, C>) -> Result<(), Error> {
        check_name(queue.name())?;
        let source = queue.topic().map_or(Source::Itself, |topic| Source::Topic(topic.to_owned()));
        self.connection.transport.ensure_subscribed(queue.name(), &source).await
    }

    /// Finds a message by its id, whoever has sent it and whenever: where it stands, and from there on
    /// what becomes of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable). An id that nobody knows is no error: see
    /// [`Attached::state`].
    pub async fn attach<In, Out, C>(
        &self,
        queue: Queue<In, Out, C>,
        id: impl Into<String>,
    ) -> Result<Attached<Out, C>, Error> {
        let connection = Arc::clone(&self.connection);
        Attached::find(connection, queue.name().to_owned(), id.into()).await
    }

    /// All that is known of a message in all its queues; `None` if nobody knows the id.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable).
    pub async fn look_up(&self, id: &str) -> Result<Option<Story>, Error> {
        story::look_up(&self.connection, id, None).await
    }

    /// Has a message that has failed, expired or was dropped tried again, in this queue or, if none is
    /// named, in the only one of those into which it was put last where that can be.
    ///
    /// # Errors
    /// As [`Attached::retry`].
    pub async fn retry(&self, id: &str, queue: Option<&str>) -> Result<(), Error> {
        story::change(&self.connection, "retry", id, queue).await
    }

    /// Takes a message that waits for a worker out of this queue or, if none is named, out of the only
    /// one.
    ///
    /// # Errors
    /// As [`Attached::cancel`].
    pub async fn cancel(&self, id: &str, queue: Option<&str>) -> Result<(), Error> {
        story::change(&self.connection, "cancel", id, queue).await
    }

    /// What becomes of everybody's messages from now on, in a queue or in all.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden);
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): the engine lacks [`Capability::Watch`].
    pub async fn watch(&self, queue: Option<&str>) -> Result<Watch, Error> {
        Watch::begin(Arc::clone(&self.connection), queue.map(str::to_owned)).await
    }

    /// Makes a queue that is not there, as producers and workers do by themselves. One that exists stays
    /// as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden).
    pub async fn declare_queue(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        self.connection.transport.ensure(&Target::Queue(name.into())).await
    }

    /// Removes the messages of a queue that no worker has; returns how many. The outcome of each is
    /// [`Dropped`](crate::Outcome::Dropped), if the engine tells it ([`Capability::Dropped`]).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound), [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden).
    pub async fn purge_queue(&self, name: &str) -> Result<u64, Error> {
        check_name(name)?;
        self.connection.transport.purge_queue(name).await
    }

    /// Removes a queue with its messages; returns how many there were. Their outcome is
    /// [`Dropped`](crate::Outcome::Dropped), if the engine tells it ([`Capability::Dropped`]).
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`](crate::ErrorKind::Forbidden).
    pub async fn delete_queue(&self, name: &str) -> Result<u64, Error> {
        check_name(name)?;
        self.connection.transport.delete_queue(name).await
    }

    #[cfg(feature = "sql")]
    pub(crate) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// Ends the connection. Messages that are not confirmed yet are given up: their senders get
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed). What workers have not settled goes back to its queue.
    pub async fn close(self) {
        self.connection.transport.close().await;
    }
}

impl std::fmt::Debug for Wilco {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wilco").finish_non_exhaustive()
    }
}
