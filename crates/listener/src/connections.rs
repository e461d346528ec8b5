//! The tasks of one listener's connections.

use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// How long connections have to finish when the listener stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// The connections of one listener; all are aborted when this is dropped.
#[derive(Debug)]
pub struct Connections {
    tasks: JoinSet<()>,
    name: &'static str,
}

impl Connections {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { tasks: JoinSet::new(), name }
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.tasks.spawn(task)
    }

    /// Returns when one has ended. Cancel-safe.
    pub(crate) async fn one_ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Waits a few seconds for all of them, then aborts those that are left. The caller must have
    /// told them to say goodbye.
    pub async fn farewell(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(FAREWELL, all).await.is_err() {
            let (count, name) = (self.tasks.len(), self.name);
            tracing::warn!(count, "some {name} connections did not close in time");
        }
        self.tasks.shutdown().await;
    }
}
