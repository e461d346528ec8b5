//! Queues and topics, with the types of what goes in and what comes back.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::codec::Json;
use crate::error::{Error, ErrorKind};
use crate::target::Target;

/// A queue: its name, what producers put in, and what workers give back. One constant gives both sides
/// their types:
///
/// ```
/// use wilco::Queue;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Order;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Reserved;
///
/// const STOCK: Queue<Order, Reserved> = Queue::new("stock");
/// ```
///
/// Where it does not exist yet, whoever uses it first makes it: durable, and on RabbitMQ a quorum queue.
/// One that exists is used as it is.
pub struct Queue<In, Out = (), C = Json> {
    name: Cow<'static, str>,
    /// The topic whose messages it gets.
    topic: Option<Cow<'static, str>>,
    types: PhantomData<fn(In, C) -> Out>,
}

impl<In, Out, C> Queue<In, Out, C> {
    /// A queue of a name that is known beforehand.
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), topic: None, types: PhantomData }
    }

    /// A queue of a name that is found out at run time.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), topic: None, types: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn topic(&self) -> Option<&str> {
        self.topic.as_deref()
    }
}

/// A topic: what is sent to it goes into each of its queues, once. Who works on it is not the producer's
/// business, but what became of it is: [`Receipt::next`](crate::Receipt::next) tells each queue's outcome
/// as it comes, and [`Receipt::outcome`](crate::Receipt::outcome) the worst of them.
///
/// ```no_run
/// use wilco::{Failure, Topic, Wilco};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Order;
///
/// const PLACED: Topic<Order> = Topic::new("placed");
///
/// # async fn send_mail(order: Order) -> Result<(), Failure> { Ok(()) }
/// # async fn example(wilco: Wilco, order: Order) -> Result<(), wilco::Error> {
/// let worker = wilco.worker().handle(PLACED.queue("mail"), send_mail);    // subscribes, and works
/// # drop(worker);
///
/// let mut receipt = wilco.producer(PLACED).build().await?.send(&order).await?;
/// while let Some(outcome) = receipt.next().await? {
///     println!("{}: {outcome}", outcome.details().queue);
/// }
/// # Ok(())
/// # }
/// ```
///
/// On AMQP it is a fan-out exchange, so other programs may bind queues of their own.
pub struct Topic<In, C = Json> {
    name: Cow<'static, str>,
    types: PhantomData<fn(In, C)>,
}

impl<In, C> Topic<In, C> {
    /// A topic of a name that is known beforehand.
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), types: PhantomData }
    }

    /// A topic of a name that is found out at run time.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), types: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A queue of the topic, called `TOPIC.NAME`. It gets what is sent from the moment on that a worker
    /// handles it for the first time, and keeps it while no worker runs.
    pub fn queue<Out>(&self, name: &str) -> Queue<In, Out, C> {
        let name = format!("{}.{name}", self.name);
        Queue { name: Cow::Owned(name), topic: Some(self.name.clone()), types: PhantomData }
    }
}

/// Where a producer can send: a [`Queue`] or a [`Topic`].
pub trait SendTo: sealed::Sealed {
    /// What is sent.
    type In;
    /// What workers give back.
    type Out;
    /// How both are written.
    type Codec;

    #[doc(hidden)]
    fn target(&self) -> sealed::SendTarget;
}

mod sealed {
    pub trait Sealed {}

    /// Where to, for this crate.
    #[derive(Debug)]
    pub struct SendTarget(pub(crate) crate::target::Target);
}

impl<In, Out, C> sealed::Sealed for Queue<In, Out, C> {}
impl<In, C> sealed::Sealed for Topic<In, C> {}

impl<In, Out, C> SendTo for Queue<In, Out, C> {
    type In = In;
    type Out = Out;
    type Codec = C;

    fn target(&self) -> sealed::SendTarget {
        sealed::SendTarget(Target::Queue(self.name().into()))
    }
}

/// What workers give back differs from queue to queue:
/// [`Processed::decode`](crate::Processed::decode) reads it.
impl<In, C> SendTo for Topic<In, C> {
    type In = In;
    type Out = ();
    type Codec = C;

    fn target(&self) -> sealed::SendTarget {
        sealed::SendTarget(Target::Topic(self.name().into()))
    }
}

/// Names that brokers take for the reply to somebody.
const REPLIES: &str = "amq.rabbitmq.reply-to";

/// Whether there can be a queue of this name: brokers would take another for it, or the reply to
/// nobody.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let is_good = (1..=255).contains(&name.len())
        && !name.contains(['\r', '\n'])
        && !name.starts_with(REPLIES);
    match is_good {
        true => Ok(()),
        false => {
            let text = format!(
                "'{}' cannot be the name of a queue or topic: it has 1 to 255 bytes and no line \
                 ends, and does not begin with {REPLIES}",
                name.escape_debug()
            );
            Err(Error::new(ErrorKind::Invalid, text))
        }
    }
}

impl<In, Out, C> Clone for Queue<In, Out, C> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), topic: self.topic.clone(), types: PhantomData }
    }
}

impl<In, Out, C> fmt::Debug for Queue<In, Out, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:?})", self.name)
    }
}

impl<In, C> Clone for Topic<In, C> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), types: PhantomData }
    }
}

impl<In, C> fmt::Debug for Topic<In, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", self.name)
    }
}
