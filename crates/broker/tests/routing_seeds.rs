//! Replays the seeds of the fuzz target `topic_matcher`.

#[path = "../../../fuzz/checks/topic_matcher.rs"]
mod topic_matcher;

#[test]
fn topic_matcher_seeds_hold() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/topic_matcher");
    let mut count = 0;
    for entry in std::fs::read_dir(seeds).unwrap() {
        topic_matcher::check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 5, "seeds are missing");
}
