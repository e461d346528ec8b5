//! What not every engine can do.

use std::fmt;

/// Something that not every engine can do; what is not here, all do. A program that needs one asks
/// [`Wilco::can`](crate::Wilco::can); where it is missing, the calls that need it say so with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Capability {
    /// Messages outlive the engine's process.
    Durable,
    /// The producer is told when its message is purged or its queue deleted.
    Dropped,
    /// A message that has failed can be tried again by its id.
    Retry,
    /// A message that waits can be taken out by its id.
    Cancel,
    /// A message is found by its id from other processes; where the engine lives in this one, from all of it.
    Attach,
    /// Whoever may sees what becomes of everybody's messages.
    Watch,
    /// Topics: one message, several queues, an outcome in each.
    Topics,
    /// An id is processed once also by several workers, and by those that come after the first has ended.
    SharedIds,
    /// A message that is to be tried again later waits in the engine, also when its worker ends meanwhile.
    Delay,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Durable,
        Self::Dropped,
        Self::Retry,
        Self::Cancel,
        Self::Attach,
        Self::Watch,
        Self::Topics,
        Self::SharedIds,
        Self::Delay,
    ];

    /// Its name, in lower case with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Dropped => "dropped",
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Attach => "attach",
            Self::Watch => "watch",
            Self::Topics => "topics",
            Self::SharedIds => "shared-ids",
            Self::Delay => "delay",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
