//! The broker in this process: a node and one session of it, without sockets or frames.
//!
//! Commands work on the session at once, under its lock; a task ([`Driving`]) flushes what they
//! gathered, a batch at a time, and hands over what has come. The node makes the outcomes, as for clients
//! of a server, and is closed with the transport.

mod driving;
mod inbox;
mod publishing;
mod setup;
mod testing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use ::amqp::ReplyCode;
use async_trait::async_trait;
use broker::BrokerError;
use management::{Management, Queries, Query, ports::User};
use node::{DeclareQueue, MemoryDisk, Node, NodeError, Publish, Session, Settlement};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use self::driving::{Driving, Shared, State, Subscribed};
use self::inbox::Inbox;
use self::publishing::Publishing;
use self::setup::{
    ensure_queue, ensure_subscribed, ensure_topic, open_in_memory, open_session, start_consumer,
};
use super::{
    Answer, Confirm, Incoming, OutcomeSink, Outgoing, Question, Source, Subscription, Transport,
    Verdict, properties, queues,
};
use crate::capability::Capability;
use crate::clock::{Clock, millis};
use crate::error::{Error, ErrorKind};
use crate::progress::Progress;
use crate::target::Target;
use crate::window::Permits;

pub(crate) use self::testing::Controls;

/// As whom the session works, and where.
const USER: &str = "guest";
const VHOST: &str = "/";
/// The channel on which everything is published; consumers have one each behind it.
const PUBLISHING: u16 = 1;
const CONSUMER_TAG: &str = "wilco";
const REPORTS: &str = "amq.wilco.report";
/// How long a worker waits until what it has settled is on disk.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a store may be in use by others.
const IN_USE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before a store is opened again that somebody else has.
const OPEN_AGAIN: Duration = Duration::from_millis(10);
/// The longest sleep: what waits for time only (deadlines, retries) is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Names a delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeliveryToken {
    /// Of its session: what an earlier one had is back in its queue.
    epoch: u64,
    subscription: u64,
    tag: u64,
}

/// See the module's documentation.
pub(crate) struct EmbeddedTransport {
    shared: Arc<Shared>,
    /// Replaced with the node.
    asking: Mutex<Arc<Asking>>,
    outcome_queue: String,
    has_outcomes: tokio::sync::OnceCell<()>,
    clock: Clock,
    is_durable: bool,
}

/// Who answers questions, and as whom they are asked.
struct Asking {
    queries: Queries,
    user: User,
}

impl Asking {
    fn of(node: &Arc<Node>) -> Result<Self, Error> {
        let ports = management::over_node(Arc::clone(node));
        let management = Management::start(None, ports, management::Options::default());
        let queries = management.map_err(|error| store(&error))?.queries();
        let incarnation = node.identity(USER).map_or(0, |identity| identity.incarnation());
        Ok(Self { queries, user: User { name: USER.to_owned(), incarnation } })
    }
}

impl EmbeddedTransport {
    /// Opens a store in a directory, or one in memory.
    pub(crate) async fn connect(
        path: Option<PathBuf>,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<Self>, Error> {
        let is_durable = path.is_some();
        let clock = Clock::System;
        let opening = tokio::task::spawn_blocking(move || match path {
            Some(data) => open_file(&data),
            None => open_in_memory(MemoryDisk::new(), &Clock::System),
        });
        let node = opening.await.map_err(|error| store(&error))??;
        Self::over(node, clock, is_durable, outcomes)
    }

    /// Works with a node.
    fn over(
        node: Arc<Node>,
        clock: Clock,
        is_durable: bool,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<Self>, Error> {
        let session = open_session(&node)?;
        let asking = Asking::of(&node)?;
        let state = State {
            outbox: Arc::clone(session.outbox()),
            node,
            session: Some(session),
            epoch: 0,
            publishing: Publishing::default(),
            subscriptions: HashMap::new(),
            next_subscription: 0,
            released: 0,
            is_closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            outcomes,
            wake: Arc::default(),
            flushed: Notify::new(),
            turns: AtomicU64::new(0),
            down: watch::Sender::new(false),
        });
        tokio::spawn(Driving(Arc::clone(&shared)).run());
        Ok(Arc::new(Self {
            shared,
            asking: Mutex::new(Arc::new(asking)),
            outcome_queue: queues::outcome_queue_name(),
            has_outcomes: tokio::sync::OnceCell::new(),
            clock,
            is_durable,
        }))
    }

    /// Has something done with the session that must be durable when this returns.
    async fn with_session<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, BrokerError>,
    ) -> Result<T, Error> {
        let (done, barrier) = {
            let mut state = self.shared.state.lock();
            let session = state.session.as_mut().ok_or_else(Error::closed)?;
            let done = work(session).map_err(|error| refused(&error))?;
            (done, session.barrier())
        };
        self.shared.wake.0.notify_one();
        if let Some(position) = barrier {
            self.durable(position).await?;
        }
        Ok(done)
    }

    /// Waits until a position of the log is durable.
    async fn durable(&self, position: u64) -> Result<(), Error> {
        loop {
            let flushed = self.shared.flushed.notified();
            let is_durable = {
                let state = self.shared.state.lock();
                let session = state.session.as_ref().ok_or_else(Error::closed)?;
                session.is_durable(position).map_err(|error| refused(&error))?
            };
            if is_durable {
                return Ok(());
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, flushed).await;
        }
    }

    fn consume(
        &self,
        queue: &str,
        prefetch: u16,
        incoming: Option<mpsc::UnboundedSender<Result<Incoming, Error>>>,
    ) -> Result<u64, Error> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        let used: Vec<u16> = state.subscriptions.values().map(|it| it.channel).collect();
        let channel = (PUBLISHING + 1..=u16::MAX).find(|channel| !used.contains(channel));
        let channel = channel.ok_or_else(|| {
            Error::new(ErrorKind::Broker, "there are as many workers as there can be")
        })?;
        let session = state.session.as_mut().ok_or_else(Error::closed)?;
        start_consumer(session, channel, queue, prefetch)?;
        let id = state.next_subscription;
        state.next_subscription += 1;
        let queue = queue.into();
        let subscribed = Subscribed { channel, queue, prefetch, incoming, is_cancelled: false };
        state.subscriptions.insert(id, subscribed);
        self.shared.wake.0.notify_one();
        Ok(id)
    }
}

/// Opens a store in a directory. One whose user is about to end is waited for, in this process or another.
fn open_file(data: &Path) -> Result<Arc<Node>, Error> {
    let began = Instant::now();
    loop {
        let options = node::Options { data: data.to_owned(), ..node::Options::default() };
        match Node::open(options) {
            Err(NodeError::StoreInUse { .. }) if began.elapsed() < IN_USE_TIMEOUT => {
                std::thread::sleep(OPEN_AGAIN);
            }
            Err(NodeError::StoreInUse { path }) => {
                let text = format!(
                    "the store {path} is in use, by another process or by a Wilco of this one that has not \
                     been closed: close that, or choose another directory"
                );
                return Err(Error::new(ErrorKind::Store, text));
            }
            opened => return opened.map_err(|error| store(&error)),
        }
    }
}

fn store(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Store, format!("the store cannot be opened: {error}"))
}

fn refused(error: &BrokerError) -> Error {
    let kind = match error.reply_code() {
        ReplyCode::NotFound => ErrorKind::NotFound,
        ReplyCode::AccessRefused => ErrorKind::Forbidden,
        ReplyCode::PreconditionFailed
            if error.reply_text().contains("larger than configured max size") =>
        {
            ErrorKind::TooLarge
        }
        _ => ErrorKind::Broker,
    };
    Error::new(kind, error.to_string())
}

#[async_trait]
impl Transport for EmbeddedTransport {
    fn can(&self, capability: Capability) -> bool {
        match capability {
            Capability::Durable => self.is_durable,
            Capability::Delay => false,
            _ => true,
        }
    }

    async fn ensure(&self, target: &Target) -> Result<(), Error> {
        self.with_session(|session| match target {
            Target::Queue(queue) => ensure_queue(session, queue),
            Target::Topic(topic) => ensure_topic(session, topic),
        })
        .await
    }

    async fn ensure_subscribed(&self, queue: &str, source: &Source) -> Result<(), Error> {
        self.with_session(|session| ensure_subscribed(session, queue, source)).await
    }

    async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        self.with_session(|session| session.purge_queue(queue)).await.map(u64::from)
    }

    async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        self.with_session(|session| {
            session.delete_queue(queue, false, false).map(|deleted| deleted.message_count)
        })
        .await
        .map(u64::from)
    }

    async fn ensure_outcomes(&self) -> Result<(), Error> {
        let begin = async || {
            let arguments = queues::outcome_queue_arguments(false);
            let options = DeclareQueue { durable: true, arguments, ..DeclareQueue::default() };
            let queue = self.outcome_queue.as_str();
            self.with_session(|session| session.declare_queue(queue, &options).map(drop)).await?;
            self.consume(queue, properties::OUTCOMES_PREFETCH, None).map(drop)
        };
        self.has_outcomes.get_or_try_init(begin).await.copied()
    }

    fn publish(&self, message: Outgoing, permits: Option<Arc<Permits>>) -> Confirm {
        let encoded =
            properties::of_message(&message, &self.outcome_queue, millis(self.clock.now()));
        let mut state = self.shared.state.lock();
        let confirm = match state.is_closed {
            true => oneshot::channel().1,
            false => state.publishing.add(message, encoded, permits),
        };
        drop(state);
        self.shared.wake.0.notify_one();
        confirm
    }

    async fn subscribe(
        &self,
        queue: &str,
        source: &Source,
        prefetch: u16,
    ) -> Result<Subscription, Error> {
        self.ensure_subscribed(queue, source).await?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let id = self.consume(queue, prefetch, Some(sender))?;
        Ok(Subscription { incoming, id })
    }

    fn stop(&self, subscription: u64) {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        let (Some(session), Some(it)) =
            (state.session.as_mut(), state.subscriptions.get_mut(&subscription))
        else {
            return;
        };
        it.is_cancelled = true;
        // It is there, unless the queue is gone.
        let _ = session.cancel(it.channel, CONSUMER_TAG);
        self.shared.wake.0.notify_one();
    }

    fn release(&self, subscription: u64) {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        if let (Some(session), Some(it)) =
            (state.session.as_mut(), state.subscriptions.remove(&subscription))
        {
            // Settles what was gathered, and gives back the rest.
            let _ = session.close_channel(it.channel);
            state.outbox.with_sink::<Inbox, _>(|inbox, _| inbox.forget(it.channel));
            state.released = state.released.max(session.barrier().unwrap_or(0));
        }
        self.shared.wake.0.notify_one();
    }

    async fn released(&self, _: u64) {
        let position = self.shared.state.lock().released;
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, self.durable(position)).await;
    }

    fn holds(&self, delivery: &Incoming) -> bool {
        let held = |token| self.shared.state.lock().held(token).is_some();
        delivery.token.embedded().is_some_and(held)
    }

    async fn settle(&self, delivery: &Incoming, _: u32, verdict: Verdict) -> bool {
        let Some(token) = delivery.token.embedded() else { return false };
        let mut state = self.shared.state.lock();
        let Some((session, channel, tag)) = state.held(token) else { return false };
        let settlement = match &verdict {
            Verdict::Processed { .. } => Settlement::Ack,
            Verdict::Failed { .. } => Settlement::Reject,
            Verdict::Again { .. } => Settlement::Requeue,
        };
        if let Some(report) = verdict.into_report()
            && let Err(error) = session.report_on(channel, tag, report)
        {
            tracing::warn!("a report is lost: {error}");
        }
        let is_settled = session.settle(channel, tag, false, settlement).is_ok();
        self.shared.wake.0.notify_one();
        is_settled
    }

    fn report_progress(&self, delivery: &Incoming, attempt: u32, progress: &Progress) {
        if delivery.id.is_empty() {
            return;
        }
        let Some(token) = delivery.token.embedded() else { return };
        let mut state = self.shared.state.lock();
        let Some((session, channel, _)) = state.held(token) else { return };
        let mut encoded = Vec::new();
        properties::of_progress_report(progress).encode(&mut encoded);
        let text = progress.text.as_bytes();
        let mut publish = |(exchange, key): (&str, &str), properties: &[u8]| {
            let routing_key = key.into();
            let publish =
                Publish { exchange, routing_key, mandatory: false, properties, body: text };
            if let Err(error) = session.publish(channel, &publish) {
                tracing::debug!("progress is not told: {error}");
            }
        };
        publish((REPORTS, &delivery.id), &encoded);
        if let Some(told) = properties::of_progress(&delivery.origin(), attempt, progress) {
            publish(("", &told.reply_to), &told.properties);
        }
        self.shared.wake.0.notify_one();
    }

    async fn ask(&self, question: Question, timeout: Duration) -> Result<Answer, Error> {
        if self.shared.state.lock().is_closed {
            return Err(Error::closed());
        }
        let asking = Arc::clone(&self.asking.lock());
        let query = Query {
            user: asking.user.clone(),
            vhost: VHOST.to_owned(),
            subject: question.subject.to_owned(),
            body: question.parameters.to_string().into_bytes(),
        };
        let answer = tokio::time::timeout(timeout, asking.queries.answer(&query)).await;
        let answer = answer.map_err(|_| {
            Error::new(ErrorKind::Unreachable, format!("there was no answer within {timeout:?}"))
        })?;
        Ok(Answer { status: answer.status, body: answer.body })
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    async fn close(&self) {
        self.shared.close().await;
    }
}

/// Whoever drops the last handle wants nothing more.
impl Drop for EmbeddedTransport {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.wake.0.notify_one();
    }
}
