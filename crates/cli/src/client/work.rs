//! `wilco work`: a process for each message.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wilco::{Backoff, Context, Failure as WorkFailure, Queue, Raw};

use super::progress::Progress;
use super::{connect, failure};
use crate::arguments::WorkArguments;
use crate::failure::Failure;
use crate::output;

/// `EX_TEMPFAIL` of sysexits.h.
const NOT_NOW: i32 = 75;
/// What is kept of standard output and of standard error: as much as an outcome can hold.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How often the counts on a terminal are shown anew.
const SHOW_EVERY: Duration = Duration::from_millis(100);

type Bytes = Vec<u8>;

#[derive(Default)]
struct Counts {
    processed: AtomicU64,
    not_processed: AtomicU64,
}

pub(super) async fn run(arguments: &WorkArguments) -> Result<(), Failure> {
    let wilco = connect(&arguments.remote).await?;
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
        .until(wilco::signals());
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
    let mut child = Command::new(program)
        .args(arguments)
        .env("WILCO_ID", context.id().replace('\0', ""))
        .env("WILCO_QUEUE", context.queue())
        .env("WILCO_ATTEMPT", context.attempt().to_string())
        .envs(headers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for us: what has begun may finish.
        .process_group(0)
        .spawn()
        .map_err(|error| {
            WorkFailure::retry(format!("cannot run {}: {error}", program.to_string_lossy()))
        })?;
    // What takes too long, or longer than the grace time, ends with all it has started.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command may well not read all of it, or none.
            let _ = stdin.write_all(&body).await;
        }
    };
    let ((), result, error, status) = tokio::join!(write, kept(stdout), kept(stderr), child.wait());
    group.0 = None;
    let status = status.map_err(|error| WorkFailure::retry(format!("cannot wait: {error}")))?;
    let said = || String::from_utf8_lossy(error.trim_ascii()).into_owned();
    let or_status = |text: String| if text.is_empty() { described(status) } else { text };
    match status.code() {
        Some(0) => Ok(result),
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

/// Reads to the end, and keeps the beginning.
async fn kept(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..count.min(room)]);
    }
    kept
}

fn described(status: ExitStatus) -> String {
    format!("the command ended with {status}")
}

/// The name of a header as that of a variable.
fn variable(name: &str) -> String {
    let name = name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' });
    format!("WILCO_HEADER_{}", name.collect::<String>().to_ascii_uppercase())
}
