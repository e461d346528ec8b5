//! The seeded simulator: random histories of a node on a disk that crashes, tears, fails and fills
//! up, against a naive model of what was promised.
//!
//! One seed is one history; the same seed always gives the same history. `SIM_SEED` replays one,
//! `SIM_SEEDS` says how many to run, `SIM_FIRST` where to begin. With `SIM_NO_DUE` a confirm that
//! comes too early is noticed only by what a crash loses.
//!
//! A history's clients, clock and disk are in [`world`], its commands in [`steps`] and [`traffic`].
//! What arrives is checked in [`events`] and [`told`], what survives a crash in [`crash`], what is
//! left at the end in [`finish`], and what the ledger says in [`audit`], all against [`model`];
//! [`window`] has the ids that queues remember.

mod audit;
mod client;
mod crash;
mod events;
mod finish;
mod message;
mod model;
mod random;
mod steps;
mod told;
mod topology;
mod traffic;
mod window;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use world::{Story, World};

/// How many seeds a normal run has.
const SEEDS: u64 = 1_200;
/// A run ends after this many failures.
const FAILURES_MAX: usize = 5;
const THREADS: usize = 2;

/// Runs a history; if it fails, returns its story, with what went wrong at the end.
fn run(seed: u64) -> Result<String, String> {
    let story: Story = Arc::default();
    let told = Arc::clone(&story);
    let result = catch_unwind(AssertUnwindSafe(move || {
        let mut world = World::new(seed, told);
        for _ in 0..60 + world.random.below(90) {
            world.step();
        }
        world.finish();
    }));
    let story = story.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    match result {
        Ok(()) => Ok(story),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("{story}\nseed {seed}: {}", text.unwrap_or_default()))
        }
    }
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_history_keeps_its_promises() {
    if let Some(seed) = number_from_environment("SIM_SEED") {
        match run(seed) {
            Ok(story) => println!("{story}\nseed {seed}: all is well"),
            Err(story) => panic!("{story}"),
        }
        return;
    }
    let count = number_from_environment("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(number_from_environment("SIM_FIRST").unwrap_or(0));
    let end = next.load(Ordering::Relaxed) + count;
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failures.lock().expect("no panic").len() >= FAILURES_MAX {
                        return;
                    }
                    if let Err(story) = run(seed) {
                        failures.lock().expect("no panic").push((seed, story));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no panic");
    failures.sort();
    if let Some((seed, story)) = failures.first() {
        let seeds: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
        panic!("{story}\nfailing seeds: {seeds:?}; replay the first with SIM_SEED={seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
