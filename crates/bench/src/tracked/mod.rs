//! `wilco bench --tracked`: the tracked round trip. A producer publishes persistent messages, workers
//! take and acknowledge them, and the producer hears of each message what became of it and matches
//! that to the message.
//!
//! - By the broker: the messages ask with `x-notify` and workers only acknowledge. By replies: the
//!   workers publish a reply themselves and acknowledge when the broker has confirmed it, the most
//!   that can be had by hand without losing replies. The producer does the same in both.
//! - `producer` and `worker` are a thread and a connection each; what they do is in `plan`,
//!   what they share in `run`. `ids` match, `delivery` reads frames, `drive` runs it all, `report` judges.
//!
//! A message is done when both its confirm and its outcome have come. At most the window is not done
//! at any time, so that a window of 1 is strictly one message in flight.

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
