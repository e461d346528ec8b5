//! The commands that use a broker as a client: `send`, `work`, `status`, `retry`, `cancel`, `queue`, and
//! `demo`, which has one in its own process. All of it is done by the library;
//! here is what is asked for and what is printed.

mod demo;
mod message;
mod progress;
mod queue;
mod send;
mod watch;
mod work;

use std::time::{Duration, Instant};

use wilco::{Error, ErrorKind, Wilco};

use crate::arguments::{
    MessageArguments, QueueCommand, Remote, SendArguments, WatchArguments, WorkArguments,
};
use crate::failure::Failure;

/// How long a broker takes to start.
const STARTING: Duration = Duration::from_secs(2);
/// How long to wait before trying again to connect.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);

/// `wilco send`
pub(crate) fn send(arguments: &SendArguments) -> Result<(), Failure> {
    block_on(send::run(arguments))
}

/// `wilco work`
pub(crate) fn work(arguments: &WorkArguments) -> Result<(), Failure> {
    block_on(work::run(arguments))
}

/// `wilco demo`
pub(crate) fn demo(orders: u32) -> Result<(), Failure> {
    block_on(demo::run(orders))
}

/// `wilco status`
pub(crate) fn status(id: &str, remote: &Remote) -> Result<(), Failure> {
    block_on(message::status(id, remote))
}

/// `wilco watch`
pub(crate) fn watch(arguments: &WatchArguments) -> Result<(), Failure> {
    block_on(watch::run(arguments))
}

/// `wilco retry`
pub(crate) fn retry(arguments: &MessageArguments) -> Result<(), Failure> {
    block_on(message::retry(arguments))
}

/// `wilco cancel`
pub(crate) fn cancel(arguments: &MessageArguments) -> Result<(), Failure> {
    block_on(message::cancel(arguments))
}

/// `wilco queue`
pub(crate) fn queue(command: &QueueCommand) -> Result<(), Failure> {
    block_on(queue::run(command))
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // What the library has to say while it goes on, such as that the broker is away.
    // What a command cannot do it says itself, once.
    crate::log::to_stderr("warn,krafka=error")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime(format!("cannot begin: {error}")))?;
    runtime.block_on(command)
}

/// Connects; a broker that is just being started is waited for.
async fn connect(remote: &Remote) -> Result<Wilco, Failure> {
    connect_within(remote, STARTING).await
}

/// The same, waiting as long as it takes, for what goes on for ever.
async fn connect_patiently(remote: &Remote) -> Result<Wilco, Failure> {
    connect_within(remote, Duration::MAX).await
}

async fn connect_within(remote: &Remote, patience: Duration) -> Result<Wilco, Failure> {
    let began = Instant::now();
    let mut has_warned = false;
    loop {
        match Wilco::connect(&remote.url).await {
            Err(error) if error.kind() == ErrorKind::Unreachable && began.elapsed() < patience => {
                if began.elapsed() > STARTING && !std::mem::replace(&mut has_warned, true) {
                    tracing::warn!("waits for the broker: {error}");
                }
                tokio::time::sleep(CONNECT_AGAIN).await;
            }
            connected => return connected.map_err(failure),
        }
    }
}

/// A URL that cannot be used is a mistake in the request; everything else went wrong.
fn failure(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Url => Failure::Usage(error.to_string()),
        _ => Failure::Runtime(error.to_string()),
    }
}
