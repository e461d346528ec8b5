//! What a session's workers are called in outcomes.

use std::sync::Arc;

use outcome::Worker;

/// What a worker is called that gets its messages one by one.
pub(super) const BASIC_GET: &str = "basic.get";

/// The most bytes of a client's own name, so that there is room for the tag.
const NAME_BYTES_MAX: usize = 128;

/// See the module's documentation.
pub(super) struct WorkerName {
    user: Arc<str>,
    /// What the client calls itself.
    name: String,
}

impl WorkerName {
    pub(super) fn new(user: &Arc<str>) -> Self {
        Self { user: Arc::clone(user), name: user.to_string() }
    }

    pub(super) fn set(&mut self, name: &str) {
        self.name = name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned();
    }

    /// The worker with this consumer tag.
    pub(super) fn of(&self, tag: &str) -> Arc<str> {
        let name = format!("{}/{tag}", self.name);
        Worker { user: &self.user, name: &name }.text().into()
    }

    /// The client, when the consumer is not known any more.
    pub(super) fn of_client(&self) -> Arc<str> {
        Worker { user: &self.user, name: &self.name }.text().into()
    }
}
