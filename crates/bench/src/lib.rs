//! `wilco bench`: a load generator for any AMQP 0-9-1 broker.
//!
//! It opens connections, each of which one thread publishes or consumes on, and watches counters
//! and histograms. It knows nothing of the broker behind the URI: wilco is measured like any other.
//!
//! - `args` is the command line, and `run` does what it says;
//! - `client` is a small blocking client; `publisher` and `consumer` are the workers on it,
//!   `outgoing` has what they write, `window` the messages that are not done;
//! - `setup` declares what a run needs, `drive` runs it and measures, `report` prints;
//! - `tracked` has its own workers and drive: it waits to hear what became of each message;
//! - `library` measures round trips through the library, over any of its engines;
//! - `standing` measures without messages, `server_cost` reads what the broker uses from `/proc`.

mod args;
mod client;
mod consumer;
mod drive;
mod library;
mod outgoing;
mod publisher;
mod report;
mod run;
mod server_cost;
mod setup;
mod standing;
mod stats;
mod tracked;
mod uri;
mod window;

#[cfg(test)]
mod tests;

pub use args::BenchArgs;
pub use run::run;
