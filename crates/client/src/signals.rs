//! When to stop.

/// Completes when the process is told to stop: by SIGINT (Ctrl-C) or SIGTERM. For
/// [`WorkerBuilder::until`](crate::WorkerBuilder::until).
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn signals() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        // A process that cannot listen for signals is ended by them, as ever.
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
    }
}
