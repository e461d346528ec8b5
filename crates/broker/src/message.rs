//! A message as it is kept in memory and passed on: one allocation, shared by every queue.
//!
//! The content is kept as it came: exchange, routing key, the undecoded property bytes, the body.
//! Nobody decodes the properties on the way through. The [`Head`] holds the few facts that the
//! broker itself needs, read once at publishing.

use amqp::{BStr, ByteSlice, DecodeError, Properties};
use outcome::DURATION_MS_MAX;
use triomphe::ThinArc;

use crate::tracking::{TRACKING_BYTES, Tracking};

/// Facts about a message that the broker needs without decoding its properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// When it was published, ms since the epoch.
    pub published_at_ms: u64,
    /// The property `priority`, 0 when absent.
    pub priority: u8,
    /// `delivery_mode` 2.
    pub persistent: bool,
    /// Whether a [`Tracking`] stands in front of the content.
    pub is_tracked: bool,
    /// Whether the broker itself has written the `x-death` that its headers have: it is a copy that
    /// was published to a dead-letter exchange.
    pub has_died: bool,
    /// Whether there is a header `BCC`, which receivers must not see.
    pub has_bcc: bool,
    /// The property `expiration`, ms; [`NEVER`] if there is none.
    expiration_ms: u64,
    properties_bytes: u32,
    exchange_bytes: u8,
    routing_key_bytes: u8,
}

/// What is known of a message's origin besides its properties. None of it is taken from its headers,
/// which clients write.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// Set for a message whose outcome somebody may ask for.
    pub tracking: Option<&'a Tracking>,
    /// As [`Head::has_died`].
    pub has_died: bool,
    /// As [`Head::has_bcc`].
    pub has_bcc: bool,
}

/// A shared, immutable message. Cloning costs one atomic increment.
#[derive(Clone, PartialEq)]
pub struct Message(ThinArc<Head, u8>);

/// Length of an encoded [`Head`] in a log record.
pub const HEAD_BYTES: usize = 20;

/// Stands for no expiration.
const NEVER: u64 = u64::MAX;
/// The bits of times in an encoded head.
const TIME_MASK: u64 = (1 << 48) - 1;

const PERSISTENT: u8 = 1;
const EXPIRES: u8 = 2;
const TRACKED: u8 = 4;
const DIED: u8 = 8;
const BCC: u8 = 16;

impl Message {
    /// Builds a message; `scratch` is a reusable buffer.
    ///
    /// `exchange` and `routing_key` are short strings: at most 255 bytes.
    pub fn new(
        published_at_ms: u64,
        parsed: &Properties<'_>,
        content: (&str, &(impl AsRef<[u8]> + ?Sized), &[u8], &[u8]),
        scratch: &mut Vec<u8>,
    ) -> Self {
        Self::build(published_at_ms, parsed, content, Origin::default(), scratch)
    }

    /// As [`Message::new`], for a message whose outcome somebody may ask for.
    pub fn tracked(
        published_at_ms: u64,
        parsed: &Properties<'_>,
        content: (&str, &(impl AsRef<[u8]> + ?Sized), &[u8], &[u8]),
        tracking: Option<&Tracking>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let origin = Origin { tracking, ..Origin::default() };
        Self::build(published_at_ms, parsed, content, origin, scratch)
    }

    /// As [`Message::new`], with what is known of its origin.
    pub fn build(
        published_at_ms: u64,
        parsed: &Properties<'_>,
        (exchange, routing_key, properties, body): (
            &str,
            &(impl AsRef<[u8]> + ?Sized),
            &[u8],
            &[u8],
        ),
        origin: Origin<'_>,
        scratch: &mut Vec<u8>,
    ) -> Self {
        let routing_key = routing_key.as_ref();
        debug_assert!(exchange.len() <= 255 && routing_key.len() <= 255);
        let Origin { tracking, has_died, has_bcc } = origin;
        let head = Head {
            published_at_ms,
            expiration_ms: parsed
                .expiration
                .and_then(|text| text.to_str().ok()?.parse::<u64>().ok())
                .map_or(NEVER, |ms| ms.min(DURATION_MS_MAX)),
            priority: parsed.priority.unwrap_or(0),
            persistent: parsed.delivery_mode == Some(2),
            is_tracked: tracking.is_some(),
            has_died,
            has_bcc,
            properties_bytes: properties.len() as u32,
            exchange_bytes: exchange.len() as u8,
            routing_key_bytes: routing_key.len() as u8,
        };
        scratch.clear();
        if let Some(tracking) = tracking {
            scratch.extend_from_slice(&tracking.encode());
        }
        scratch.extend_from_slice(exchange.as_bytes());
        scratch.extend_from_slice(routing_key);
        scratch.extend_from_slice(properties);
        scratch.extend_from_slice(body);
        Self(ThinArc::from_header_and_slice(head, scratch))
    }

    /// A message from the bytes that [`Message::encode_head`] and [`Message::content`] gave.
    /// `None` if they do not fit together.
    pub fn from_encoded(bytes: &[u8]) -> Option<Self> {
        let (head, _) = Self::peek(bytes)?;
        let content = bytes.get(HEAD_BYTES..)?;
        let (_, rest) = content.split_at_checked(head.tracking_bytes())?;
        let (exchange, rest) = rest.split_at_checked(head.exchange_bytes as usize)?;
        rest.get(..head.routing_key_bytes as usize)?;
        std::str::from_utf8(exchange).ok()?;
        Some(Self(ThinArc::from_header_and_slice(head, content)))
    }

    /// The head of an encoded message, and the size of its body.
    pub fn peek(bytes: &[u8]) -> Option<(Head, u32)> {
        let (head, content) = bytes.split_at_checked(HEAD_BYTES)?;
        let expiration_ms = u64::from(u32::from_le_bytes(head[12..16].try_into().ok()?))
            | u64::from(u16::from_le_bytes([head[6], head[7]])) << 32;
        let has = |flag: u8| head[19] & flag != 0;
        let head = Head {
            published_at_ms: u64::from_le_bytes(head[..8].try_into().ok()?) & TIME_MASK,
            properties_bytes: u32::from_le_bytes(head[8..12].try_into().ok()?),
            expiration_ms: if has(EXPIRES) { expiration_ms } else { NEVER },
            exchange_bytes: head[16],
            routing_key_bytes: head[17],
            priority: head[18],
            persistent: has(PERSISTENT),
            is_tracked: has(TRACKED),
            has_died: has(DIED),
            has_bcc: has(BCC),
        };
        let before_body = head.tracking_bytes() as u64
            + u64::from(head.exchange_bytes)
            + u64::from(head.routing_key_bytes)
            + u64::from(head.properties_bytes);
        let body_bytes = (content.len() as u64).checked_sub(before_body)?;
        Some((head, u32::try_from(body_bytes).ok()?))
    }

    /// The head as it is written to a log record, before [`Message::content`].
    pub fn encode_head(&self) -> [u8; HEAD_BYTES] {
        let head = self.head();
        let mut out = [0; HEAD_BYTES];
        let expiration_ms = head.expiration_ms().unwrap_or(0);
        let published_at_ms = head.published_at_ms & TIME_MASK | expiration_ms >> 32 << 48;
        out[..8].copy_from_slice(&published_at_ms.to_le_bytes());
        out[8..12].copy_from_slice(&head.properties_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&(expiration_ms as u32).to_le_bytes());
        out[16] = head.exchange_bytes;
        out[17] = head.routing_key_bytes;
        out[18] = head.priority;
        out[19] = u8::from(head.persistent) * PERSISTENT
            + u8::from(head.expiration_ms().is_some()) * EXPIRES
            + u8::from(head.is_tracked) * TRACKED
            + u8::from(head.has_died) * DIED
            + u8::from(head.has_bcc) * BCC;
        out
    }

    /// What the broker knows of it.
    pub fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// What travels with it besides its content, if it is tracked.
    pub fn tracking(&self) -> Option<Tracking> {
        if !self.head().is_tracked {
            return None;
        }
        Tracking::decode(self.content())
    }

    /// The same, but only for a producer's message or a copy of one: outcome messages are not
    /// followed.
    pub fn followed(&self) -> Option<Tracking> {
        self.tracking().filter(|tracking| tracking.outcome_of.is_none())
    }

    /// Tracking, exchange, routing key, properties and body, one after the other.
    pub fn content(&self) -> &[u8] {
        &self.0.slice
    }

    /// The exchange it was published to.
    pub fn exchange(&self) -> &str {
        let start = self.head().tracking_bytes();
        text(&self.content()[start..start + self.head().exchange_bytes as usize])
    }

    /// Its routing key: mostly, but not always, UTF-8.
    pub fn routing_key(&self) -> &BStr {
        let start = self.head().tracking_bytes() + self.head().exchange_bytes as usize;
        self.content()[start..start + self.head().routing_key_bytes as usize].as_bstr()
    }

    /// The property flags and fields, undecoded (AMQP 0-9-1 section 4.2.6.1).
    pub fn properties_bytes(&self) -> &[u8] {
        let start = self.strings_bytes();
        &self.content()[start..start + self.head().properties_bytes as usize]
    }

    /// The properties, decoded now.
    pub fn properties(&self) -> Result<Properties<'_>, DecodeError> {
        Properties::decode(self.properties_bytes())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.content()[self.strings_bytes() + self.head().properties_bytes as usize..]
    }

    /// Bytes of memory it takes, roughly, for a budget.
    pub fn memory_bytes(&self) -> usize {
        self.content().len() + size_of::<Head>() + 32
    }

    /// Everything before the properties.
    fn strings_bytes(&self) -> usize {
        self.head().tracking_bytes()
            + self.head().exchange_bytes as usize
            + self.head().routing_key_bytes as usize
    }
}

impl Head {
    /// The property `expiration`, ms.
    pub fn expiration_ms(&self) -> Option<u64> {
        (self.expiration_ms != NEVER).then_some(self.expiration_ms)
    }

    fn tracking_bytes(&self) -> usize {
        if self.is_tracked { TRACKING_BYTES } else { 0 }
    }
}

/// Both constructors have checked that these bytes are `str`.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("body_bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
