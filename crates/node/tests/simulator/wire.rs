//! The wire of a simulated connection: writes down what it is sent.

use amqp::Method;
use node::{Wire, WireDelivery};

/// A message as it came out of a queue.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// The consumer's tag; `None` for `basic.get`.
    pub consumer: Option<String>,
    pub tag: u64,
    pub redelivered: bool,
    pub exchange: String,
    pub routing_key: String,
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

/// Something on the wire.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Delivered(Delivered),
    /// `basic.get-empty`.
    NothingToGet,
    Returned {
        properties: Vec<u8>,
        body: Vec<u8>,
    },
    Confirmed {
        tag: u64,
        multiple: bool,
        is_ack: bool,
    },
    /// `basic.cancel` from the server.
    Cancelled {
        consumer: String,
    },
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Recorder {
    /// What came, with the channel, since it was taken last.
    pub events: Vec<(u16, Event)>,
}

impl Wire for Recorder {
    fn send(&mut self, channel: u16, method: &Method<'_>) {
        let event = match method {
            Method::BasicAck(ack) => {
                Event::Confirmed { tag: ack.delivery_tag, multiple: ack.multiple, is_ack: true }
            }
            Method::BasicNack(nack) => {
                Event::Confirmed { tag: nack.delivery_tag, multiple: nack.multiple, is_ack: false }
            }
            Method::BasicCancel(cancel) => {
                Event::Cancelled { consumer: cancel.consumer_tag.to_owned() }
            }
            Method::BasicGetEmpty(_) => Event::NothingToGet,
            _ => return,
        };
        self.events.push((channel, event));
    }

    fn send_content(&mut self, channel: u16, method: &Method<'_>, properties: &[u8], body: &[u8]) {
        let (properties, body) = (properties.to_vec(), body.to_vec());
        let event = match method {
            Method::BasicGetOk(got) => Event::Delivered(Delivered {
                consumer: None,
                tag: got.delivery_tag,
                redelivered: got.redelivered,
                exchange: got.exchange.to_owned(),
                routing_key: got.routing_key.to_owned(),
                properties,
                body,
            }),
            Method::BasicReturn(_) => Event::Returned { properties, body },
            other => panic!("unexpected content: {other:?}"),
        };
        self.events.push((channel, event));
    }

    fn deliver(&mut self, delivery: &WireDelivery<'_>) {
        let event = Event::Delivered(Delivered {
            consumer: Some(delivery.consumer_tag.to_owned()),
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            exchange: delivery.message.exchange().to_owned(),
            routing_key: delivery.message.routing_key().to_owned(),
            properties: delivery.properties.to_vec(),
            body: delivery.message.body().to_vec(),
        });
        self.events.push((delivery.channel, event));
    }
}
