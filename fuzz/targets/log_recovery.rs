//! Fuzz target; the check is shared with an ordinary test that replays the seeds.
#![no_main]

#[path = "../checks/log_recovery.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| check::check(data));
