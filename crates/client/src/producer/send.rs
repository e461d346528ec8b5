//! Sending one message.

use std::borrow::Cow;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::outcome::DURATION_MS_MAX;
use bytes::Bytes;
use tokio::sync::TryAcquireError;
use uuid::Uuid;

use super::receipt::{Receipt, Sent};
use super::{Inner, UNIT_BYTES};
use crate::codec::CodecError;
use crate::error::{Error, ErrorKind};
use crate::outcome::{Outcome, Settled};
use crate::transport::{Outgoing, Taken};
use crate::window::Permits;

/// A message about to be sent: await it. Ids are AMQP short strings: at most 255 bytes.
#[must_use = "a message is sent when this is awaited"]
pub struct Sending<Out, C> {
    producer: Arc<Inner>,
    body: Result<Bytes, CodecError>,
    content_type: &'static str,
    id: Option<String>,
    deadline: Option<Duration>,
    headers: Vec<(String, String)>,
    waits: bool,
    callback: Option<TypedCallback<Out, C>>,
}

/// A message as the engine gets it.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) id: Arc<str>,
    pub(crate) content_type: Cow<'static, str>,
    /// From now on.
    pub(crate) deadline: Option<Duration>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

type TypedCallback<Out, C> = Box<dyn FnOnce(&str, Outcome<Out, C>) + Send>;

/// In place of times that are too long to be added to now.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
/// What an id may have.
const ID_BYTES_MAX: usize = 255;
/// Headers must fit in one frame, and a broker may want frames of 4096 bytes.
const HEADER_BYTES_MAX: usize = 2048;

impl<Out, C> Sending<Out, C> {
    pub(super) fn new(
        producer: Arc<Inner>,
        body: Result<Bytes, CodecError>,
        content_type: &'static str,
    ) -> Self {
        Self {
            producer,
            body,
            content_type,
            id: None,
            deadline: None,
            headers: Vec::new(),
            waits: true,
            callback: None,
        }
    }

    pub(super) fn without_waiting(mut self) -> Self {
        self.waits = false;
        self
    }

    /// The id by which the message is known, everywhere and for ever; up to 255 bytes. Sending another
    /// with the same id is harmless: it is not processed twice, and what became of the first is told.
    /// Without one it gets a UUID.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// By when it must be processed, instead of the producer's deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives the message a header, which workers read with [`Context::header`](crate::Context::header).
    /// Names have at most 255 bytes; those that begin with `x-` are the broker's.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Has a function called with the id and what became of the message, instead of awaiting that: once
    /// at most, and not if the connection is closed before. It is called on the connection's task, or on
    /// the sender's if it is known already: it should not take long, and may not block. The message
    /// counts as under way until then, so give it a deadline.
    pub fn on_outcome(
        mut self,
        callback: impl FnOnce(&str, Outcome<Out, C>) + Send + 'static,
    ) -> Self {
        self.callback = Some(Box::new(callback));
        self
    }

    async fn send(self) -> Result<Receipt<Out, C>, Error>
    where
        Out: 'static,
        C: 'static,
    {
        let Self { producer, body, content_type, id, deadline, headers, waits, callback } = self;
        let body = body.map_err(|error| not_written(content_type, &error))?;
        let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
        check_id(&id)?;
        check_headers(&headers)?;
        let deadline = deadline.or(producer.settings.deadline);
        check_deadline(deadline)?;
        let timeout = producer.settings.send_timeout;
        let until = tokio::time::Instant::now().checked_add(timeout);
        let until = until.unwrap_or_else(|| tokio::time::Instant::now() + FAR);
        let room = producer.room(body.len(), waits);
        let permits = tokio::time::timeout_at(until, room).await.map_err(|_| {
            let text = format!(
                "no message of the window was done within {timeout:?}; check that workers run, or \
                 make the window larger"
            );
            Error::new(ErrorKind::TimedOut, text)
        })??;
        let id = id.into();
        let message = Encoded { id, content_type: content_type.into(), deadline, headers, body };
        let permits = Arc::new(permits);
        let sent = Sent::begin(producer, message);
        let handed_over = tokio::time::timeout_at(until, sent.hand_over(&permits)).await;
        handed_over.map_err(|_| sent.not_confirmed(timeout))??;
        if let Some(callback) = callback {
            let call = Box::new(move |settled: &Settled| {
                callback(&settled.details.id, Outcome::from_settled(settled));
            });
            sent.interest.call_back(call, permits);
        }
        Ok(Receipt { sent, seen: 0, types: PhantomData })
    }
}

impl<Out: 'static, C: 'static> IntoFuture for Sending<Out, C> {
    type Output = Result<Receipt<Out, C>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl Inner {
    pub(super) async fn room(&self, bytes: usize, waits: bool) -> Result<Permits, Error> {
        let units = bytes.div_ceil(UNIT_BYTES);
        if units > self.settings.window_bytes.div_ceil(UNIT_BYTES) {
            let text = format!(
                "the body has {bytes} bytes, the window of this producer only {}; say window_bytes, \
                 or put the content elsewhere and send where it is",
                self.settings.window_bytes
            );
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        let units = units as u32;
        let (messages, room) = (Arc::clone(&self.messages), Arc::clone(&self.bytes));
        let full = |error: TryAcquireError| match error {
            TryAcquireError::Closed => Error::closed(),
            TryAcquireError::NoPermits => {
                let text = "the window of this producer is full; try again later, or use send, \
                            which waits";
                Error::new(ErrorKind::Full, text)
            }
        };
        // Without awaiting where there is room: so messages keep the order in which they are begun.
        let _message = match Arc::clone(&messages).try_acquire_owned() {
            Err(TryAcquireError::NoPermits) if waits => {
                messages.acquire_owned().await.map_err(|_| Error::closed())?
            }
            taken => taken.map_err(full)?,
        };
        let _bytes = match Arc::clone(&room).try_acquire_many_owned(units) {
            Err(TryAcquireError::NoPermits) if waits => {
                room.acquire_many_owned(units).await.map_err(|_| Error::closed())?
            }
            taken => taken.map_err(full)?,
        };
        Ok(Permits { _message, _bytes })
    }
}

impl Sent {
    /// Begins to wait for what becomes of a message, before it is handed over.
    pub(super) fn begin(producer: Arc<Inner>, message: Encoded) -> Self {
        let Encoded { id, content_type, deadline, headers, body } = message;
        let message = Outgoing {
            key: producer.target.key(&id),
            target: producer.target.clone(),
            queue_count: None,
            id,
            content_type,
            deadline,
            headers,
            body,
        };
        let interest = producer.connection.awaited.enter(message.clone());
        Self { producer, message, interest }
    }

    /// Hands the message to the engine; returns when it is stored.
    pub(super) async fn hand_over(&self, permits: &Arc<Permits>) -> Result<(), Error> {
        let transport = &self.producer.connection.transport;
        for is_last in [false, true] {
            let parts = transport.prepare(&self.message).await?;
            let publish = |part| transport.publish(part, Some(Arc::clone(permits)));
            // All are under way before the first is waited for.
            let confirms: Vec<_> = parts.into_iter().map(publish).collect();
            let mut is_routed = !confirms.is_empty();
            for confirm in confirms {
                let taken = confirm.await.map_err(|_| Error::closed())??;
                is_routed &= taken == Taken::Stored;
            }
            if is_routed {
                break;
            }
            if !is_last {
                // Somebody has deleted it, or the broker has lost it.
                transport.ensure(&self.message.target).await?;
            } else {
                let Outgoing { key, id, .. } = &self.message;
                self.interest.settle(Settled::unroutable(key.clone(), id));
            }
        }
        Ok(())
    }

    pub(super) fn not_confirmed(&self, timeout: Duration) -> Error {
        let trouble = self.producer.connection.transport.trouble();
        let trouble = trouble.map_or_else(String::new, |trouble| format!(" ({trouble})"));
        let text = format!(
            "the broker did not confirm message {} within {timeout:?}{trouble}; it may have it all \
             the same. Sending it again under the same id is harmless",
            self.message.id
        );
        Error::new(ErrorKind::Unreachable, text)
    }
}

/// The message cannot be encoded.
pub(crate) fn not_written(content_type: &str, error: &CodecError) -> Error {
    let text = format!("the message cannot be written as {content_type}: {error}");
    Error::new(ErrorKind::Codec, text)
}

/// Whether a message can have this id.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        let text = format!("an id has 1 to {ID_BYTES_MAX} bytes, this one has {}", id.len());
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(())
}

/// Whether a message can have this deadline.
pub(crate) fn check_deadline(deadline: Option<Duration>) -> Result<(), Error> {
    if deadline.is_some_and(|it| it.as_millis() > u128::from(DURATION_MS_MAX)) {
        let text =
            "a deadline is at most ten years (of 365 days) away; leave it out to wait for ever";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(())
}

/// Whether a message can have these headers.
pub(crate) fn check_headers(headers: &[(String, String)]) -> Result<(), Error> {
    if let Some((name, _)) = headers.iter().find(|(name, _)| !is_header_name(name)) {
        let text = format!(
            "'{}' cannot be the name of a header: it has 1 to 255 bytes and does not begin with x-",
            name.escape_debug()
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    if bytes > HEADER_BYTES_MAX {
        let text = format!("headers have at most {HEADER_BYTES_MAX} bytes together, not {bytes}");
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    Ok(())
}

fn is_header_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.starts_with("x-")
}
