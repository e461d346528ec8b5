//! What is ordered, and the topic that orders go to.

use serde::{Deserialize, Serialize};
use wilco::Topic;

/// An order, as it is sent to stock and mail.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Also the id of its message: whatever is sent twice, or delivered twice, is known by it.
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) item: String,
    pub(crate) quantity: i64,
}

/// Orders that were placed. Each of its queues gets all of them.
pub(crate) const PLACED: Topic<Order> = Topic::new("placed");
