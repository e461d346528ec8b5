//! One attempt at one message: from the delivery to its verdict.
//!
//! Around the handler are, from the outside in: trace, panic, de-duplication, retry, time-out, and the
//! user's layers. The order is fixed, since it decides what is right: a time-out or a panic is an attempt
//! like any other; what is known already is neither tried nor counted.
//!
//! A message that is to be tried again later waits in the engine, or, where that cannot be, here: it is
//! unsettled, and then goes back to the queue. A crash meanwhile puts it back at once, and never loses it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use ::outcome::REPORT_BYTES_MAX;
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::Instrument;

use super::Settings;
use super::attempts::Attempts;
use super::context::{Context, Surroundings};
use super::failure::{Failure, Then};
use super::report::Report;
use super::route::Route;
use super::running::Running;
use crate::connection::Connection;
use crate::transport::{Admission, Incoming, Verdict};

/// See the module's documentation.
pub(super) struct Attempt {
    route: Arc<Route>,
    settings: Arc<Settings>,
    report: Arc<Mutex<Report>>,
    attempts: Arc<Attempts>,
    stopping: watch::Receiver<bool>,
    context: Context,
}

impl Attempt {
    pub(super) fn new(running: &Running, route: &Arc<Route>, incoming: Incoming) -> Self {
        let surroundings = Surroundings {
            connection: Arc::clone(&running.connection),
            states: Arc::clone(&running.states),
            stopping: running.stopping.subscribe(),
            queue: Arc::clone(&route.queue),
            attempt: running.attempts.before(&incoming).saturating_add(1),
            incoming,
            progressed_at: Mutex::new(None),
        };
        Self {
            route: Arc::clone(route),
            settings: Arc::clone(&running.settings),
            report: Arc::clone(&running.report),
            attempts: Arc::clone(&running.attempts),
            stopping: running.stopping.subscribe(),
            context: Context(Arc::new(surroundings)),
        }
    }

    fn connection(&self) -> &Connection {
        &self.context.0.connection
    }

    fn incoming(&self) -> &Incoming {
        &self.context.0.incoming
    }

    /// Makes it.
    pub(super) async fn make(self) {
        // OpenTelemetry's names for messaging.
        let span = tracing::info_span!(
            "process",
            "messaging.operation.type" = "process",
            "messaging.destination.name" = self.context.queue(),
            "messaging.message.id" = self.context.id(),
            "messaging.message.body.size" = self.incoming().body.len(),
            "wilco.attempt" = self.context.attempt(),
            traceparent = self.context.header("traceparent"),
        );
        self.traced().instrument(span).await;
    }

    async fn traced(mut self) {
        let admitted = {
            let Surroundings { connection, incoming, attempt, .. } = &*self.context.0;
            let admitting = connection.transport.admit(incoming, *attempt);
            tokio::select! {
                admission = admitting => Some(admission),
                // It waits for another: whoever works on may have it.
                _ = self.stopping.wait_for(|is_stopping| *is_stopping) => None,
            }
        };
        // Until it is settled.
        let _claimed = match admitted {
            Some(Admission::Work(claimed)) => claimed,
            Some(Admission::Known) => return self.attempts.forget(self.incoming()),
            None => {
                self.settle(Verdict::AGAIN).await;
                return;
            }
        };
        match self.handled().await {
            Ok(result) => {
                self.attempts.forget(self.incoming());
                let content_type = self.route.content_type;
                if self.settle(Verdict::Processed { result, content_type }).await {
                    self.report.lock().processed += 1;
                }
            }
            Err(failure) => self.failed(failure).await,
        }
    }

    async fn handled(&self) -> Result<Bytes, Failure> {
        let Settings { attempts, timeout, .. } = *self.settings;
        if self.context.attempt() > attempts {
            let text = format!(
                "a worker had it {attempts} times, and each time ended, or lost its connection, before \
                 it said what became of it"
            );
            return Err(Failure::permanent(text));
        }
        let handling = self.route.handle(self.incoming().body.clone(), self.context.clone());
        let handling = AssertUnwindSafe(handling).catch_unwind();
        match self.connection().clock.within(timeout, handling).await {
            Some(Ok(handled)) => handled.and_then(small_enough),
            Some(Err(panic)) => Err(panicked(&*panic)),
            None => Err(Failure::retry("the handler took too long")),
        }
    }

    /// It did not work: somebody tries again later, or it has failed.
    async fn failed(mut self, failure: Failure) {
        let attempt = self.context.attempt();
        let after = match failure.then() {
            Then::GiveUp => None,
            _ if attempt >= self.settings.attempts => None,
            Then::Retry => Some(jittered(self.settings.backoff.after(attempt))),
            Then::RetryAfter(delay) => Some(delay),
        };
        let Some(after) = after else {
            self.attempts.forget(self.incoming());
            let mut error = failure.into_text();
            error.truncate(error.floor_char_boundary(REPORT_BYTES_MAX));
            tracing::debug!("failed: {error}");
            if self.settle(Verdict::Failed { error }).await {
                self.report.lock().failed += 1;
            }
            return;
        };
        tracing::debug!(?after, "tried again: {failure}");
        self.attempts.note(self.incoming(), attempt);
        if !self.connection().transport.delays_retries() {
            // However the waiting ends.
            let _parked = Arc::clone(&self.connection().parked);
            tokio::select! {
                () = self.context.0.connection.clock.sleep(after) => {}
                // Whoever works on may try at once.
                _ = self.stopping.wait_for(|is_stopping| *is_stopping) => {}
            }
        }
        if self.settle(Verdict::Again { after }).await {
            self.report.lock().retried += 1;
        }
    }

    async fn settle(&self, verdict: Verdict) -> bool {
        let Surroundings { connection, incoming, attempt, .. } = &*self.context.0;
        connection.transport.settle(incoming, *attempt, verdict).await
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

/// Up to a tenth more, so that those who failed together do not come back together.
fn jittered(delay: Duration) -> Duration {
    // The last bytes of such an id are random.
    let random = uuid::Uuid::now_v7().as_bytes()[15];
    delay + delay.mul_f64(f64::from(random) / 2560.0)
}

/// A panic costs its message only.
fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::permanent(format!("the handler panicked: {}", text.unwrap_or("without a text")))
}
