//! An engine under test.

use async_trait::async_trait;
use wilco::Wilco;

/// Who fails while a guarantee must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Failing {
    /// Nobody.
    Nobody,
    /// A process with a worker ends at once.
    Worker,
    /// A process with a producer ends at once.
    Producer,
    /// The engine is killed, and started again.
    Engine,
}

/// An engine under test: how to reach it, and how to kill it.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Its URL, for messages of tests that fail.
    fn url(&self) -> String;

    /// A new connection, as of another process. An engine that lives in one process only gives the same
    /// again.
    async fn connect(&self) -> Wilco;

    /// Kills the engine at once, and starts it again with what it had on disk; returns when it answers.
    /// `false`: that cannot be had here, and what needs it is not tested.
    fn kill_and_restart(&self) -> bool;

    /// Whether it counts each delivery that ended with its worker. Where some are not counted, a message that
    /// ends its worker each time fails in the end all the same, after more tries.
    fn counts_each_crash(&self) -> bool {
        true
    }
}
