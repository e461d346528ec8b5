//! Workers: take messages, have handlers work on them, and say what became of each.
//!
//! A worker that stops takes nothing more, lets what it has begun finish within its grace time, and
//! gives the rest back by closing: never as a failure.

mod attempt;
mod attempts;
mod backoff;
mod context;
mod failure;
mod handler;
mod report;
mod route;
mod running;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

use crate::codec::{Decode, Encode};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::queue::Queue;

pub use self::backoff::Backoff;
pub use self::context::{Context, Extract, State};
pub use self::failure::Failure;
pub use self::handler::Handler;
pub use self::report::Report;
pub use self::route::{Handling, Job};

use self::context::States;
use self::failure::BoxError;
use self::route::{Route, Wrap};
use self::running::Running;

/// Messages worked on at a time, of each queue, unless said otherwise.
const CONCURRENCY: u16 = 16;
/// How often a message is tried, unless said otherwise.
const ATTEMPTS: u32 = 5;
/// How long what has begun may take when the worker stops.
const GRACE: Duration = Duration::from_secs(30);

/// Says how a worker is to be; [`run`](Self::run) or [`until`](Self::until) has it work.
#[must_use = "a worker works while it is run"]
pub struct WorkerBuilder {
    connection: Arc<Connection>,
    routes: Vec<Route>,
    layers: Vec<Wrap>,
    states: States,
    settings: Settings,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    concurrency: u16,
    attempts: u32,
    backoff: Backoff,
    timeout: Option<Duration>,
    grace: Duration,
}

impl WorkerBuilder {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        let settings = Settings {
            concurrency: CONCURRENCY,
            attempts: ATTEMPTS,
            backoff: Backoff::default(),
            timeout: None,
            grace: GRACE,
        };
        let (routes, layers, states) = Default::default();
        Self { connection, routes, layers, states, settings }
    }

    /// Has a function handle the messages of a queue. May be said for several queues.
    pub fn handle<In, Out, C, H, Arguments>(mut self, queue: Queue<In, Out, C>, handler: H) -> Self
    where
        In: Send + 'static,
        Out: Send + 'static,
        C: Decode<In> + Encode<Out>,
        H: Handler<In, Out, Arguments>,
        Arguments: 'static,
    {
        self.routes.push(Route::new(&queue, handler));
        self
    }

    /// Puts a [tower](https://docs.rs/tower) layer around all handlers: for logging, limits, metrics and
    /// the like. The first that is said is the outermost; around them are always, from the outside in, the
    /// trace span, catching panics, de-duplication, retry and time-out. An error of a layer is tried again,
    /// as one of the handler is.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Handling> + Send + Sync + 'static,
        L::Service: Service<Job, Response = Bytes> + Clone + Send + 'static,
        <L::Service as Service<Job>>::Error: Into<BoxError>,
        <L::Service as Service<Job>>::Future: Send,
    {
        self.layers.push(route::wrap(layer));
        self
    }

    /// Gives handlers a value, which they take as [`State`]. One of each type.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(state);
        self
    }

    /// How many messages of each queue are worked on at a time; 16 unless said otherwise.
    pub fn concurrency(mut self, messages: u16) -> Self {
        self.settings.concurrency = messages.max(1);
        self
    }

    /// How often a message is tried before it has failed, and how long to wait between; 5 times, and
    /// from one second on twice as long each time, unless said otherwise.
    ///
    /// Each delivery to a worker counts as an attempt, also one that ended with the worker or its
    /// connection. A message that waits for its next attempt here counts as worked on. A queue's own
    /// delivery limit counts as well: the smaller of both is what happens. A classic queue does not count,
    /// so for its messages the attempts of this worker do.
    pub fn attempts(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.settings.attempts = attempts.max(1);
        self.settings.backoff = backoff;
        self
    }

    /// How long a handler may take; after that, its future is dropped and the message is tried again.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How long what has begun may take once the worker is told to stop; 30 s unless said otherwise.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Works until the future is done, then stops, and says what was done. For programs:
    /// [`signals`](crate::signals()).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Forbidden`] and others for a queue that cannot be consumed
    /// from, now or later; what other queues' messages had begun is finished before.
    pub async fn until(self, stop: impl Future<Output = ()>) -> Result<Report, Error> {
        self.work(stop, None).await
    }

    /// `starting` is held until it takes messages.
    async fn work(
        self,
        stop: impl Future<Output = ()>,
        starting: Option<Arc<()>>,
    ) -> Result<Report, Error> {
        let Self { connection, routes, layers, states, settings } = self;
        for route in &routes {
            if let Some((_, name)) = route.needs.iter().find(|(id, _)| !states.contains(*id)) {
                let text = format!(
                    "the handler of queue '{}' takes State<{name}>, but the worker has no such state; \
                     say .state(…)",
                    route.queue
                );
                return Err(Error::new(ErrorKind::NotFound, text));
            }
        }
        if routes.is_empty() {
            let text = "the worker has nothing to handle; say .handle(queue, function)";
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        let routes = routes.into_iter().map(|route| route.wrapped(&layers)).collect();
        Running::new(connection, Arc::new(states), Arc::new(settings))
            .run(routes, stop, starting)
            .await
    }

    /// Has it work in a task of its own, until that is stopped or dropped.
    pub fn spawn(self) -> RunningWorker {
        let connection = Arc::clone(&self.connection);
        let (stop, stopped) = oneshot::channel();
        let starting = Arc::clone(&connection.starting);
        let stop_it = async {
            // Who drops it does not stop it: the task ends with it, at once.
            if stopped.await.is_err() {
                std::future::pending().await
            }
        };
        let task = tokio::spawn(self.work(stop_it, Some(starting)));
        let mut workers = connection.workers.lock();
        workers.retain(|worker| !worker.is_finished());
        workers.push(task.abort_handle());
        RunningWorker { stop: Some(stop), task }
    }

    /// Works until the queue or the connection is closed.
    ///
    /// # Errors
    /// As [`until`](Self::until).
    pub async fn run(self) -> Result<Report, Error> {
        self.until(std::future::pending()).await
    }
}

/// A worker in a task of its own. When this is dropped, it ends at once: what it had goes back to the queue.
#[derive(Debug)]
pub struct RunningWorker {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<Report, Error>>,
}

impl RunningWorker {
    /// Stops it, lets it finish what it has begun, and says what was done.
    ///
    /// # Errors
    /// As [`WorkerBuilder::until`]: what ended it before, if something did.
    pub async fn stop(mut self) -> Result<Report, Error> {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        (&mut self.task).await.unwrap_or_else(|_| Err(Error::closed()))
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues: Vec<_> = self.routes.iter().map(|route| &route.queue).collect();
        f.debug_struct("WorkerBuilder").field("queues", &queues).finish_non_exhaustive()
    }
}
