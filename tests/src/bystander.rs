//! A healthy connection that must not notice what others do.

use crate::{Broker, raw, raw::Raw, unique};

/// Publishes to itself.
pub struct Bystander {
    raw: Raw,
    queue: String,
    count: u32,
}

impl Bystander {
    /// Connects, with a consumer on a queue of its own.
    pub fn new(broker: &Broker) -> Bystander {
        let mut raw = broker.raw();
        let queue = unique("bystander");
        raw.declare(1, &queue);
        raw.open_channel(2);
        raw.confirm_select(2);
        raw.consume(1, &queue);
        Bystander { raw, queue, count: 0 }
    }

    /// Asserts that a publish is confirmed and delivered.
    #[track_caller]
    pub fn still_works(&mut self) {
        self.count += 1;
        let body = self.count.to_string();
        self.raw.send(&raw::publish(2, "", &self.queue, body.as_bytes()));
        // Confirm and delivery come in either order.
        let first = self.raw.next_frame().expect("a frame");
        let delivered = if first.is(60, 80) {
            self.raw.delivery()
        } else {
            assert!(first.is(60, 60), "{first:?}");
            let body = self.raw.content();
            self.raw.expect(60, 80);
            body
        };
        assert_eq!(delivered, body.as_bytes());
        self.raw.ack(1, self.count.into(), false);
    }
}
