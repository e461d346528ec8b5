//! Runs other programs for a bounded time and keeps their output in a file.
//!
//! Children stay in this program's process group, so Ctrl-C reaches them too.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` if its time was up and it was killed.
    status: Option<ExitStatus>,
    /// Standard output and error, in the order they were written.
    pub(crate) output: String,
}

impl Finished {
    /// Whether it ended by itself with exit code 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, in words.
    pub(crate) fn ending(&self) -> String {
        self.status.map_or_else(|| "killed, its time was up".into(), |status| status.to_string())
    }

    /// The last non-empty line of output, as the short reason for a failure.
    pub(crate) fn last_line(&self) -> &str {
        self.output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output")
    }
}

/// The cargo that runs this task, or else the one on the PATH.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end or to the limit, whichever comes first; the output is also written to `log`.
pub(crate) fn run(command: &mut Command, log: &Path, limit: Duration) -> Result<Finished> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory)?;
    }
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    let status = wait(&mut child, limit)?;
    let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    Ok(Finished { status, output })
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            kill_with_descendants(child.id());
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// A killed cargo or pytest would leave its test binaries and brokers running.
fn kill_with_descendants(id: u32) {
    let mut doomed = vec![id];
    let parents = parents();
    let mut next = 0;
    while let Some(&parent) = doomed.get(next) {
        doomed.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(child, _)| *child));
        next += 1;
    }
    for id in doomed {
        if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // A process that has ended in the meantime need not be killed.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Each process's parent, from /proc.
fn parents() -> HashMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name is in parentheses and may itself contain spaces and parentheses.
            let parent = stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?;
            Some((id, parent.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("xtask-{}-{name}.log", std::process::id()))
    }

    #[test]
    fn output_and_exit_code_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let log = log("kept");
        let finished = run(&mut command, &log, Duration::from_secs(10)).unwrap();
        fs::remove_file(log).unwrap();
        assert!(!finished.succeeded());
        assert_eq!(finished.output, "out\nerr\n");
        assert_eq!(finished.last_line(), "err");
    }

    #[test]
    fn program_past_its_time_is_killed_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!; wait"]);
        let log = log("late");
        let finished = run(&mut command, &log, Duration::from_millis(500)).unwrap();
        fs::remove_file(log).unwrap();
        assert!(!finished.succeeded());
        let grandchild: u32 = finished.output.trim().parse().unwrap();
        let start = Instant::now();
        // A killed process that nobody waits for lingers as a zombie, whose state is `Z`.
        while fs::read_to_string(format!("/proc/{grandchild}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(start.elapsed() < Duration::from_secs(5), "the grandchild still runs");
            std::thread::sleep(POLL);
        }
    }
}
