//! ActiveMQ, Artemis and Classic, over AMQP 1.0: outcomes are made here ([`making`](super::making)).
//!
//! Two connections, since a broker that has no room for messages may read nothing from who sends some: one publishes,
//! the other, opened when it is needed, consumes. Each outlives its sockets ([`connection`]). A queue is a node of AMQP
//! 1.0 with the queue's name as address, and is made by the broker when somebody opens a link to it.
//!
//! | a worker says | disposition | what the broker does |
//! |---|---|---|
//! | processed | `accepted` | it is gone |
//! | failed | `rejected` | to the dead-letter address at once |
//! | again, at once | `modified` with `delivery-failed` | delivered again, counted |
//! | again, later | a copy with `x-opt-delivery-delay`, then `accepted` | the copy waits in the broker |
//! | nothing, since it stops | `released` | delivered again, not counted |
//!
//! Outcomes come to a queue of this process' own, which outlives connections and the broker's restarts; an outcome
//! message is gone after an hour, for nobody tells the broker when its producer is.

mod address;
mod connection;
mod consuming;
mod down;
mod links;
mod management;
mod messages;
mod overheard;
mod publishing;
mod settling;
mod socket;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{OnceCell, oneshot};

use self::connection::Driver;
use self::consuming::{Consuming, Often, Taker};
use self::messages::Treatment;
use self::publishing::Publishing;
use super::properties::{self, OUTCOMES_PREFETCH, Told};
use super::{
    Admission, Answer, Confirm, Incoming, OutcomeSink, Outgoing, Question, Source, Subscription,
    Transport, Verdict, queues,
};
use crate::capability::Capability;
use crate::clock::now_ms;
use crate::error::{Error, ErrorKind};
use crate::ledger;
use crate::progress::Progress;
use crate::target::Target;
use crate::transport::making::Maker;
use crate::url::Address;
use crate::window::Permits;

pub(crate) use self::consuming::DeliveryToken;

/// How long an outcome message waits for its producer.
const OUTCOME_TTL: Duration = Duration::from_secs(3600);
/// How long progress is news.
const PROGRESS_TTL: Duration = Duration::from_secs(60);
/// How long progress may take to be sent.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker may take for what it is asked to do.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a worker waits for the broker to know what it has settled.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long cleaning up may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(crate) struct ActivemqTransport {
    address: Arc<Address>,
    /// Which host of several is used.
    at: Arc<AtomicUsize>,
    publishing: Publishing,
    driver: OnceCell<Arc<Driver>>,
    consuming: Consuming,
    outcome_queue: String,
    /// The subscription to our outcomes.
    outcomes_taken: OnceCell<u64>,
    outcomes: Arc<dyn OutcomeSink>,
    maker: Arc<Maker>,
    this: Weak<Self>,
}

impl ActivemqTransport {
    /// Connects; returns once the broker has let us in.
    pub(crate) async fn connect(
        address: Address,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Result<Arc<Self>, Error> {
        let address = Arc::new(address);
        let at = Arc::new(AtomicUsize::new(0));
        let publishing = Driver::start(&address, "publishes", Arc::clone(&at));
        publishing.ready().await.map_err(|down| down.explain(&address))?;
        let ledger = ledger::open(address.ledger.as_deref()).await?;
        let maker = Maker::new(ledger, address.connection_name(), Arc::clone(&outcomes));
        Ok(Arc::new_cyclic(|this| Self {
            address,
            at,
            publishing: Publishing::new(publishing),
            driver: OnceCell::new(),
            consuming: Consuming::new(),
            outcome_queue: queues::outcome_queue_name(),
            outcomes_taken: OnceCell::new(),
            outcomes,
            maker: Arc::new(maker),
            this: Weak::clone(this),
        }))
    }

    async fn driver(&self) -> Result<Arc<Driver>, Error> {
        let connect = async || {
            let driver = Driver::start(&self.address, "consumes", Arc::clone(&self.at));
            driver.ready().await.map_err(|down| down.explain(&self.address))?;
            Ok(Arc::new(driver))
        };
        self.driver.get_or_try_init(connect).await.cloned()
    }

    /// Waits for the broker, and not for ever.
    async fn call<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
            let trouble = self.trouble().unwrap_or_else(|| "no answer".to_owned());
            let text = format!("after {CALL_TIMEOUT:?}: {trouble}; check that the broker runs");
            Err(Error::new(ErrorKind::Unreachable, text))
        })
    }

    async fn ensure_queue(&self, queue: &str) -> Result<(), Error> {
        address::check(queue)?;
        self.call(management::ensure(self.publishing.driver(), queue)).await
    }

    /// Replaces what was delivered often.
    fn often(&self) -> Often {
        let this = Weak::clone(&self.this);
        Arc::new(move |delivery| {
            let this = Weak::clone(&this);
            Box::pin(async move {
                match this.upgrade() {
                    Some(this) => this.renew(delivery).await,
                    None => Some(delivery),
                }
            })
        })
    }

    /// Passes outcomes on.
    fn telling(&self) -> Taker {
        let (maker, outcomes) = (Arc::clone(&self.maker), Arc::clone(&self.outcomes));
        Taker::AtOnce(Box::new(move |incoming| {
            match properties::told(&incoming.properties, &incoming.body) {
                Ok(Told::Outcome(settled)) => {
                    maker.told(&settled);
                    outcomes.settled(*settled);
                }
                Ok(Told::Progress(progressed)) => outcomes.progressed(progressed),
                Err(error) => tracing::warn!("a message in the queue for outcomes: {error}"),
            }
        }))
    }

    async fn forget_outcomes(&self) {
        if let Some(driver) = self.driver.get()
            && driver.is_artemis()
            && driver.is_up()
        {
            // Else it stays, empty.
            let deleting = management::destroy(driver, &self.outcome_queue);
            if let Ok(Err(error)) = tokio::time::timeout(FAREWELL_TIMEOUT, deleting).await {
                tracing::debug!("the queue for outcomes stays: {error}");
            }
        }
    }
}

#[async_trait]
impl Transport for ActivemqTransport {
    fn can(&self, capability: Capability) -> bool {
        match capability {
            Capability::Durable | Capability::Delay => true,
            Capability::Dropped | Capability::Retry | Capability::Cancel | Capability::Watch => {
                false
            }
            Capability::Attach | Capability::Topics | Capability::SharedIds => {
                self.maker.is_shared()
            }
        }
    }

    async fn ensure(&self, target: &Target) -> Result<(), Error> {
        match target {
            Target::Queue(queue) => self.ensure_queue(queue).await,
            // It is in the ledger only; without one nobody would know how many outcomes there will be.
            Target::Topic(topic) => self.maker.subscribers(topic).await.map(drop),
        }
    }

    async fn ensure_subscribed(&self, queue: &str, source: &Source) -> Result<(), Error> {
        match source {
            Source::Itself => self.ensure_queue(queue).await,
            Source::Topic(topic) => {
                self.ensure_queue(queue).await?;
                self.maker.subscribe(topic, queue).await
            }
            Source::Outcomes(_) => {
                let text = "this broker makes no outcomes, so there are none to be watched; a wilco \
                            server does";
                Err(Error::new(ErrorKind::Unsupported, text))
            }
        }
    }

    async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        address::check(queue)?;
        management::purge(&*self.driver().await?, queue).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        let driver = self.driver().await?;
        let deleted = self.purge_queue(queue).await?;
        if driver.is_artemis() {
            self.call(management::destroy(&driver, queue)).await?;
        }
        self.maker.unsubscribe(queue).await?;
        Ok(deleted)
    }

    async fn ensure_outcomes(&self) -> Result<(), Error> {
        let begin = async || {
            self.ensure_queue(&self.outcome_queue).await?;
            let driver = self.driver().await?;
            let (queue, taker) = (&self.outcome_queue, self.telling());
            Ok(self.consuming.start(driver, queue, OUTCOMES_PREFETCH, taker, self.often()))
        };
        self.outcomes_taken.get_or_try_init(begin).await.map(drop)
    }

    async fn prepare(&self, message: &Outgoing) -> Result<Vec<Outgoing>, Error> {
        self.maker.prepare(message).await
    }

    fn publish(&self, message: Outgoing, permits: Option<Arc<Permits>>) -> Confirm {
        let queue = message.target.name();
        if let Err(error) = address::check(queue) {
            let (confirm, confirmed) = oneshot::channel();
            let _ = confirm.send(Err(error));
            return confirmed;
        }
        self.maker.sent(&message);
        let encoded = properties::of_message(&message, &self.outcome_queue, now_ms());
        let outbound = messages::outbound(&encoded, &message.body, Treatment::default());
        self.publishing.publish(queue, outbound, permits)
    }

    async fn subscribe(
        &self,
        queue: &str,
        source: &Source,
        prefetch: u16,
    ) -> Result<Subscription, Error> {
        self.ensure_subscribed(queue, source).await?;
        let driver = self.driver().await?;
        Ok(self.consuming.subscribe(driver, queue, prefetch, self.often()))
    }

    fn stop(&self, subscription: u64) {
        self.consuming.stop(subscription);
    }

    fn release(&self, subscription: u64) {
        self.consuming.release(subscription);
    }

    async fn released(&self, subscription: u64) {
        let released = self.consuming.released(subscription);
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, released).await;
    }

    fn delays_retries(&self) -> bool {
        true
    }

    fn holds(&self, delivery: &Incoming) -> bool {
        delivery.token.activemq().is_some_and(|token| self.consuming.holds(token))
    }

    async fn admit(&self, delivery: &Incoming, attempt: u32) -> Admission {
        self.maker.admit_delivery(self, delivery, attempt).await
    }

    async fn settle(&self, delivery: &Incoming, attempt: u32, verdict: Verdict) -> bool {
        self.maker.settle_delivery(self, delivery, attempt, verdict).await
    }

    fn report_progress(&self, delivery: &Incoming, attempt: u32, progress: &Progress) {
        if self.trouble().is_some() {
            // It would be stale by then.
            return;
        }
        let Some(told) = properties::of_progress(&delivery.origin(), attempt, progress) else {
            return;
        };
        let Some(address) = address::of_reply(&told.reply_to) else { return };
        let treatment = Treatment { ttl: Some(PROGRESS_TTL), ..Treatment::default() };
        let text = Bytes::from(progress.text.clone());
        let message = messages::outbound(&told.properties, &text, treatment);
        let confirm = self.publishing.publish(address, message, None);
        tokio::spawn(async move {
            if let Ok(Ok(Err(error))) = tokio::time::timeout(PROGRESS_TIMEOUT, confirm).await {
                tracing::debug!("progress is not told: {error}");
            }
        });
    }

    async fn ask(&self, question: Question, timeout: Duration) -> Result<Answer, Error> {
        self.maker.answer(&question, timeout).await
    }

    fn trouble(&self) -> Option<String> {
        self.publishing.driver().trouble().map(|why| format!("no connection: {why}"))
    }

    async fn close(&self) {
        if let Some(taken) = self.outcomes_taken.get() {
            // Else its end would be a fault.
            self.consuming.release(*taken);
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, self.consuming.released(*taken)).await;
            self.forget_outcomes().await;
        }
        let consuming = async {
            if let Some(driver) = self.driver.get() {
                driver.close().await;
            }
        };
        tokio::join!(consuming, self.publishing.close());
        self.outcomes.closed();
    }
}

/// Whoever waits for outcomes waits no more.
impl Drop for ActivemqTransport {
    fn drop(&mut self) {
        self.outcomes.closed();
    }
}
