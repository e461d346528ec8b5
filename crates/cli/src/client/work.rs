//! `wilco work`: a process for each message.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wilco::{Backoff, Context, Failure as WorkFailure, Queue, Raw};

use super::progress::Progress;
use super::{connect_patiently, failure};
use crate::arguments::WorkArguments;
use crate::failure::Failure;
use crate::output;

/// `EX_TEMPFAIL` of sysexits.h.
const NOT_NOW: i32 = 75;
/// What is kept of standard output and of standard error: as much as an outcome can hold.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How long to wait before a command that could not be run is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long what a command has printed is read after its end, if somebody whom it has started still has its
/// output open.
const READ_ON: Duration = Duration::from_millis(100);
/// How often the counts on a terminal are shown anew.
const SHOW_EVERY: Duration = Duration::from_millis(100);

type Bytes = Vec<u8>;

#[derive(Default)]
struct Counts {
    processed: AtomicU64,
    not_processed: AtomicU64,
}

pub(super) async fn run(arguments: &WorkArguments) -> Result<(), Failure> {
    check_command(arguments)?;
    let wilco = connect_patiently(&arguments.remote).await?;
    let queue: Queue<Bytes, Bytes, Raw> = Queue::named(&arguments.queue);
    let counts = Arc::new(Counts::default());
    let handler = {
        let (counts, command) = (Arc::clone(&counts), Arc::new(arguments.command.clone()));
        move |body: Bytes, context: Context| {
            let (counts, command) = (Arc::clone(&counts), Arc::clone(&command));
            async move {
                let done = run_command(&command, body, &context).await;
                let count = if done.is_ok() { &counts.processed } else { &counts.not_processed };
                count.fetch_add(1, Ordering::Relaxed);
                done
            }
        }
    };
    let mut worker = wilco.worker().handle(queue, handler);
    if let Some(timeout) = arguments.timeout {
        worker = worker.timeout(timeout);
    }
    let worker = worker
        .concurrency(arguments.concurrency)
        .attempts(arguments.attempts, Backoff::exponential(arguments.backoff))
        .grace(arguments.grace)
        .until(told_to_stop());
    // The second signal: what has begun is killed with the tasks that wait for it.
    let at_once = async {
        told_to_stop().await;
        told_to_stop().await;
    };
    let progress = Progress::new(None, true);
    let show = async {
        loop {
            let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
            progress.show(count(&counts.processed), count(&counts.not_processed));
            tokio::time::sleep(SHOW_EVERY).await;
        }
    };
    let report = tokio::select! {
        report = worker => report.map_err(failure)?,
        () = at_once => return Err(Failure::Interrupted),
        () = show => unreachable!("it is shown until the worker ends"),
    };
    progress.finish();
    wilco.close().await;
    if arguments.remote.json {
        let report = serde_json::json!({
            "processed": report.processed,
            "failed": report.failed,
            "retried": report.retried,
            "given_back": report.given_back,
        });
        return output::line(&report.to_string());
    }
    output::line(&report.to_string())
}

async fn run_command(
    command: &[std::ffi::OsString],
    body: Bytes,
    context: &Context,
) -> Result<Bytes, WorkFailure> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| WorkFailure::permanent("there is no command"))?;
    let headers = context.headers().map(|(name, value)| (variable(name), value.replace('\0', "")));
    let headers: Vec<_> = headers.collect();
    let start = || {
        Command::new(program)
            .args(arguments)
            .env("WILCO_ID", context.id().replace('\0', ""))
            .env("WILCO_QUEUE", context.queue())
            .env("WILCO_ATTEMPT", context.attempt().to_string())
            .envs(headers.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: what has begun may finish.
            .process_group(0)
            .spawn()
    };
    let mut child = loop {
        match start() {
            Ok(child) => break child,
            // No fault of the message's: it waits here until the command can be run.
            Err(error) => {
                let program = program.to_string_lossy();
                tracing::warn!("cannot run {program}, and tries again: {error}");
                tokio::select! {
                    () = tokio::time::sleep(TRY_AGAIN) => {}
                    () = context.stopping() => {
                        return Err(WorkFailure::retry(format!("cannot run {program}: {error}")));
                    }
                }
            }
        }
    };
    // What takes too long, or longer than the grace time, ends with all it has started.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command may well not read all of it, or none.
            let _ = stdin.write_all(&body).await;
        }
    };
    let (mut printed, mut error) = (Printed::default(), Printed::default());
    let status = {
        let talk = async { tokio::join!(write, printed.read(stdout), error.read(stderr)) };
        let mut talk = std::pin::pin!(talk.fuse());
        // Its end says what became of the message, whoever else has its output open.
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut talk => child.wait().await,
        };
        group.0 = None;
        if !talk.is_terminated() {
            let _ = tokio::time::timeout(READ_ON, talk).await;
        }
        status.map_err(|error| WorkFailure::retry(format!("cannot wait: {error}")))?
    };
    let said = || String::from_utf8_lossy(error.kept.trim_ascii()).into_owned();
    let or_status = |text: String| if text.is_empty() { described(status) } else { text };
    match status.code() {
        Some(0) if printed.bytes > printed.kept.len() => Err(WorkFailure::permanent(format!(
            "it was done, but printed {} bytes, and {OUTPUT_BYTES_MAX} are passed on at most",
            printed.bytes
        ))),
        Some(0) => Ok(printed.kept),
        Some(NOT_NOW) => Err(WorkFailure::retry(or_status(said()))),
        _ => Err(WorkFailure::permanent(or_status(said()))),
    }
}

/// A command's process group, killed when nobody waits for the command any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended just now.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a command has printed.
#[derive(Default)]
struct Printed {
    /// The beginning.
    kept: Vec<u8>,
    /// How much there was.
    bytes: usize,
}

impl Printed {
    /// Reads to the end.
    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            let room = OUTPUT_BYTES_MAX - self.kept.len();
            self.kept.extend_from_slice(&chunk[..count.min(room)]);
            self.bytes += count;
        }
    }
}

/// Completes when the worker is told to stop, also by a terminal that is closed.
async fn told_to_stop() {
    tokio::select! {
        () = wilco::signals() => {}
        () = hung_up() => {}
    }
}

/// Completes with SIGHUP; never if whoever has started this wants it to be ignored, as nohup does.
async fn hung_up() {
    use tokio::signal::unix::{SignalKind, signal};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    if ignored.is_some_and(|mask| mask & 1 != 0) {
        return std::future::pending().await;
    }
    match signal(SignalKind::hangup()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// A command that is not there would fail every message of the queue.
fn check_command(arguments: &WorkArguments) -> Result<(), Failure> {
    let Some(program) = arguments.command.first() else { return Ok(()) };
    let path = Path::new(program);
    let can_be_run = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let is_there = match path.components().count() {
        1 => {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&paths).any(|directory| can_be_run(&directory.join(path)))
        }
        _ => can_be_run(path),
    };
    match is_there {
        true => Ok(()),
        false if path.is_dir() => {
            Err(Failure::Usage(format!("{} is a directory, not a command", path.display())))
        }
        false if path.is_file() => {
            Err(Failure::Usage(format!("{} may not be run: it is not executable", path.display())))
        }
        false => Err(Failure::Usage(format!("there is no command {}", path.display()))),
    }
}

fn described(status: ExitStatus) -> String {
    format!("the command ended with {status}")
}

/// The name of a header as that of a variable.
fn variable(name: &str) -> String {
    let name = name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' });
    format!("WILCO_HEADER_{}", name.collect::<String>().to_ascii_uppercase())
}
