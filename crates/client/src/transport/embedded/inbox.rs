//! What the node has for the session, until the task that drives it takes it.

use ::amqp::Properties;
use bytes::Bytes;
use node::{Delivered, Returned, Sink};

use super::publishing::Told;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Inbox {
    arrived: Vec<Arrived>,
}

/// One thing that has come.
pub(super) enum Arrived {
    Delivered(Delivery),
    Cancelled {
        channel: u16,
    },
    /// Messages up to a number, or just that one.
    Confirmed {
        number: u64,
        multiple: bool,
        is_accepted: bool,
    },
    /// The message with this id reached no queue; its confirm follows.
    Returned {
        id: Vec<u8>,
    },
    /// What that means for a message.
    Published(Told),
}

/// A delivery to one of the session's consumers.
pub(super) struct Delivery {
    pub(super) channel: u16,
    pub(super) tag: u64,
    pub(super) is_redelivered: bool,
    pub(super) properties: Bytes,
    pub(super) body: Bytes,
}

impl Inbox {
    /// Forgets what came on a channel that is closed: its number may be another's next.
    pub(super) fn forget(&mut self, closed: u16) {
        self.arrived.retain(|arrived| match arrived {
            Arrived::Delivered(Delivery { channel, .. }) | Arrived::Cancelled { channel } => {
                *channel != closed
            }
            _ => true,
        });
    }

    pub(super) fn take(&mut self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived)
    }
}

impl Sink for Inbox {
    fn confirmed(&mut self, _: u16, number: u64, multiple: bool) {
        // Reports are published on other channels, which are not in confirm mode.
        self.arrived.push(Arrived::Confirmed { number, multiple, is_accepted: true });
    }

    fn refused(&mut self, _: u16, number: u64) {
        self.arrived.push(Arrived::Confirmed { number, multiple: false, is_accepted: false });
    }

    fn returned(&mut self, _: u16, returned: &Returned<'_>) {
        let properties = Properties::decode(returned.properties).ok();
        if let Some(id) = properties.and_then(|properties| properties.message_id) {
            self.arrived.push(Arrived::Returned { id: id.to_vec() });
        }
    }

    fn cancelled(&mut self, channel: u16, _: &str) {
        self.arrived.push(Arrived::Cancelled { channel });
    }

    fn delivered(&mut self, delivered: &Delivered<'_>) {
        self.arrived.push(Arrived::Delivered(Delivery {
            channel: delivered.channel,
            tag: delivered.delivery_tag,
            is_redelivered: delivered.redelivered,
            properties: Bytes::copy_from_slice(delivered.properties),
            body: Bytes::copy_from_slice(delivered.message.body()),
        }));
    }
}
