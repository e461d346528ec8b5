//! The sink of a simulated connection: records what happens.

use node::{Got, Returned, Sink};

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

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Delivered(Delivered),
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
    /// What has come since it was last taken, with the channels.
    pub events: Vec<(u16, Event)>,
}

impl Recorder {
    fn push(&mut self, channel: u16, event: Event) {
        self.events.push((channel, event));
    }
}

impl Sink for Recorder {
    fn confirmed(&mut self, channel: u16, tag: u64, multiple: bool) {
        self.push(channel, Event::Confirmed { tag, multiple, is_ack: true });
    }

    fn refused(&mut self, channel: u16, tag: u64) {
        self.push(channel, Event::Confirmed { tag, multiple: false, is_ack: false });
    }

    fn returned(&mut self, channel: u16, returned: &Returned<'_>) {
        let (properties, body) = (returned.properties.to_vec(), returned.body.to_vec());
        self.push(channel, Event::Returned { properties, body });
    }

    fn cancelled(&mut self, channel: u16, consumer_tag: &str) {
        self.push(channel, Event::Cancelled { consumer: consumer_tag.to_owned() });
    }

    fn got(&mut self, channel: u16, got: &Got<'_>) {
        let event = Event::Delivered(Delivered {
            consumer: None,
            tag: got.delivery_tag,
            redelivered: got.redelivered,
            exchange: got.message.exchange().to_owned(),
            routing_key: got.message.routing_key().to_string(),
            properties: got.properties.to_vec(),
            body: got.message.body().to_vec(),
        });
        self.push(channel, event);
    }

    fn delivered(&mut self, delivered: &node::Delivered<'_>) {
        let event = Event::Delivered(Delivered {
            consumer: Some(delivered.consumer_tag.to_owned()),
            tag: delivered.delivery_tag,
            redelivered: delivered.redelivered,
            exchange: delivered.message.exchange().to_owned(),
            routing_key: delivered.message.routing_key().to_string(),
            properties: delivered.properties.to_vec(),
            body: delivered.message.body().to_vec(),
        });
        self.push(delivered.channel, event);
    }
}
