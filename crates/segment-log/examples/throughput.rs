//! How fast the log appends, syncs, recovers and reads on this machine's disk.
//!
//! `cargo run --release -p wilco-segment-log --example throughput [DIRECTORY [TOTAL_MIB]]`

// A program for a terminal, which stops at the first thing that goes wrong.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use segment_log::{Batch, Log, Options, RealDisk};

const MIB: f64 = (1 << 20) as f64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".into());
    let total_mib: u64 = arguments.next().map_or(1600, |mib| mib.parse().unwrap());
    append_in_memory();
    for size in [128, 1024] {
        let directory = tempfile::tempdir_in(&parent).unwrap();
        fill(directory.path(), size, total_mib << 20);
        recover(directory.path());
    }
    for batch_len in [500, 4000, 16_000, 32_000, 64_000, 300_000, 1_000_000] {
        let directory = tempfile::tempdir_in(&parent).unwrap();
        commit(directory.path(), batch_len);
    }
}

fn open(directory: &Path, visit: &mut dyn FnMut(u64)) -> Log<RealDisk> {
    let disk = RealDisk::new(directory).unwrap();
    let visit = &mut |record: segment_log::RecordRef<'_>| visit(record.size_bytes());
    Log::open(disk, Options::default(), visit).unwrap().0
}

/// What a record costs before the disk is touched.
fn append_in_memory() {
    for size in [16, 128, 1024] {
        let payload = vec![7; size];
        let mut batch = Batch::new(0);
        let start = Instant::now();
        for _ in 0..200 {
            batch.reset(0);
            for _ in 0..5000 {
                batch.append(1, 0, &[&payload[..8], &payload[8..]]);
            }
        }
        let ns = start.elapsed().as_nanos() as f64 / 1e6;
        println!("append {size:>5} B            {ns:>6.0} ns per record");
    }
}

/// Batches of 1 MiB, each written and synced.
fn fill(directory: &Path, size: usize, total: u64) {
    let payload = vec![7; size];
    let mut log = open(directory, &mut |_| {});
    let mut batch = Batch::new(0);
    let (mut in_append, mut in_write, mut in_sync) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    while log.next_position() < total {
        let start = Instant::now();
        batch.reset(log.next_position());
        while batch.len_bytes() < 1 << 20 {
            batch.append(1, 0, &[&payload]);
        }
        let appended = Instant::now();
        log.write(&batch).unwrap();
        let written = Instant::now();
        log.sync().unwrap();
        in_append += appended - start;
        in_write += written - appended;
        in_sync += written.elapsed();
    }
    let mib = log.next_position() as f64 / MIB;
    let rate = |time: Duration| mib / time.as_secs_f64();
    println!(
        "fill   {size:>5} B records    append {:>6.0} MiB/s  write {:>6.0} MiB/s  sync {:>6.0} MiB/s  all {:>6.0} MiB/s",
        rate(in_append),
        rate(in_write),
        rate(in_sync),
        rate(in_append + in_write + in_sync),
    );
}

fn recover(directory: &Path) {
    for _ in 0..2 {
        let (mut bytes, mut count) = (0, 0_u64);
        let start = Instant::now();
        let _log = open(directory, &mut |size| {
            bytes += size;
            count += 1;
        });
        let elapsed = start.elapsed();
        let mib = bytes as f64 / MIB;
        println!(
            "recover {count:>8} records  {mib:>6.0} MiB in {:.2} s  {:>6.0} MiB/s",
            elapsed.as_secs_f64(),
            mib / elapsed.as_secs_f64()
        );
    }
}

/// The latency of one commit, by batch size.
fn commit(directory: &Path, batch_len: usize) {
    let payload = vec![7; batch_len - 12];
    let mut log = open(directory, &mut |_| {});
    let mut batch = Batch::new(0);
    let mut taken = Vec::new();
    let rounds = (200_000_000 / batch_len).min(2000);
    for _ in 0..rounds {
        batch.reset(log.next_position());
        batch.append(1, 0, &[&payload]);
        let start = Instant::now();
        log.write(&batch).unwrap();
        log.sync().unwrap();
        taken.push(start.elapsed());
    }
    let total: Duration = taken.iter().sum();
    taken.sort_unstable();
    println!(
        "commit {batch_len:>8} B  median {:>5} us  p99 {:>5} us  mean {:>5} us",
        taken[rounds / 2].as_micros(),
        taken[rounds * 99 / 100].as_micros(),
        (total / rounds as u32).as_micros()
    );
}
