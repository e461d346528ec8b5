//! Fuzz target; the check is shared with an ordinary test that replays the seeds.
#![no_main]

#[path = "../checks/topic_matcher.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
