//! Reads deliveries frame by frame, and keeps track of the current one.

use amqp::ContentHeader;
use anyhow::Result;

use crate::consumer::deliver_tag;

/// The delivery that is being received.
#[derive(Default)]
pub(super) struct Delivery {
    pub(super) tag: u64,
    /// Bytes of the body still to come.
    body_left: u64,
}

impl Delivery {
    /// Processes a method's payload; true if it begins a delivery.
    #[inline]
    pub(super) fn begins(&mut self, payload: &[u8]) -> bool {
        let tag = deliver_tag(payload);
        self.tag = tag.unwrap_or(self.tag);
        tag.is_some()
    }

    /// Processes a content header's payload; true if the message is complete because it has no
    /// body.
    #[inline]
    pub(super) fn header<'p>(&mut self, payload: &'p [u8]) -> Result<ContentHeader<'p>> {
        let header = amqp::decode_content_header(payload)?;
        self.body_left = header.body_size;
        Ok(header)
    }

    /// Processes a piece of the body; true if the message is complete.
    #[inline]
    pub(super) fn body(&mut self, piece: &[u8]) -> bool {
        self.body_left = self.body_left.saturating_sub(piece.len() as u64);
        self.body_left == 0
    }
}
