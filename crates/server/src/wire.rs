//! The wire of a connection: whatever goes out is encoded into one buffer, under the outbox's lock.

use amqp::{
    BasicDeliver, Delivery, Method, write_body, write_content_header, write_deliver, write_method,
};
use node::{Wire, WireDelivery};

/// Memory an idle connection's buffer may keep.
const KEPT_BYTES: usize = 4 << 10;

/// See the module's documentation.
pub(crate) struct SocketWire {
    out: Vec<u8>,
    frame_max: u32,
}

impl SocketWire {
    pub(crate) fn new(frame_max: u32) -> Self {
        Self { out: Vec::new(), frame_max }
    }

    /// Bytes that wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Encoded frames.
    pub(crate) fn append(&mut self, frames: &[u8]) {
        self.out.extend_from_slice(frames);
    }

    /// Swaps what there is to write with `written`, an emptied buffer.
    pub(crate) fn take(&mut self, written: &mut Vec<u8>) {
        debug_assert!(written.is_empty());
        std::mem::swap(&mut self.out, written);
        if self.out.capacity() > KEPT_BYTES && written.len() < KEPT_BYTES / 4 {
            self.out = Vec::new();
        }
    }
}

impl Wire for SocketWire {
    fn send(&mut self, channel: u16, method: &Method<'_>) {
        write_method(&mut self.out, channel, method);
    }

    fn send_content(&mut self, channel: u16, method: &Method<'_>, properties: &[u8], body: &[u8]) {
        write_method(&mut self.out, channel, method);
        write_content_header(&mut self.out, channel, body.len() as u64, properties);
        write_body(&mut self.out, channel, body, self.frame_max);
    }

    fn deliver(&mut self, delivery: &WireDelivery<'_>) {
        let WireDelivery { consumer_tag, delivery_tag, redelivered, message, .. } = *delivery;
        let method = BasicDeliver {
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        };
        let frames = Delivery { method, properties: delivery.properties, body: message.body() };
        write_deliver(&mut self.out, delivery.channel, &frames, self.frame_max);
    }
}
