//! What the broker costs: processor time and memory of its process and all its descendants, from
//! `/proc`.

use std::collections::HashMap;
use std::fs;

use serde::Serialize;

/// Clock ticks per second in `/proc/PID/stat`; fixed at 100 in the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// A tree of processes at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) cpu_seconds: f64,
    pub(super) rss_bytes: u64,
    pub(super) rss_peak_bytes: u64,
}

/// What a measured phase cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct PhaseCost {
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_million: Option<f64>,
    pub(super) rss_bytes: u64,
    pub(super) rss_peak_bytes: u64,
}

impl Cost {
    /// Reads the tree below `pid`; `None` if it is gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut cpu = HashMap::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            if let Some((parent, seconds)) = read_stat(id) {
                children.entry(parent).or_default().push(id);
                cpu.insert(id, seconds);
            }
        }
        cpu.get(&pid)?;
        let mut total = Self::default();
        let mut ids = vec![pid];
        while let Some(id) = ids.pop() {
            ids.extend(children.get(&id).into_iter().flatten());
            total.cpu_seconds += cpu.get(&id).copied().unwrap_or(0.0);
            let (rss, peak) = read_memory(id);
            total.rss_bytes += rss;
            total.rss_peak_bytes += peak;
        }
        Some(total)
    }

    /// The load generator itself.
    pub(super) fn own() -> Self {
        Self::read(std::process::id()).unwrap_or_default()
    }

    /// The cost of a phase that ends now and began with `before`.
    pub(super) fn since(&self, before: &Self, messages: f64) -> PhaseCost {
        let cpu_seconds = self.cpu_seconds - before.cpu_seconds;
        PhaseCost {
            cpu_seconds,
            cpu_seconds_per_million: (messages > 0.0).then(|| cpu_seconds / messages * 1e6),
            rss_bytes: self.rss_bytes,
            rss_peak_bytes: self.rss_peak_bytes,
        }
    }
}

/// The parent and the seconds of user and system time.
fn read_stat(pid: u32) -> Option<(u32, f64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may contain anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)?;
    Some((u32::try_from(number(1)?).ok()?, ticks as f64 / TICKS_PER_SECOND))
}

/// Resident bytes, now and at the peak.
fn read_memory(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    (bytes("VmRSS:").unwrap_or(0), bytes("VmHWM:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_counts_the_memory_of_its_children() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let own = Cost::own();
        let childs = Cost::read(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(childs.rss_bytes > 0);
        assert!(own.rss_bytes > childs.rss_bytes);
        assert!(Cost::read(u32::MAX).is_none());
    }
}
