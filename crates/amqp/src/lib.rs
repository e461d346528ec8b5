//! The AMQP 0-9-1 wire codec: frames, methods, content headers, field tables and reply codes,
//! with RabbitMQ's extensions to the protocol.
//!
//! It owns the byte format and nothing else: no IO, no clock, no connection state. Decoding borrows
//! from the input; the hot path (`basic.publish`, content header, body, `basic.deliver`,
//! `basic.ack`) allocates nothing. Encoding appends to the caller's buffer.
//!
//! *Invariant:* no input makes it panic, and whatever it encodes, it decodes to an equal value.
//!
//! - [`decode_frame`] takes one [`Frame`] from the front of a buffer; [`Method::decode`] and
//!   [`decode_content_header`] read its payload.
//! - [`write_method`], [`write_content_header`], [`write_body`], [`write_deliver`] and
//!   [`write_heartbeat`] append whole frames.
//! - [`Properties`] and [`TableRef`] read message properties and headers on demand; [`FieldTable`]
//!   and [`OwnedProperties`] build them.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod frame;
mod method;
mod properties;
mod reply_code;
mod table;
mod wire;

#[cfg(test)]
mod tests;

/// Texts that are mostly, but not always, UTF-8.
pub use bstr::{BStr, BString, ByteSlice};
pub use error::DecodeError;
pub use frame::{
    ContentHeader, Delivery, FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameKind,
    PROTOCOL_HEADER, decode_content_header, decode_frame, write_body, write_content_header,
    write_deliver, write_heartbeat, write_method,
};
pub use method::*;
pub use properties::{OwnedProperties, Properties};
pub use reply_code::ReplyCode;
pub use table::{ArrayRef, FieldTable, FieldValue, TableRef, TableWriter, ValueRef};

/// The class id of `basic`, the only class whose methods carry content.
pub const CLASS_BASIC: u16 = 60;

/// Tables and arrays that are nested deeper than this are refused.
pub const MAX_DEPTH: usize = 32;
