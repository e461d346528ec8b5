//! A process with a producer or a worker, that can end at any moment.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use wilco::Wilco;

use crate::engine::Engine;

/// A process, as the engine sees it: a connection of its own, with tasks of its own, all of which end at once
/// when it [crashes](Self::crash), without any last word.
#[derive(Debug)]
pub struct Process {
    runtime: Option<Runtime>,
    wilco: Wilco,
}

impl Process {
    /// Starts one.
    pub async fn start(engine: &Arc<dyn Engine>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let engine = Arc::clone(engine);
        // Its connection lives and ends with its runtime.
        let wilco = runtime.spawn(async move { engine.connect().await }).await;
        Self { wilco: wilco.expect("it connects"), runtime: Some(runtime) }
    }

    /// Its connection.
    pub fn wilco(&self) -> &Wilco {
        &self.wilco
    }

    /// Has it do something.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.as_ref().expect("it lives").spawn(future)
    }

    /// Ends it at once.
    pub async fn crash(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // Nobody is told when the last task has ended: soon.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A runtime may not be dropped where others wait.
impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
