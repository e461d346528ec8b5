//! A worker at work: a task for each message, one loop for each queue.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Settings;
use super::attempt::Attempt;
use super::attempts::Attempts;
use super::context::States;
use super::report::Report;
use super::route::Route;
use crate::connection::Connection;
use crate::error::Error;
use crate::queue::check_name;
use crate::transport::{Source, Subscription, Verdict};

/// See the module's documentation.
pub(super) struct Running {
    pub(super) connection: Arc<Connection>,
    pub(super) states: Arc<States>,
    pub(super) settings: Arc<Settings>,
    pub(super) report: Arc<Mutex<Report>>,
    pub(super) attempts: Arc<Attempts>,
    pub(super) stopping: watch::Sender<bool>,
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
        starting: Option<Arc<()>>,
    ) -> Result<Report, Error> {
        let mut stop = std::pin::pin!(stop);
        let subscribing = self.subscribe(routes);
        let mut subscribed = tokio::select! {
            subscribed = subscribing => subscribed?,
            () = &mut stop => return Ok(Report::default()),
        };
        drop(starting);
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
            let source = route.topic.clone().map_or(Source::Itself, Source::Topic);
            let concurrency = self.settings.concurrency;
            let subscription = transport.subscribe(&route.queue, &source, concurrency).await?;
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
                // It came on a connection that is gone, and will come again.
                Some(Ok(incoming)) if !transport.holds(&incoming) => {}
                Some(Ok(incoming)) => {
                    let attempt = Attempt::new(self, route, incoming);
                    tasks.spawn(async move {
                        let _place = place;
                        attempt.make().await;
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
            transport.settle(&incoming, 0, Verdict::AGAIN).await;
        }
        let finish = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.settings.grace, finish).await.is_err() {
            self.report.lock().given_back += tasks.len() as u64;
            // A handler that blocks its thread does not even end now; nobody waits for it.
            tasks.abort_all();
        }
        result
    }
}
