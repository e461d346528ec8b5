//! Replays the seeds of the fuzz target, and as many inputs generated from a seed.

use segment_log as _;

#[path = "../../../fuzz/checks/log_recovery.rs"]
mod log_recovery;

#[test]
fn log_recovery_takes_its_seeds() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/log_recovery");
    let mut count = 0;
    for entry in std::fs::read_dir(seeds).expect("seeds are committed") {
        let path = entry.expect("a directory entry").path();
        log_recovery::check(&std::fs::read(path).expect("a readable seed"));
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn log_recovery_takes_random_input() {
    let mut random = 0x1234_5678_u64;
    for round in 0..2000_usize {
        let mut data = vec![round as u8];
        for _ in 0..round % 97 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            data.push((random >> 56) as u8);
        }
        log_recovery::check(&data);
    }
}
