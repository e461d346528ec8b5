//! What ten million ids cost: disk, memory, processor time, and time to look one up.
//!
//! `cargo run --release -p wilco-ledger --example ten_million_ids [ids] [events per message] [directory]`
//!
//! Events per message are 2 (published, settled), 4 (delivered and received as well) or 5 (requeued
//! and delivered again instead of received). The directory should be on the disk to be measured.

use bstr::BStr;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Instant;

use ledger::{Ledger, Options, dedup_key};
use outcome::{
    Cursor, Details, Event, Flags, IdHash, Outcome, Published, PublishedQueue, Reason, Settled,
    Verdict, What,
};
use segment_log::RealDisk;

/// Messages between two flushes: a quarter of a second's worth at a hundred thousand a second.
const FLUSH_MESSAGES: u64 = 25_000;
/// Messages in flight: this many others are published between a message's publishing and settling.
const UNDER_WAY: u64 = 500;
const RECORD_BYTES: u64 = 700;
const START_MS: u64 = 1_760_000_000_000;
const QUEUE: &str = "orders";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let per_message: u64 = arguments.next().map_or(Ok(2), |text| text.parse())?;
    let directory = arguments.next().map_or_else(
        || std::env::temp_dir().join(format!("ten-million-ids-{}", std::process::id())),
        Into::into,
    );
    fs::create_dir_all(&directory)?;
    // Enough room for everything, to see what the ledger needs.
    let options = Options { bytes_max: 4 << 30, ..Options::default() };
    say("ids", count);
    say("events of each", per_message);

    let ledger = Ledger::open(RealDisk::new(&directory)?, options.clone())?;
    let run = append(&ledger, count, per_message, &directory)?;
    say("seconds to append and flush", format!("{:.1}", run.seconds));
    say("processor us per message", format!("{:.2}", run.cpu_seconds * 1e6 / count as f64));
    say("longest flush, ms", format!("{:.0}", run.flush_ms_max));
    say("flush at the 99th percentile, ms", format!("{:.0}", run.flush_ms_p99));
    say("MB on disk", disk_bytes(&directory)? / 1_000_000);
    say("MB on disk at most, while merging", run.disk_bytes_max / 1_000_000);
    by_kind(&directory)?;
    say("MB resident, at most so far", status_mb("VmHWM:")?);
    look_up(&ledger, count)?;
    say("MB resident, at most so far", status_mb("VmHWM:")?);
    drop(ledger);

    let started = Instant::now();
    let ledger = Ledger::open(RealDisk::new(&directory)?, options)?;
    say("seconds to open again", format!("{:.2}", started.elapsed().as_secs_f64()));
    say("MB resident after opening", status_mb("VmRSS:")?);
    look_up(&ledger, count)?;
    say("MB resident, at most in all", status_mb("VmHWM:")?);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the example is for")]
fn say(what: &str, value: impl std::fmt::Display) {
    println!("{what:38} {value}");
}

struct Run {
    seconds: f64,
    cpu_seconds: f64,
    flush_ms_max: f64,
    flush_ms_p99: f64,
    disk_bytes_max: u64,
}

/// Version 4 UUIDs, the same in every run.
fn id(n: u64) -> String {
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    };
    let high = mix(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let low = mix(high ^ 0x6A09_E667_F3BC_C909);
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFF,
        low >> 52,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// Appends everything that happens, in the order of a log where messages are settled some time
/// after they are published.
fn append(
    ledger: &Ledger,
    count: u64,
    per_message: u64,
    directory: &Path,
) -> Result<Run, Box<dyn Error>> {
    let (started, cpu_started) = (Instant::now(), cpu_seconds()?);
    let mut flushes_ms = Vec::new();
    let mut making = 0.0;
    let mut disk_bytes_max = 0;
    let mut ids = std::collections::VecDeque::new();
    let mut at = Cursor::default();
    let mut step = |time_ms, id, what: What<'_>| {
        at = Cursor { position: at.position + RECORD_BYTES / per_message, nth: 0 };
        ledger.append(&Event { at, id, time_ms, what });
        at.position
    };
    for n in 0..count + UNDER_WAY {
        let time_ms = START_MS + n / 100;
        let mut position = 0;
        if n < count {
            let name = id(n);
            let hash = IdHash::new("/", &name);
            position = step(time_ms, hash, published(&name));
            if per_message > 2 {
                position = step(time_ms, hash, delivered(1));
            }
            ids.push_back((hash, name, time_ms));
        }
        if n >= UNDER_WAY
            && let Some((hash, name, published_at_ms)) = ids.pop_front()
        {
            if per_message > 4 {
                let (queue, retry_at_ms) = ("orders".into(), 0);
                step(time_ms, hash, What::Requeued { queue, attempt: 1, retry_at_ms });
                step(time_ms, hash, delivered(2));
            }
            position = step(time_ms, hash, settled(&name, published_at_ms));
            if per_message == 4 {
                position = step(time_ms, hash, What::Received { queue: "orders".into() });
            }
        }
        if n % FLUSH_MESSAGES == FLUSH_MESSAGES - 1 || n + 1 == count + UNDER_WAY {
            let begun = Instant::now();
            ledger.flush(position + 1, time_ms)?;
            flushes_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
            let begun = Instant::now();
            disk_bytes_max = disk_bytes_max.max(disk_bytes(directory)?);
            making += begun.elapsed().as_secs_f64();
        }
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds()? - cpu_started);
    // The cost of making the events is not the ledger's.
    let begun = cpu_seconds()?;
    let mut sum = 0;
    for n in 0..count {
        let name = id(n);
        sum += std::hint::black_box(IdHash::new("/", &name)).0 as u64 % 3;
    }
    std::hint::black_box(sum);
    let made = cpu_seconds()? - begun;
    flushes_ms.sort_by(f64::total_cmp);
    Ok(Run {
        seconds: seconds - making,
        cpu_seconds: cpu - made - making,
        flush_ms_max: flushes_ms.last().copied().unwrap_or_default(),
        flush_ms_p99: flushes_ms.get(flushes_ms.len() * 99 / 100).copied().unwrap_or_default(),
        disk_bytes_max,
    })
}

fn published(id: &str) -> What<'_> {
    What::Published(Published {
        vhost: "/".into(),
        id: BStr::new(id).into(),
        routing_key: BStr::new("orders").into(),
        queues: vec![PublishedQueue { id: 7, name: QUEUE.into() }],
        body_bytes: 512,
        is_deduplicated: true,
        ..Published::default()
    })
}

fn delivered(attempt: u16) -> What<'static> {
    What::Delivered { queue: "orders".into(), worker: "10.0.0.7:40118 (1)".into(), attempt }
}

fn settled(id: &str, published_at_ms: u64) -> What<'_> {
    What::Settled(Box::new(Settled {
        vhost: "/".into(),
        queue: "orders".into(),
        verdict: Verdict {
            outcome: Outcome::Processed,
            reason: Some(Reason::Acked),
            attempts: 1,
            queue_count: 1,
            published_at_ms,
            flags: Flags::NOTIFIED,
        },
        details: Details {
            message_id: BStr::new(id).into(),
            worker: "10.0.0.7:40118 (1)".into(),
            ..Details::default()
        },
        message: None,
    }))
}

fn look_up(ledger: &Ledger, count: u64) -> Result<(), Box<dyn Error>> {
    const ASKED: u64 = 200_000;
    let hash = |n: u64| IdHash::new("/", id(n));
    let known: Vec<_> = (0..ASKED).map(|n| hash(n * 7919 % count)).collect();
    let unknown: Vec<_> = (0..ASKED).map(|n| hash(count + n)).collect();
    let seen = |ids: &[IdHash]| -> Result<(u64, f64), Box<dyn Error>> {
        let begun = Instant::now();
        let mut found = 0;
        for id in ids {
            found += u64::from(ledger.first_seen(dedup_key(*id, QUEUE))?.is_some());
        }
        Ok((found, begun.elapsed().as_secs_f64() * 1e6 / ids.len() as f64))
    };
    let (found, us) = seen(&unknown)?;
    say("window: us for an unknown id", format!("{us:.2} (found {found})"));
    let (found, us) = seen(&known)?;
    say("window: us for a known id", format!("{us:.2} (found {found} of {ASKED})"));
    for (name, ids) in [("unknown", &unknown), ("known", &known)] {
        let ids = &ids[..ASKED as usize / 50];
        let begun = Instant::now();
        let mut found = 0;
        for id in ids {
            found += ledger.events(*id)?.len();
        }
        let us = begun.elapsed().as_secs_f64() * 1e6 / ids.len() as f64;
        let what = format!("events: us for an {name} id");
        say(&what, format!("{us:.1} ({:.2} found each)", found as f64 / ids.len() as f64));
    }
    Ok(())
}

fn disk_bytes(directory: &Path) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

fn by_kind(directory: &Path) -> Result<(), Box<dyn Error>> {
    for (what, prefix, suffix) in
        [("pages", "", ".log"), ("index", "index", ".run"), ("window", "window", ".run")]
    {
        let mut bytes = 0;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && name.ends_with(suffix) {
                bytes += entry.metadata()?.len();
            }
        }
        say(&format!("  of it {what}, MB"), bytes / 1_000_000);
    }
    Ok(())
}

fn status_mb(field: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0 kB");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024 / 1_000_000)
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).map_or(Ok(0.0), |field: &&str| field.parse::<f64>());
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
