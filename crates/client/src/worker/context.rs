//! What a handler can ask about the message it works on, and what it is given besides.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::failure::Failure;
use crate::clock::at;
use crate::connection::Connection;
use crate::progress::Progress;
use crate::transport::Incoming;

/// What surrounds a message while it is worked on. Handlers take it as an argument.
#[derive(Clone)]
pub struct Context(pub(crate) Arc<Surroundings>);

/// See [`Context`].
pub(crate) struct Surroundings {
    pub(crate) connection: Arc<Connection>,
    pub(crate) states: Arc<States>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) queue: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) incoming: Incoming,
    /// When progress was last passed on.
    pub(crate) progressed_at: Mutex<Option<Instant>>,
}

/// Between two reports of progress there is at least this.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Values that handlers share, one of each type.
#[derive(Default, Clone)]
pub(crate) struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(state));
    }

    fn of<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }

    pub(crate) fn contains(&self, type_id: TypeId) -> bool {
        self.0.contains_key(&type_id)
    }
}

impl Context {
    /// The message's id; empty if its producer gave it none.
    pub fn id(&self) -> &str {
        &self.0.incoming.id
    }

    /// The queue it came from.
    pub fn queue(&self) -> &str {
        &self.0.queue
    }

    /// Which attempt this is, from 1 on, as far as the engine counts them.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Whether a worker may have had it before.
    pub fn is_redelivered(&self) -> bool {
        self.0.incoming.is_redelivered
    }

    /// A header that its producer gave it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// All of them; values that are no texts, as texts.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.incoming.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How long its producer still waits, by the clocks of both; `None` if it waits as long as it takes.
    pub fn time_left(&self) -> Option<Duration> {
        let deadline_at = at(self.0.incoming.deadline_at_ms?);
        Some(deadline_at.duration_since(self.0.connection.clock.now()).unwrap_or_default())
    }

    /// For handlers that look up now and then whether the work is still wanted.
    ///
    /// # Errors
    /// [`Failure::late`]: the deadline has passed.
    pub fn check_deadline(&self) -> Result<(), Failure> {
        match self.time_left() {
            Some(left) if left.is_zero() => Err(Failure::late()),
            _ => Ok(()),
        }
    }

    /// Tells the producer how far the work has got, from 0 to 1, and what is being done: it sees that with
    /// [`Receipt::progress`](crate::Receipt::progress). At most ten a second are passed on to it, and some tens
    /// in all go into the message's story on a wilco server; those between are forgotten.
    pub fn progress(&self, fraction: f64, text: impl AsRef<str>) {
        let Surroundings { connection, incoming, queue, attempt, progressed_at, .. } = &*self.0;
        let now = Instant::now();
        {
            let mut last = progressed_at.lock();
            if last.is_some_and(|last| now.duration_since(last) < PROGRESS_EVERY) {
                return;
            }
            *last = Some(now);
        }
        let progress = Progress::new(fraction, text.as_ref(), *attempt, queue);
        connection.transport.report_progress(incoming, *attempt, &progress);
    }

    /// Completes when the deadline passes; never if there is none.
    pub async fn deadline_passed(&self) {
        match self.time_left() {
            Some(left) => self.0.connection.clock.sleep(left).await,
            None => std::future::pending().await,
        }
    }

    /// Completes when the worker is told to stop: what takes long should come to an end, or give up.
    pub async fn stopping(&self) {
        let mut stopping = self.0.stopping.clone();
        if stopping.wait_for(|is_stopping| *is_stopping).await.is_err() {
            std::future::pending().await
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Surroundings { queue, attempt, incoming, .. } = &*self.0;
        let mut context = f.debug_struct("Context");
        context.field("id", &incoming.id).field("queue", queue).field("attempt", attempt);
        context.field("headers", &incoming.headers).finish_non_exhaustive()
    }
}

/// Something that a handler takes as an argument besides the message.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` as an argument",
    note = "the first argument is the message; the others are `Context`, `State<T>`, or types that implement `Extract`"
)]
pub trait Extract: Sized + Send {
    /// Gets it.
    ///
    /// # Errors
    /// It cannot be had: the message is not worked on.
    fn extract(context: &Context) -> Result<Self, Failure>;

    /// The type of the state that it needs, so that a worker without it does not start.
    #[doc(hidden)]
    fn needs() -> Option<(TypeId, &'static str)> {
        None
    }
}

impl Extract for Context {
    fn extract(context: &Context) -> Result<Self, Failure> {
        Ok(context.clone())
    }
}

/// A value that was given to the worker ([`state`](crate::WorkerBuilder::state)): a clone of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> Extract for State<T> {
    fn extract(context: &Context) -> Result<Self, Failure> {
        let state = context.0.states.of::<T>().map(State);
        state.ok_or_else(|| Failure::permanent(format!("there is no state {}", type_name::<T>())))
    }

    fn needs() -> Option<(TypeId, &'static str)> {
        Some((TypeId::of::<T>(), type_name::<T>()))
    }
}
