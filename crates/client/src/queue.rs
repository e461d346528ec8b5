//! Queues, with the types of what goes in and what comes back.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::codec::Json;
use crate::error::{Error, ErrorKind};

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
    types: PhantomData<fn(In, C) -> Out>,
}

impl<In, Out, C> Queue<In, Out, C> {
    /// A queue of a name that is known beforehand.
    pub const fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), types: PhantomData }
    }

    /// A queue of a name that is found out at run time.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), types: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Whether there can be a queue of this name: brokers would take another for it, or the reply to
/// nobody.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let is_good = (1..=255).contains(&name.len())
        && !name.contains(['\r', '\n'])
        && !name.starts_with("amq.rabbitmq.reply-to");
    match is_good {
        true => Ok(()),
        false => {
            let text = format!(
                "'{}' cannot be the name of a queue: it has 1 to 255 bytes and no line ends",
                name.escape_debug()
            );
            Err(Error::new(ErrorKind::Refused, text))
        }
    }
}

impl<In, Out, C> Clone for Queue<In, Out, C> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), types: PhantomData }
    }
}

impl<In, Out, C> fmt::Debug for Queue<In, Out, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:?})", self.name)
    }
}
