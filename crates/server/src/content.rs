//! Messages that come in pieces: the method, the header, and a body in any number of frames.
//!
//! Most messages lie whole in the read buffer and are published from there without a copy; this is
//! for the others.

use amqp::{BString, BasicPublish, ByteSlice, ContentHeader};
use node::{BrokerError, Publish};

/// Memory reserved at once for a body that is announced; the rest grows as it arrives.
const RESERVED_BYTES: u64 = 1 << 20;

/// What an incomplete message takes besides its parts.
const OVERHEAD_BYTES: u64 = 256;

/// A message on one channel of which parts are still to come.
pub(crate) struct Content {
    exchange: String,
    routing_key: BString,
    mandatory: bool,
    /// `None` until the header has come.
    header: Option<(Vec<u8>, u64)>,
    body: Vec<u8>,
}

impl Content {
    pub(crate) fn new(exchange: &str, publish: &BasicPublish<'_>) -> Self {
        Self {
            exchange: exchange.to_owned(),
            routing_key: publish.routing_key.to_owned(),
            mandatory: publish.mandatory,
            header: None,
            body: Vec::new(),
        }
    }

    /// The memory it takes so far.
    pub(crate) fn bytes(&self) -> u64 {
        let properties = self.header.as_ref().map_or(0, |(properties, _)| properties.len());
        let names = self.exchange.len() + self.routing_key.len();
        OVERHEAD_BYTES + (names + properties + self.body.len()) as u64
    }

    pub(crate) fn header(&mut self, header: &ContentHeader<'_>) -> Result<(), BrokerError> {
        if self.header.is_some() {
            return Err(unexpected("body", "header"));
        }
        self.body.reserve_exact(header.body_size.min(RESERVED_BYTES) as usize);
        self.header = Some((header.properties.to_vec(), header.body_size));
        Ok(())
    }

    pub(crate) fn body(&mut self, payload: &[u8]) -> Result<(), BrokerError> {
        let Some((_, body_bytes)) = self.header else { return Err(unexpected("header", "body")) };
        let left = body_bytes - self.body.len() as u64;
        if payload.len() as u64 > left {
            let text =
                format!("the body is longer than the {body_bytes} bytes its header announced");
            return Err(BrokerError::frame_error(text));
        }
        self.body.extend_from_slice(payload);
        Ok(())
    }

    /// The message, once it is complete.
    pub(crate) fn whole(&self) -> Option<Publish<'_>> {
        let (properties, body_bytes) = self.header.as_ref()?;
        (self.body.len() as u64 == *body_bytes).then(|| Publish {
            exchange: &self.exchange,
            routing_key: self.routing_key.as_bstr(),
            mandatory: self.mandatory,
            properties,
            body: &self.body,
        })
    }
}

/// A frame of the wrong kind (AMQP 0-9-1 section 4.2.6).
pub(crate) fn unexpected(expected: &str, got: &str) -> BrokerError {
    BrokerError::unexpected_frame(format!(
        "expected content {expected} for class 60, got {got} frame instead"
    ))
}
