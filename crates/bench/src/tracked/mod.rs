//! `wilco bench --tracked`: the tracked round trip. A producer publishes persistent messages,
//! workers take and acknowledge them, and the producer learns what became of each message and
//! matches that to the message.
//!
//! - By the broker: the messages ask with `x-notify` and workers only acknowledge. By replies: the
//!   workers publish a reply themselves and acknowledge when the broker has confirmed it, which is
//!   the best that can be done by hand without losing replies. The producer does the same in both.
//! - `producer` and `worker` are a thread and a connection each; what they do is in `plan`, what
//!   they share in `run`. `ids` match outcomes to messages, `delivery` reads frames, `drive` runs
//!   it all, `report` judges.
//!
//! A message is done when both its confirm and its outcome have come. At most a window of messages
//! is not done at any time, so a window of 1 means strictly one message in flight.

mod delivery;
mod drive;
mod ids;
mod plan;
mod producer;
mod report;
mod run;
mod worker;

#[cfg(test)]
mod tests;

pub(super) use drive::drive;
