//! From the bytes of a message to the handler and back, with the user's layers in between.
//!
//! The innermost service decodes the message, calls the handler and encodes what it returns. Layers are
//! put around it in the order in which they were said: the first is the outermost.

use std::any::TypeId;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tower_layer::Layer;
use tower_service::Service;

use super::context::Context;
use super::failure::{BoxError, Failure};
use super::handler::Handler;
use crate::codec::{Codec, Decode, Encode};
use crate::queue::Queue;

/// A message on its way to the handler, as [layers](crate::WorkerBuilder::layer) see it.
#[derive(Debug, Clone)]
pub struct Job {
    body: Bytes,
    context: Context,
}

impl Job {
    pub(super) fn new(body: Bytes, context: Context) -> Self {
        Self { body, context }
    }

    /// The message, encoded.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What surrounds it.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

type Handled = Pin<Box<dyn Future<Output = Result<Bytes, BoxError>> + Send>>;

/// The service that [layers](crate::WorkerBuilder::layer) are put around: it works on a [`Job`], and
/// returns what the handler returned, encoded. A [`Failure`] of the handler is its error
/// ([`Failure::of`]).
#[derive(Clone)]
pub struct Handling(Arc<dyn Fn(Job) -> Handled + Send + Sync>);

impl Service<Job> for Handling {
    type Response = Bytes;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Bytes, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Job) -> Self::Future {
        (self.0)(job)
    }
}

impl std::fmt::Debug for Handling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handling")
    }
}

/// Puts a layer around what is there.
pub(super) type Wrap = Arc<dyn Fn(Handling) -> Handling + Send + Sync>;

/// A layer, without its type.
pub(super) fn wrap<L>(layer: L) -> Wrap
where
    L: Layer<Handling> + Send + Sync + 'static,
    L::Service: Service<Job, Response = Bytes> + Clone + Send + 'static,
    <L::Service as Service<Job>>::Error: Into<BoxError>,
    <L::Service as Service<Job>>::Future: Send,
{
    Arc::new(move |inner| {
        // Services need not be usable from several threads at once: each job has a clone.
        let service = Mutex::new(layer.layer(inner));
        Handling(Arc::new(move |job| {
            let mut service = service.lock().clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                service.call(job).await.map_err(Into::into)
            })
        }))
    })
}

/// A queue and what handles its messages, without types.
pub(crate) struct Route {
    pub(super) queue: Arc<str>,
    pub(super) topic: Option<String>,
    pub(super) needs: Vec<(TypeId, &'static str)>,
    pub(super) content_type: &'static str,
    handling: Handling,
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
        let handle = move |Job { body, context }: Job| -> Handled {
            let handler = handler.clone();
            Box::pin(async move {
                let message = C::decode(&body).map_err(|error| unreadable::<C>(&*error))?;
                let out = handler.call(message, context).await.map_err(Failure::boxed)?;
                let unwritable = |error| {
                    let text = format!(
                        "it was done, but what the handler returned cannot be written as {}: {error}",
                        C::CONTENT_TYPE
                    );
                    Failure::permanent(text).boxed()
                };
                C::encode(&out).map_err(unwritable)
            })
        };
        Self {
            queue: queue.name().into(),
            topic: queue.topic().map(str::to_owned),
            needs: H::needs(),
            content_type: C::CONTENT_TYPE,
            handling: Handling(Arc::new(handle)),
        }
    }

    /// Puts layers around the handler, the first outermost.
    pub(super) fn wrapped(mut self, layers: &[Wrap]) -> Self {
        self.handling = layers.iter().rev().fold(self.handling, |inner, wrap| wrap(inner));
        self
    }

    /// Has the handler work on a message.
    pub(super) async fn handle(&self, body: Bytes, context: Context) -> Result<Bytes, Failure> {
        (self.handling.0)(Job::new(body, context)).await.map_err(Failure::from_boxed)
    }
}

fn unreadable<C: Codec>(error: &(dyn std::error::Error + Send + Sync)) -> BoxError {
    let content_type = C::CONTENT_TYPE;
    let text = format!("the body is not the {content_type} that is expected here: {error}");
    Failure::permanent(text).boxed()
}
