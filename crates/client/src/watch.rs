//! Outcomes of everybody's messages, as they come.

use std::sync::Arc;

use crate::codec::Raw;
use crate::connection::Connection;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::transport::properties::{Told, told};
use crate::transport::{Source, Subscription, Verdict, queues};

/// Outcomes on their way to a watcher.
const UNDER_WAY: u16 = 500;

/// Outcomes of everybody's messages, from [`Wilco::watch`](crate::Wilco::watch). Who is slow misses the
/// oldest, once 100,000 wait.
pub struct Watch {
    connection: Arc<Connection>,
    queue: String,
    subscription: Subscription,
}

impl Watch {
    pub(crate) async fn begin(
        connection: Arc<Connection>,
        of: Option<String>,
    ) -> Result<Self, Error> {
        let queue = queues::watching_queue_name();
        let source = Source::Outcomes(of);
        let subscription = connection.transport.subscribe(&queue, &source, UNDER_WAY).await?;
        Ok(Self { connection, queue, subscription })
    }

    /// The next outcome; `None` when the connection is closed.
    ///
    /// # Errors
    /// Whatever ended the watch.
    pub async fn next(&mut self) -> Result<Option<Outcome<Vec<u8>, Raw>>, Error> {
        while let Some(incoming) = self.subscription.incoming.recv().await {
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(error) if error.kind() == crate::ErrorKind::Closed => return Ok(None),
                Err(error) => return Err(error),
            };
            let (result, content_type) = (crate::Bytes::new(), "");
            let seen = Verdict::Processed { result, content_type };
            self.connection.transport.settle(&incoming, 1, seen).await;
            match told(&incoming.properties, &incoming.body) {
                Ok(Told::Outcome(settled)) => return Ok(Some(Outcome::from_settled(&settled))),
                Ok(Told::Progress(_)) => {}
                Err(error) => tracing::warn!("among the outcomes: {error}"),
            }
        }
        Ok(None)
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](crate::ErrorKind::Unreachable): it is gone by itself, a minute later.
    pub async fn close(self) -> Result<(), Error> {
        self.connection.transport.delete_queue(&self.queue).await.map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.connection.transport.release(self.subscription.id);
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("queue", &self.queue).finish_non_exhaustive()
    }
}
