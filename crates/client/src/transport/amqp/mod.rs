//! AMQP 0-9-1: to a wilco server, which makes the outcomes, or to RabbitMQ, where they are made here
//! ([`made`]).
//!
//! Two connections, since a broker that holds publishers stops reading from theirs: one publishes, the
//! other, opened when it is needed, consumes. Each is a [`link::Link`], driven by a task
//! ([`driver`]). Outcomes come to a queue of this process' own, which outlives connections and the
//! server's restarts, and is gone an hour after the process. Where the broker has lost it, or a worker's
//! queue, it is made anew, and what has no outcome yet is published again: its id keeps it from being
//! processed twice.

mod consuming;
mod driver;
mod link;
mod made;
mod questions;
mod retries;
mod socket;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OnceCell, oneshot};

use self::consuming::Consumptions;
use self::driver::{Calling, Confirming, Driver};
use self::link::{
    Call, Consumer, ConsumerId, DeliveryTag, Down, Publish, Refusal, Reply, Settlement,
};
use self::questions::Questions;
use self::retries::Retries;
use super::properties::{self, OUTCOMES_PREFETCH};
use super::queues;
use super::{
    Admission, Answer, Confirm, Incoming, OutcomeSink, Outgoing, Question, Source, Subscription,
    Transport, Verdict,
};
use crate::capability::Capability;
use crate::clock::now_ms;
use crate::error::{Error, ErrorKind};
use crate::ledger;
use crate::progress::Progress;
use crate::target::Target;
use crate::transport::making::Maker;
use crate::url::{Address, Mechanism};
use crate::window::Permits;

pub(crate) use self::link::Times;

/// How long the broker may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker waits for the broker to know what it has settled.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long cleaning up may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// `NOT_FOUND`
const NOT_FOUND: u16 = 404;
/// `PRECONDITION_FAILED`
const PRECONDITION_FAILED: u16 = 406;
/// `CONTENT_TOO_LARGE`: too much is under way at the broker.
const CONTENT_TOO_LARGE: u16 = 311;

/// Names a delivery.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryToken(DeliveryTag);

/// See the module's documentation.
pub(crate) struct AmqpTransport {
    address: Address,
    times: Times,
    /// Which address of several is used.
    at: Arc<AtomicUsize>,
    publishing: Driver,
    consuming: OnceCell<Driver>,
    consumptions: Arc<Consumptions>,
    outcome_queue: String,
    has_outcomes: OnceCell<()>,
    questions: Questions,
    /// Makes the outcomes, where the broker does not.
    maker: Option<Maker>,
    retries: Retries,
    /// This user may not tell producers of progress.
    is_progress_refused: Arc<AtomicBool>,
}

impl AmqpTransport {
    /// Connects; returns once the broker has let us in.
    pub(crate) async fn connect(
        address: Address,
        times: Times,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<Self>, Error> {
        let consumptions = Arc::new(Consumptions::new(outcomes));
        let at = Arc::new(AtomicUsize::new(0));
        let handler = Arc::clone(&consumptions) as _;
        let publishing = Driver::start(&address, times, "publishes", Arc::clone(&at), handler);
        publishing.ready().await.map_err(|down| unreachable(&address, &down))?;
        publishing.adopt();
        let makes_outcomes = publishing.with(|link, _| match link.server() {
            Some(server) => server.wilco.is_some(),
            None => true,
        });
        let maker = match makes_outcomes {
            true => None,
            false => {
                let ledger = ledger::open(address.ledger.as_deref()).await?;
                let outcomes = consumptions.outcomes();
                Some(Maker::new(ledger, address.connection_name(), outcomes))
            }
        };
        let outcome_queue = queues::outcome_queue_name();
        let transport = Arc::new_cyclic(|this: &Weak<Self>| {
            consumptions.belong_to(Weak::clone(this));
            Self {
                address,
                times,
                at,
                publishing,
                consuming: OnceCell::new(),
                consumptions,
                outcome_queue,
                has_outcomes: OnceCell::new(),
                questions: Questions::default(),
                maker,
                retries: Retries::default(),
                is_progress_refused: Arc::default(),
            }
        });
        Ok(transport)
    }

    async fn consuming(&self) -> Result<&Driver, Error> {
        let connect = async || {
            let (at, handler) = (Arc::clone(&self.at), Arc::clone(&self.consumptions) as _);
            let driver = Driver::start(&self.address, self.times, "consumes", at, handler);
            driver.ready().await.map_err(|down| unreachable(&self.address, &down))?;
            Ok(driver)
        };
        let driver = self.consuming.get_or_try_init(connect).await?;
        driver.adopt();
        Ok(driver)
    }

    /// Asks, and waits for the answer.
    async fn call(&self, call: Call, what: &str) -> Result<Reply, Error> {
        self.try_call(call).await?.map_err(|refusal| refused(what, &refusal))
    }

    async fn try_call(&self, call: Call) -> Result<Result<Reply, Refusal>, Error> {
        let (token, answer) = oneshot::channel();
        self.publishing.with(|link, _| link.call(call, Calling(token)));
        let answer = tokio::time::timeout(CALL_TIMEOUT, answer).await.map_err(|_| {
            let trouble = self.publishing.trouble().unwrap_or_else(|| "no answer".to_owned());
            let text = format!("after {CALL_TIMEOUT:?}: {trouble}; check that the broker runs");
            Error::new(ErrorKind::Unreachable, text)
        })?;
        answer.map_err(|_| Error::closed())
    }

    async fn ensure_queue(&self, queue: &str) -> Result<(), Error> {
        let name = queue.to_owned();
        let what = format!("queue '{queue}'");
        match self.try_call(Call::Inspect(name.clone())).await? {
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.code == NOT_FOUND => {}
            Err(refusal) => return Err(refused(&what, &refusal)),
        }
        let arguments = queues::arguments();
        self.call(Call::Declare { queue: name, arguments }, &what).await.map(drop)
    }

    async fn ensure_topic(&self, topic: &str) -> Result<(), Error> {
        if let Some(maker) = &self.maker {
            // Without a ledger nobody would know how many outcomes there will be.
            for queue in maker.subscribers(topic).await? {
                // One that was deleted by others is in the ledger still.
                let inspected = self.try_call(Call::Inspect(queue.clone())).await?;
                if inspected.is_err_and(|refusal| refusal.code == NOT_FOUND) {
                    maker.unsubscribe(&queue).await?;
                }
            }
        }
        let call = Call::DeclareTopic(topic.to_owned());
        self.call(call, &format!("topic '{topic}'")).await.map(drop)
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
        let (queue, key) = (queue.to_owned(), key.to_owned());
        let bind = Call::Bind { queue, exchange: exchange.to_owned(), key };
        self.call(bind, &format!("exchange '{exchange}'")).await.map(drop)
    }

    /// Makes the queue to which outcomes come; it is our own.
    async fn declare_outcome_queue(&self) -> Result<(), Error> {
        let is_cluster = self.maker.is_some() && self.address.hosts.len() > 1;
        let arguments = queues::outcome_queue_arguments(is_cluster);
        let call = Call::Declare { queue: self.outcome_queue.clone(), arguments };
        self.call(call, "the queue for outcomes").await.map(drop)
    }

    /// Tells a wilco server what it is to tell the producer, and settles.
    fn settle_reported(&self, tag: DeliveryTag, id: &str, verdict: Verdict) -> bool {
        let settlement = match &verdict {
            Verdict::Processed { .. } => Settlement::Ack,
            Verdict::Failed { .. } => Settlement::Reject,
            Verdict::Again { .. } => Settlement::Requeue,
        };
        let report = verdict.into_report();
        let Some(consuming) = self.consuming.get() else { return false };
        consuming.with(|link, _| {
            // In one write, so that one does not go without the other.
            if let Some(report) = report
                && !id.is_empty()
            {
                link.report(tag, id, &properties::of_report(&report), &report.body);
            }
            link.settle(tag, settlement)
        })
    }

    fn publish_raw(&self, publish: Publish, permits: Option<Arc<Permits>>) -> Confirm {
        let (confirm, confirmed) = oneshot::channel();
        let token = Confirming { confirm, _permits: permits };
        self.publishing.with(|link, _| link.publish(publish, token));
        confirmed
    }

    fn consume(&self, driver: &Driver, consumer: Consumer) -> Result<ConsumerId, Error> {
        driver.with(|link, _| link.consume(consumer)).ok_or_else(|| {
            let text = "this connection has as many consumers as the broker lets it have";
            Error::new(ErrorKind::Broker, text)
        })
    }
}

#[async_trait]
impl Transport for AmqpTransport {
    fn can(&self, capability: Capability) -> bool {
        let Some(maker) = &self.maker else { return capability != Capability::Delay };
        match capability {
            Capability::Durable | Capability::Delay => true,
            Capability::Dropped | Capability::Retry | Capability::Cancel | Capability::Watch => {
                false
            }
            Capability::Attach | Capability::Topics | Capability::SharedIds => maker.is_shared(),
        }
    }

    async fn ensure(&self, target: &Target) -> Result<(), Error> {
        match target {
            Target::Queue(queue) => self.ensure_queue(queue).await,
            Target::Topic(topic) => self.ensure_topic(topic).await,
        }
    }

    async fn ensure_subscribed(&self, queue: &str, source: &Source) -> Result<(), Error> {
        match source {
            Source::Itself => self.ensure_queue(queue).await,
            Source::Topic(topic) => {
                self.ensure_queue(queue).await?;
                let what = format!("topic '{topic}'");
                self.call(Call::DeclareTopic(topic.to_owned()), &what).await?;
                self.bind(queue, topic, "").await?;
                match &self.maker {
                    Some(maker) => maker.subscribe(topic, queue).await,
                    None => Ok(()),
                }
            }
            Source::Outcomes(_) if self.maker.is_some() => {
                let text = "this broker makes no outcomes, so there are none to be watched; a wilco \
                            server does";
                Err(Error::new(ErrorKind::Unsupported, text))
            }
            Source::Outcomes(of) => {
                let arguments = queues::watching_arguments();
                let call = Call::Declare { queue: queue.to_owned(), arguments };
                self.call(call, "the queue of a watch").await?;
                self.bind(queue, queues::OUTCOMES, &queues::outcomes_key(of.as_deref())).await
            }
        }
    }

    async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        let call = Call::Purge(queue.to_owned());
        Ok(self.call(call, &format!("queue '{queue}'")).await?.messages.into())
    }

    async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        let call = Call::Delete(queue.to_owned());
        let deleted = self.call(call, &format!("queue '{queue}'")).await?.messages;
        if let Some(maker) = &self.maker {
            maker.unsubscribe(queue).await?;
        }
        Ok(deleted.into())
    }

    async fn ensure_outcomes(&self) -> Result<(), Error> {
        let begin = async || {
            let consuming = self.consuming().await?;
            self.declare_outcome_queue().await?;
            let consumer = Consumer::of(&self.outcome_queue, OUTCOMES_PREFETCH);
            self.consumptions.add_outcomes(|| self.consume(consuming, consumer))
        };
        self.has_outcomes.get_or_try_init(begin).await.copied()
    }

    async fn prepare(&self, message: &Outgoing) -> Result<Vec<Outgoing>, Error> {
        match &self.maker {
            Some(maker) => maker.prepare(message).await,
            None => Ok(vec![message.clone()]),
        }
    }

    fn publish(&self, message: Outgoing, permits: Option<Arc<Permits>>) -> Confirm {
        if let Some(maker) = &self.maker {
            maker.sent(&message);
        }
        let (exchange, routing_key) = message.target.route();
        let publish = Publish {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            properties: properties::of_message(&message, &self.outcome_queue, now_ms()),
            body: message.body,
        };
        self.publish_raw(publish, permits)
    }

    async fn subscribe(
        &self,
        queue: &str,
        source: &Source,
        prefetch: u16,
    ) -> Result<Subscription, Error> {
        self.ensure_subscribed(queue, source).await?;
        let consuming = self.consuming().await?;
        let consumer = Consumer::of(queue, prefetch);
        self.consumptions.subscribe(queue, source, || self.consume(consuming, consumer))
    }

    fn stop(&self, subscription: u64) {
        if let Some(consuming) = self.consuming.get() {
            consuming.with(|link, _| link.cancel(ConsumerId::of(subscription)));
        }
    }

    fn release(&self, subscription: u64) {
        let id = ConsumerId::of(subscription);
        if let Some(consuming) = self.consuming.get() {
            consuming.with(|link, _| link.release(id));
        }
    }

    async fn released(&self, subscription: u64) {
        let released = self.consumptions.released(ConsumerId::of(subscription));
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, released).await;
    }

    fn delays_retries(&self) -> bool {
        self.maker.is_some()
    }

    fn holds(&self, delivery: &Incoming) -> bool {
        let (Some(consuming), Some(token)) = (self.consuming.get(), delivery.token.amqp()) else {
            return false;
        };
        consuming.with(|link, _| link.holds(token.0))
    }

    async fn admit(&self, delivery: &Incoming, attempt: u32) -> Admission {
        match &self.maker {
            Some(maker) => maker.admit_delivery(self, delivery, attempt).await,
            None => Admission::Work(None),
        }
    }

    async fn settle(&self, delivery: &Incoming, attempt: u32, verdict: Verdict) -> bool {
        match (&self.maker, delivery.token.amqp()) {
            (Some(maker), _) => maker.settle_delivery(self, delivery, attempt, verdict).await,
            (None, Some(token)) => self.settle_reported(token.0, &delivery.id, verdict),
            (None, None) => false,
        }
    }

    fn report_progress(&self, delivery: &Incoming, attempt: u32, progress: &Progress) {
        if self.maker.is_none()
            && let (Some(consuming), Some(token)) = (self.consuming.get(), delivery.token.amqp())
            && !delivery.id.is_empty()
        {
            let properties = properties::of_progress_report(progress);
            let text = progress.text.as_bytes();
            consuming.with(|link, _| link.report(token.0, &delivery.id, &properties, text));
        }
        if self.is_progress_refused.load(Ordering::Relaxed) {
            return;
        }
        if self.trouble().is_some() {
            // It would be stale by then.
            return;
        }
        let Some(message) = properties::of_progress(&delivery.origin(), attempt, progress) else {
            return;
        };
        let publish = Publish {
            exchange: "".into(),
            routing_key: message.reply_to.into(),
            properties: message.properties.into(),
            body: Bytes::from(progress.text.clone()),
        };
        let confirm = self.publish_raw(publish, None);
        let is_refused = Arc::clone(&self.is_progress_refused);
        tokio::spawn(async move {
            // Each refusal costs the channel on which everything is published.
            if let Ok(Err(error)) = confirm.await
                && error.kind() == ErrorKind::Forbidden
                && !is_refused.swap(true, Ordering::Relaxed)
            {
                tracing::warn!("producers are not told of progress: {error}");
            }
        });
    }

    async fn ask(&self, question: Question, timeout: Duration) -> Result<Answer, Error> {
        match &self.maker {
            Some(maker) => maker.answer(&question, timeout).await,
            None => self.ask_and_wait(question, timeout).await,
        }
    }

    fn trouble(&self) -> Option<String> {
        let down = self.publishing.trouble().map(|why| format!("no connection: {why}"));
        down.or_else(|| Some(format!("it takes no messages for now: {}", self.publishing.held()?)))
    }

    async fn close(&self) {
        if self.has_outcomes.get().is_some() && self.trouble().is_none() {
            // Else it is gone by itself, later.
            self.consumptions.forget_outcomes();
            let delete = self.try_call(Call::Delete(self.outcome_queue.clone()));
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, delete).await;
        }
        let consuming = async {
            if let Some(consuming) = self.consuming.get() {
                consuming.close().await;
            }
        };
        tokio::join!(consuming, self.publishing.close());
    }
}

fn unreachable(address: &Address, down: &Down) -> Error {
    let (kind, advice) = match down {
        Down::Login(_) if address.mechanism == Mechanism::External => {
            let advice = "; check that the broker knows a user by this certificate";
            (ErrorKind::Login, advice)
        }
        Down::Login(_) | Down::VirtualHost(_) => {
            (ErrorKind::Login, "; check user, password and virtual host in the URL")
        }
        Down::NotAmqp(_) => (ErrorKind::Url, "; check host and port in the URL"),
        Down::NotTls => {
            let advice =
                "; check the port in the URL (TLS has 5671 as a rule), or begin it with amqp://";
            (ErrorKind::Url, advice)
        }
        // It says itself what to do.
        Down::Tls(_) => (ErrorKind::Tls, ""),
        Down::Socket(_) if address.may_want_tls() => {
            let advice = "; port 5671 is for TLS as a rule, for which the URL begins with amqps://";
            (ErrorKind::Unreachable, advice)
        }
        Down::Socket(_) | Down::Closed(_) | Down::Silent(_) => {
            (ErrorKind::Unreachable, "; check that the broker runs, and host and port in the URL")
        }
    };
    Error::new(kind, format!("cannot connect to {address}: {down}{advice}"))
}

fn refused(what: &str, refusal: &Refusal) -> Error {
    let kind = match refusal.code {
        0 | CONTENT_TOO_LARGE => ErrorKind::Refused,
        NOT_FOUND => ErrorKind::NotFound,
        403 => ErrorKind::Forbidden,
        PRECONDITION_FAILED if refusal.text.contains("larger than configured max size") => {
            ErrorKind::TooLarge
        }
        _ => ErrorKind::Broker,
    };
    Error::new(kind, format!("{what}: {refusal}"))
}
