//! Queues, with the types of what goes in and what comes back.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use crate::codec::Json;

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
