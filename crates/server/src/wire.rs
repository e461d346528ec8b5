//! What goes out on a connection: events of the session and replies become frames in one buffer,
//! under the outbox's lock. Nothing is decided here.

use amqp::{
    BasicAck, BasicCancel, BasicDeliver, BasicGetOk, BasicNack, BasicReturn, Delivery, Method,
    write_body, write_content_header, write_deliver, write_method,
};
use node::{Delivered, Got, Outbox, Returned, Sink};

use crate::spare_memory::KEPT_BYTES;

/// Puts a method without content after what is already waiting to be written.
pub(crate) fn send(outbox: &Outbox, channel: u16, method: &Method<'_>) {
    outbox.with_sink::<FrameSink, _>(|sink, _| sink.send(channel, method));
}

/// See the module's documentation.
pub(crate) struct FrameSink {
    out: Vec<u8>,
    frame_max: u32,
}

impl FrameSink {
    pub(crate) fn new(frame_max: u32) -> Self {
        Self { out: Vec::new(), frame_max }
    }

    /// How many bytes wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Adds encoded frames.
    pub(crate) fn append(&mut self, frames: &[u8]) {
        self.out.extend_from_slice(frames);
    }

    /// Lets go of what it does not need at the moment.
    pub(crate) fn trim_memory(&mut self) {
        self.out.shrink_to_fit();
    }

    fn send(&mut self, channel: u16, method: &Method<'_>) {
        write_method(&mut self.out, channel, method);
    }

    fn send_content(&mut self, channel: u16, method: &Method<'_>, properties: &[u8], body: &[u8]) {
        write_method(&mut self.out, channel, method);
        write_content_header(&mut self.out, channel, body.len() as u64, properties);
        write_body(&mut self.out, channel, body, self.frame_max);
    }

    /// Swaps what is to be written with `written`, an emptied buffer.
    pub(crate) fn take(&mut self, written: &mut Vec<u8>) {
        debug_assert!(written.is_empty());
        std::mem::swap(&mut self.out, written);
        if self.out.capacity() > KEPT_BYTES && written.len() < KEPT_BYTES / 4 {
            self.out = Vec::new();
        }
    }
}

impl Sink for FrameSink {
    fn confirmed(&mut self, channel: u16, number: u64, multiple: bool) {
        self.send(channel, &Method::BasicAck(BasicAck { delivery_tag: number, multiple }));
    }

    fn refused(&mut self, channel: u16, number: u64) {
        let nack = BasicNack { delivery_tag: number, multiple: false, requeue: false };
        self.send(channel, &Method::BasicNack(nack));
    }

    fn returned(&mut self, channel: u16, returned: &Returned<'_>) {
        let method = Method::BasicReturn(BasicReturn {
            reply_code: returned.code.code(),
            reply_text: returned.text,
            exchange: returned.exchange,
            routing_key: returned.routing_key,
        });
        self.send_content(channel, &method, returned.properties, returned.body);
    }

    fn cancelled(&mut self, channel: u16, consumer_tag: &str) {
        let cancel = BasicCancel { consumer_tag, no_wait: true };
        self.send(channel, &Method::BasicCancel(cancel));
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        let Delivered { consumer_tag, delivery_tag, redelivered, message, .. } = *delivered;
        let method = BasicDeliver {
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        };
        let frames = Delivery { method, properties: delivered.properties, body: message.body() };
        write_deliver(&mut self.out, delivered.channel, &frames, self.frame_max);
    }

    fn got(&mut self, channel: u16, got: &Got<'_>) {
        let method = Method::BasicGetOk(BasicGetOk {
            delivery_tag: got.delivery_tag,
            redelivered: got.redelivered,
            exchange: got.message.exchange(),
            routing_key: got.message.routing_key(),
            message_count: got.message_count,
        });
        self.send_content(channel, &method, got.properties, got.message.body());
    }
}
