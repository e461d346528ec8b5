//! AMQP 0-9-1: to a wilco server, which makes the outcomes.
//!
//! Two connections, since a broker that holds publishers stops reading from theirs: one publishes, the
//! other, opened when it is needed, consumes. Each is a [`link::Link`], driven by a task
//! ([`driver`]). Outcomes come to a queue of this process' own, which outlives connections and the
//! server's restarts, and is gone an hour after the process.

mod driver;
mod link;
mod message;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::amqp::FieldTable;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc, oneshot};

use self::driver::{Driver, Handler};
use self::link::{
    Call, Consumer, ConsumerId, Delivery, DeliveryTag, Down, Publish, Refusal, Reply, Server,
    Settlement,
};
use super::{Confirm, Incoming, OutcomeSink, Outgoing, Subscription, Token, Transport, Verdict};
use crate::error::{Error, ErrorKind};
use crate::url::Address;

pub(crate) use self::link::Times;

/// Outcomes that may be under way to us at a time.
const OUTCOMES_PREFETCH: u16 = 1000;
/// How long the queue of outcomes outlives this process.
const OUTCOMES_EXPIRE: Duration = Duration::from_secs(3600);
/// `NOT_FOUND`
const NOT_FOUND: u16 = 404;

/// A delivery and the message id for its report.
#[derive(Debug, Clone)]
pub(crate) struct DeliveryToken(DeliveryTag);

/// See the module's documentation.
pub(crate) struct AmqpTransport {
    address: Address,
    times: Times,
    publishing: Driver,
    consuming: OnceCell<Driver>,
    shared: Arc<Shared>,
    outcome_queue: String,
    has_outcomes: OnceCell<()>,
}

/// What the connection that consumes hands over.
struct Shared {
    outcomes: Arc<dyn OutcomeSink>,
    outcome_consumer: Mutex<Option<ConsumerId>>,
    subscriptions: Mutex<HashMap<ConsumerId, mpsc::UnboundedSender<Result<Incoming, Error>>>>,
}

impl AmqpTransport {
    /// Connects; returns once the broker has let us in.
    pub(crate) async fn connect(
        address: Address,
        times: Times,
        outcomes: Arc<dyn OutcomeSink>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            outcomes,
            outcome_consumer: Mutex::new(None),
            subscriptions: Mutex::default(),
        });
        let publishing = Driver::start(&address, times, "publishes", Arc::clone(&shared) as _);
        publishing.ready().await.map_err(|down| unreachable(&address, &down))?;
        publishing.with(|link, _| makes_outcomes(&address, link.server()))?;
        let outcome_queue = format!("wilco.outcomes.{}", uuid::Uuid::now_v7());
        Ok(Self {
            address,
            times,
            publishing,
            consuming: OnceCell::new(),
            shared,
            outcome_queue,
            has_outcomes: OnceCell::new(),
        })
    }

    async fn consuming(&self) -> Result<&Driver, Error> {
        let connect = async || {
            let shared = Arc::clone(&self.shared);
            let driver = Driver::start(&self.address, self.times, "consumes", shared as _);
            driver.ready().await.map_err(|down| unreachable(&self.address, &down))?;
            Ok(driver)
        };
        self.consuming.get_or_try_init(connect).await
    }

    async fn call(&self, call: Call) -> Result<Result<Reply, Refusal>, Error> {
        let (token, answer) = oneshot::channel();
        self.publishing.with(|link, _| link.call(call, token));
        answer.await.map_err(|_| closed())
    }
}

#[async_trait]
impl Transport for AmqpTransport {
    async fn ensure_queue(&self, queue: &str) -> Result<(), Error> {
        let name = queue.to_owned();
        match self.call(Call::Inspect(name.clone())).await? {
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.code == NOT_FOUND => {}
            Err(refusal) => return Err(refused(&format!("queue '{queue}'"), &refusal)),
        }
        let mut arguments = FieldTable::new();
        arguments.push("x-queue-type", "quorum");
        let declared = self.call(Call::Declare { queue: name, arguments }).await?;
        declared.map(drop).map_err(|refusal| refused(&format!("queue '{queue}'"), &refusal))
    }

    async fn purge_queue(&self, queue: &str) -> Result<u64, Error> {
        let purged = self.call(Call::Purge(queue.to_owned())).await?;
        let purged = purged.map_err(|refusal| refused(&format!("queue '{queue}'"), &refusal))?;
        Ok(purged.messages.into())
    }

    async fn delete_queue(&self, queue: &str) -> Result<u64, Error> {
        let deleted = self.call(Call::Delete(queue.to_owned())).await?;
        let deleted = deleted.map_err(|refusal| refused(&format!("queue '{queue}'"), &refusal))?;
        Ok(deleted.messages.into())
    }

    async fn ensure_outcomes(&self) -> Result<(), Error> {
        let begin = async || {
            let consuming = self.consuming().await?;
            let queue = self.outcome_queue.clone();
            let mut arguments = FieldTable::new();
            arguments.push("x-expires", OUTCOMES_EXPIRE.as_millis() as i64);
            let declared = self.call(Call::Declare { queue: queue.clone(), arguments }).await?;
            declared.map_err(|refusal| refused("the queue for outcomes", &refusal))?;
            let consumer = Consumer { queue, prefetch: OUTCOMES_PREFETCH };
            // Locked before there are deliveries, which look here.
            let mut outcome_consumer = self.shared.outcome_consumer.lock();
            *outcome_consumer = consuming.with(|link, _| link.consume(consumer));
            Ok(())
        };
        self.has_outcomes.get_or_try_init(begin).await.copied()
    }

    fn publish(&self, message: Outgoing) -> Confirm {
        let (token, confirm) = oneshot::channel();
        let publish = Publish {
            exchange: "".into(),
            routing_key: (&*message.queue).into(),
            properties: message::properties(&message, &self.outcome_queue),
            body: message.body,
        };
        self.publishing.with(|link, _| link.publish(publish, token));
        confirm
    }

    async fn subscribe(&self, queue: &str, prefetch: u16) -> Result<Subscription, Error> {
        self.ensure_queue(queue).await?;
        let consuming = self.consuming().await?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let consumer = Consumer { queue: queue.to_owned(), prefetch };
        let mut subscriptions = self.shared.subscriptions.lock();
        let Some(id) = consuming.with(|link, _| link.consume(consumer)) else {
            let text = "this connection has as many consumers as it can have";
            return Err(Error::new(ErrorKind::Broker, text));
        };
        subscriptions.insert(id, sender);
        Ok(Subscription { incoming, id: id.number() })
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
        self.shared.subscriptions.lock().remove(&id);
    }

    fn settle(&self, delivery: &Incoming, verdict: Verdict) {
        let Token::Amqp(DeliveryToken(tag)) = delivery.token;
        let Some(consuming) = self.consuming.get() else { return };
        let (report, settlement) = match verdict {
            Verdict::Processed { result, content_type } => {
                let report = (!result.is_empty())
                    .then(|| (message::result_properties(content_type), result));
                (report, Settlement::Ack)
            }
            Verdict::Failed { error } => {
                let report =
                    (!error.is_empty()).then(|| (message::error_properties(), Bytes::from(error)));
                (report, Settlement::Reject)
            }
            Verdict::Again => (None, Settlement::Requeue),
        };
        consuming.with(|link, _| {
            // In one write, so that one does not go without the other.
            if let Some((properties, body)) = report
                && !delivery.id.is_empty()
            {
                link.report(tag, &delivery.id, &properties, &body);
            }
            link.settle(tag, settlement);
        });
    }

    async fn close(&self) {
        if let Some(consuming) = self.consuming.get() {
            consuming.close().await;
        }
        self.publishing.close().await;
    }
}

impl Handler for Shared {
    fn delivered(&self, delivery: Delivery) -> Option<(DeliveryTag, Settlement)> {
        let tag = delivery.tag;
        if *self.outcome_consumer.lock() == Some(tag.consumer()) {
            match message::settled(&delivery) {
                Ok(settled) => self.outcomes.settled(settled),
                Err(error) => tracing::warn!("a message in the queue for outcomes: {error}"),
            }
            return Some((tag, Settlement::Ack));
        }
        let subscriptions = self.subscriptions.lock();
        let incoming = message::incoming(delivery, Token::Amqp(DeliveryToken(tag)));
        match subscriptions.get(&tag.consumer()) {
            Some(sender) if sender.send(Ok(incoming)).is_ok() => None,
            // Nobody is there for it any more.
            _ => Some((tag, Settlement::Requeue)),
        }
    }

    fn cancelled(&self, consumer: ConsumerId, why: Option<Refusal>) {
        let Some(sender) = self.subscriptions.lock().remove(&consumer) else { return };
        if let Some(refusal) = why {
            let _ = sender.send(Err(refused("the worker's queue", &refusal)));
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "this program has closed the connection")
}

fn unreachable(address: &Address, down: &Down) -> Error {
    let (kind, advice) = match down {
        Down::Login(_) | Down::VirtualHost(_) => {
            (ErrorKind::Login, "check user, password and virtual host in the URL")
        }
        Down::NotAmqp(_) => (ErrorKind::Url, "check host and port in the URL"),
        Down::Socket(_) | Down::Closed(_) | Down::Silent(_) => {
            (ErrorKind::Unreachable, "check that the broker runs, and host and port in the URL")
        }
    };
    Error::new(kind, format!("cannot connect to {address}: {down}; {advice}"))
}

/// Only a wilco server makes outcomes; elsewhere nobody would ever be told.
fn makes_outcomes(address: &Address, server: Option<&Server>) -> Result<(), Error> {
    match server {
        Some(Server { wilco: None, product, version }) => {
            let text = format!(
                "{address} is {product} {version}, which does not tell producers what became of their \
                 messages; this library needs a wilco server"
            );
            Err(Error::new(ErrorKind::Unsupported, text))
        }
        _ => Ok(()),
    }
}

fn refused(what: &str, refusal: &Refusal) -> Error {
    let kind = match refusal.code {
        0 => ErrorKind::Refused,
        404 => ErrorKind::NotFound,
        403 => ErrorKind::Forbidden,
        311 => ErrorKind::TooLarge,
        _ => ErrorKind::Broker,
    };
    Error::new(kind, format!("{what}: {refusal}"))
}
