//! What a peer did wrong, and in which method: `close` names both.

use node::BrokerError;

/// An error and the class and method it is about; 0, 0 when none.
pub(crate) struct Fault {
    pub error: BrokerError,
    pub ids: (u16, u16),
}

/// `basic.publish`, which content errors are about.
const PUBLISH: (u16, u16) = (60, 40);
/// `basic.ack`, for all that is found when settlements take effect.
const ACK: (u16, u16) = (60, 80);

impl Fault {
    pub(crate) fn about_publish(error: BrokerError) -> Self {
        Self { error, ids: PUBLISH }
    }

    pub(crate) fn about_ack(error: BrokerError) -> Self {
        Self { error, ids: ACK }
    }
}

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        Self { error, ids: (0, 0) }
    }
}
