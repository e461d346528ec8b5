//! Outcomes: what the producer is told, tested through the real binary and an independent client.
//!
//! Only wilco has outcomes, so against another broker all of this is skipped.

mod bad_input;
mod case;
mod confirm_on_ack;
mod duplicates;
mod message;
mod questions;
mod queues_ask;
mod reports;
mod retries;
mod special_ways;
mod watching;
mod ways;

use end_to_end::{Broker, Session, broker::is_external, shared, skip};

/// The broker shared by this package; `None`, after naming the skipped test, if it is not wilco.
fn wilco() -> Option<Session> {
    skips().map(|()| shared())
}

/// A broker of the test's own, which may be restarted.
fn own() -> Option<Broker> {
    let thread = std::thread::current();
    Broker::own(thread.name().unwrap_or_default())
}

fn skips() -> Option<()> {
    if is_external() {
        // The test runner names its threads after the tests.
        let thread = std::thread::current();
        skip(thread.name().unwrap_or_default(), "only wilco makes outcomes");
        return None;
    }
    Some(())
}
