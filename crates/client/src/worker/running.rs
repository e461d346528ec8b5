//! A worker at work: a task for each message, one loop for each queue.
//!
//! A message that is to be tried again later waits here, unsettled, and then goes back to the queue: a
//! crash meanwhile puts it back at once, and never loses it.

use std::any::{Any, TypeId};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Settings;
use super::attempts::Attempts;
use super::context::{Context, MessageContext, States};
use super::failure::{Failure, Then};
use super::handler::Handler;
use super::report::Report;
use crate::codec::{Decode, Encode};
use crate::connection::Connection;
use crate::error::Error;
use crate::queue::{Queue, check_name};
use crate::transport::{Incoming, Subscription, Verdict};
use ::outcome::REPORT_BYTES_MAX;

type Handling = Pin<Box<dyn Future<Output = Result<Bytes, Failure>> + Send>>;

/// A queue and what handles its messages, without types.
pub(crate) struct Route {
    pub(super) queue: String,
    pub(super) needs: Vec<(TypeId, &'static str)>,
    content_type: &'static str,
    handle: Arc<dyn Fn(Bytes, Context) -> Handling + Send + Sync>,
}

impl Route {
    pub(super) fn new<In, Out, C, H, Arguments>(queue: &Queue<In, Out, C>, handler: H) -> Self
    where
        In: Send + 'static,
        Out: Send + 'static,
        C: Decode<In> + Encode<Out>,
        H: Handler<In, Out, Arguments>,
        Arguments: 'static,
    {
        let handle = move |body: Bytes, context: Context| -> Handling {
            let handler = handler.clone();
            Box::pin(async move {
                let message = C::decode(&body).map_err(|error| unreadable::<C>(&*error))?;
                let out = handler.call(message, context).await?;
                C::encode(&out).map_err(|error| {
                    Failure::permanent(format!(
                        "it was done, but what the handler returned cannot be written as {}: {error}",
                        C::CONTENT_TYPE
                    ))
                })
            })
        };
        Self {
            queue: queue.name().to_owned(),
            needs: H::needs(),
            content_type: C::CONTENT_TYPE,
            handle: Arc::new(handle),
        }
    }
}

fn unreadable<C: crate::codec::Codec>(error: &(dyn std::error::Error + Send + Sync)) -> Failure {
    let content_type = C::CONTENT_TYPE;
    Failure::permanent(format!("the body is not the {content_type} that is expected here: {error}"))
}

/// See the module's documentation.
pub(super) struct Running {
    connection: Arc<Connection>,
    states: Arc<States>,
    settings: Arc<Settings>,
    report: Arc<Mutex<Report>>,
    attempts: Arc<Attempts>,
    stopping: watch::Sender<bool>,
}

/// A subscription, given up however its worker ends.
struct Subscribed {
    connection: Arc<Connection>,
    route: Arc<Route>,
    subscription: Subscription,
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.connection.transport.release(self.subscription.id);
    }
}

impl Running {
    pub(super) fn new(
        connection: Arc<Connection>,
        states: Arc<States>,
        settings: Arc<Settings>,
    ) -> Self {
        let (stopping, _) = watch::channel(false);
        let (report, attempts) = Default::default();
        Self { connection, states, settings, report, attempts, stopping }
    }

    pub(super) async fn run(
        self,
        routes: Vec<Route>,
        stop: impl Future<Output = ()>,
    ) -> Result<Report, Error> {
        let mut stop = std::pin::pin!(stop);
        let subscribing = self.subscribe(routes);
        let mut subscribed = tokio::select! {
            subscribed = subscribing => subscribed?,
            () = &mut stop => return Ok(Report::default()),
        };
        let ended = {
            let mut working =
                std::pin::pin!(join_all(subscribed.iter_mut().map(|it| self.work(it))));
            tokio::select! {
                ended = &mut working => ended,
                () = stop => {
                    self.stopping.send_replace(true);
                    working.await
                }
            }
        };
        let ids: Vec<u64> = subscribed.iter().map(|it| it.subscription.id).collect();
        drop(subscribed);
        // What was settled last is not only on its way.
        join_all(ids.iter().map(|id| self.connection.transport.released(*id))).await;
        let report = *self.report.lock();
        match ended.into_iter().collect::<Result<(), Error>>() {
            Ok(()) => Ok(report),
            Err(error) => {
                tracing::error!("the worker ends ({report}): {error}");
                Err(error)
            }
        }
    }

    async fn subscribe(&self, routes: Vec<Route>) -> Result<Vec<Subscribed>, Error> {
        let mut subscribed = Vec::new();
        for route in routes {
            check_name(&route.queue)?;
            let transport = &self.connection.transport;
            let subscription = transport.subscribe(&route.queue, self.settings.concurrency).await?;
            let connection = Arc::clone(&self.connection);
            subscribed.push(Subscribed { connection, route: Arc::new(route), subscription });
        }
        Ok(subscribed)
    }

    /// Works on the messages of one queue until there are no more.
    async fn work(
        &self,
        Subscribed { route, subscription, .. }: &mut Subscribed,
    ) -> Result<(), Error> {
        let transport = &self.connection.transport;
        let mut tasks = JoinSet::new();
        let mut result = Ok(());
        let mut stopping = self.stopping.subscribe();
        // After a reconnect, messages come again while handlers still work on what they had.
        let places = Arc::new(Semaphore::new(self.settings.concurrency.into()));
        loop {
            let place = Arc::clone(&places);
            let next = async {
                let place = place.acquire_owned().await;
                (place, subscription.incoming.recv().await)
            };
            let (place, next) = tokio::select! {
                biased;
                // Whoever stops gives back what it has not begun.
                _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
                next = next => next,
            };
            while tasks.try_join_next().is_some() {}
            match next {
                Some(Ok(incoming)) => {
                    let attempt = self.attempt(route, incoming);
                    tasks.spawn(async move {
                        let _place = place;
                        attempt.await;
                    });
                }
                Some(Err(error)) => {
                    result = Err(error);
                    // The other queues are wound up, too: half a worker is hard to notice.
                    self.stopping.send_replace(true);
                    break;
                }
                None => break,
            }
        }
        transport.stop(subscription.id);
        while let Ok(Ok(incoming)) = subscription.incoming.try_recv() {
            transport.settle(&incoming, Verdict::Again);
        }
        let finish = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.settings.grace, finish).await.is_err() {
            self.report.lock().given_back += tasks.len() as u64;
            // A handler that blocks its thread does not even end now; nobody waits for it.
            tasks.abort_all();
        }
        result
    }

    /// One attempt at one message.
    fn attempt(
        &self,
        route: &Arc<Route>,
        mut incoming: Incoming,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (route, settings) = (Arc::clone(route), Arc::clone(&self.settings));
        let (connection, report) = (Arc::clone(&self.connection), Arc::clone(&self.report));
        let attempts = Arc::clone(&self.attempts);
        let attempt = attempts.before(&incoming).saturating_add(1);
        let mut stopping = self.stopping.subscribe();
        let context = Context {
            message: Arc::new(MessageContext {
                id: incoming.id.clone(),
                queue: route.queue.clone(),
                attempt,
                is_redelivered: incoming.is_redelivered,
                deadline_at: incoming.deadline_at_ms.map(time),
                headers: std::mem::take(&mut incoming.headers),
            }),
            states: Arc::clone(&self.states),
            stopping: self.stopping.subscribe(),
        };
        async move {
            let handling = (route.handle)(incoming.body.clone(), context);
            let handled = within(settings.timeout, AssertUnwindSafe(handling).catch_unwind()).await;
            let handled = match handled {
                Some(Ok(handled)) => handled.and_then(small_enough),
                Some(Err(panic)) => Err(panicked(&*panic)),
                None => Err(Failure::retry("the handler took too long")),
            };
            let transport = &connection.transport;
            let failure = match handled {
                Ok(result) => {
                    attempts.forget(&incoming);
                    let content_type = route.content_type;
                    let verdict = Verdict::Processed { result, content_type };
                    if transport.settle(&incoming, verdict) {
                        report.lock().processed += 1;
                    }
                    return;
                }
                Err(failure) => failure,
            };
            let delay = match failure.then() {
                Then::GiveUp => None,
                _ if attempt >= settings.attempts => None,
                Then::Retry => Some(jittered(settings.backoff.after(attempt))),
                Then::RetryAfter(delay) => Some(delay),
            };
            let Some(delay) = delay else {
                attempts.forget(&incoming);
                let mut error = failure.into_text();
                error.truncate(error.floor_char_boundary(REPORT_BYTES_MAX));
                tracing::debug!(id = incoming.id, "failed: {error}");
                if transport.settle(&incoming, Verdict::Failed { error }) {
                    report.lock().failed += 1;
                }
                return;
            };
            tracing::debug!(id = incoming.id, attempt, ?delay, "tried again: {failure}");
            attempts.note(&incoming, attempt);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                // Whoever works on may try at once.
                _ = stopping.wait_for(|is_stopping| *is_stopping) => {}
            }
            if transport.settle(&incoming, Verdict::Again) {
                report.lock().retried += 1;
            }
        }
    }
}

/// A result that cannot be passed on as a whole is no result.
fn small_enough(result: Bytes) -> Result<Bytes, Failure> {
    if result.len() <= REPORT_BYTES_MAX {
        return Ok(result);
    }
    Err(Failure::permanent(format!(
        "it was done, but the result has {} bytes, and {REPORT_BYTES_MAX} are passed on at most; put it \
         elsewhere and return where it is",
        result.len()
    )))
}

async fn within<T>(timeout: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, work).await.ok(),
        None => Some(work.await),
    }
}

/// Up to a tenth more, so that those who failed together do not come back together.
fn jittered(delay: Duration) -> Duration {
    // The last bytes of such an id are random.
    let random = uuid::Uuid::now_v7().as_bytes()[15];
    delay + delay.mul_f64(f64::from(random) / 2560.0)
}

fn time(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// A panic costs its message only.
fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::permanent(format!("the handler panicked: {}", text.unwrap_or("without a text")))
}
