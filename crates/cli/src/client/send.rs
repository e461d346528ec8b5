//! `wilco send`.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use wilco::{Outcome, Producer, Queue, Raw};

use super::progress::Progress;
use super::{connect, failure};
use crate::arguments::SendArguments;
use crate::failure::Failure;
use crate::output;
use crate::visible::visible;

/// Messages read and not sent.
const READ_AHEAD: usize = 100;
/// Messages on their way to the broker's disk at a time.
const UNDER_WAY_MAX: usize = 500;
/// Failures that are listed at the end.
const LISTED_MAX: usize = 100;

type Bytes = Vec<u8>;

/// A message on its way to the broker's disk.
type Sent = <wilco::Sending<Bytes, Raw> as IntoFuture>::IntoFuture;

/// What became of a message.
struct Told {
    /// Which of several, from 1 on.
    line: u64,
    id: String,
    outcome: Outcome<Bytes, Raw>,
}

pub(super) async fn run(arguments: &SendArguments) -> Result<(), Failure> {
    let bodies = bodies(arguments)?;
    let wilco = connect(&arguments.remote).await?;
    let queue: Queue<Bytes, Bytes, Raw> = Queue::named(&arguments.queue);
    let mut producer = wilco.producer(queue);
    if let Some(deadline) = arguments.deadline {
        producer = producer.deadline(deadline);
    }
    let producer = producer.build().await.map_err(failure)?;
    let done = match arguments.wait {
        true => send_and_wait(arguments, &producer, bodies).await,
        false => send(arguments, &producer, bodies).await,
    };
    wilco.close().await;
    done
}

/// The messages, as they are read: by a thread of its own, since reading blocks.
type Bodies = mpsc::Receiver<Result<Bytes, Failure>>;

fn bodies(arguments: &SendArguments) -> Result<Bodies, Failure> {
    let (sender, bodies) = mpsc::channel(READ_AHEAD);
    let put = move |body| sender.blocking_send(body).is_ok();
    if let Some(body) = arguments.body.clone() {
        std::thread::spawn(move || put(Ok(body.into_bytes())));
    } else if let Some(path) = arguments.lines.clone() {
        let lines = BufReader::new(open(&path)?);
        std::thread::spawn(move || read_lines(&path, lines, put));
    } else {
        let path = arguments.file.clone().unwrap_or_else(|| PathBuf::from("-"));
        if arguments.file.is_none() && std::io::stdin().is_terminal() {
            let text = "there is no message: give it as an argument, with --file or --lines, or on \
                        standard input";
            return Err(Failure::Usage(text.to_owned()));
        }
        let mut file = open(&path)?;
        std::thread::spawn(move || {
            let mut body = Vec::new();
            let read = file.read_to_end(&mut body);
            put(read.map(|_| body).map_err(|error| cannot_read(&path, &error)))
        });
    }
    Ok(bodies)
}

fn read_lines(path: &Path, mut lines: impl BufRead, put: impl Fn(Result<Bytes, Failure>) -> bool) {
    loop {
        let mut line = Vec::new();
        let body = match lines.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                if line.ends_with(b"\n") {
                    line.pop();
                }
                Ok(line)
            }
            Err(error) => Err(cannot_read(path, &error)),
        };
        if body.is_err() | !put(body) {
            return;
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    Ok(Box::new(File::open(path).map_err(|error| cannot_read(path, &error))?))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Runtime(format!("cannot read {}: {error}", path.display()))
}

/// Sends, and prints the id of each message, in order, once it is on the broker's disk.
async fn send(
    arguments: &SendArguments,
    producer: &Producer<Bytes, Bytes, Raw>,
    mut bodies: Bodies,
) -> Result<(), Failure> {
    // Polled first in the order in which they came, so they are stored in it.
    let mut under_way: FuturesOrdered<Sent> = FuturesOrdered::new();
    let mut is_over = false;
    while !is_over || !under_way.is_empty() {
        let may_read = !is_over && under_way.len() < UNDER_WAY_MAX;
        tokio::select! {
            Some(sent) = under_way.next() => {
                let receipt = sent.map_err(failure)?;
                match arguments.remote.json {
                    true => output::line(&json!({ "id": receipt.id() }).to_string())?,
                    false => output::line(receipt.id())?,
                }
            }
            body = bodies.recv(), if may_read => match body {
                Some(body) => {
                    let message = message(arguments, producer, &body?);
                    under_way.push_back(message.into_future());
                }
                None => is_over = true,
            },
        }
    }
    Ok(())
}

fn message(
    arguments: &SendArguments,
    producer: &Producer<Bytes, Bytes, Raw>,
    body: &Bytes,
) -> wilco::Sending<Bytes, Raw> {
    let mut message = producer.send(body);
    if let Some(id) = &arguments.id {
        message = message.id(id);
    }
    for (name, value) in &arguments.headers {
        message = message.header(name, value);
    }
    message
}

/// What became of those that are done.
#[derive(Default)]
struct Tally {
    processed: u64,
    not_processed: u64,
    /// Line, id, and why.
    listed: Vec<(u64, String, String)>,
}

/// Sends, and waits until it is known what became of each.
async fn send_and_wait(
    arguments: &SendArguments,
    producer: &Producer<Bytes, Bytes, Raw>,
    mut bodies: Bodies,
) -> Result<(), Failure> {
    let (told, mut hear) = mpsc::unbounded_channel();
    let total = arguments.lines.is_none().then_some(1);
    let progress = Progress::new(total, arguments.lines.is_some());
    let mut tally = Tally::default();
    let mut under_way: FuturesUnordered<Sent> = FuturesUnordered::new();
    let mut is_over = false;
    let mut line = 0;
    // Each callback holds a sender: the channel ends with the last outcome.
    let mut told = Some(told);
    loop {
        let may_read = !is_over && under_way.len() < UNDER_WAY_MAX;
        tokio::select! {
            outcome = hear.recv() => match outcome {
                Some(outcome) => tally.take(arguments, &progress, outcome)?,
                None => break,
            },
            Some(sent) = under_way.next() => drop(sent.map_err(failure)?),
            body = bodies.recv(), if may_read => match (body, &told) {
                (Some(body), Some(told)) => {
                    let told = told.clone();
                    line += 1;
                    let message = message(arguments, producer, &body?);
                    let message = message.on_outcome(move |id, outcome| {
                        // Nobody listens any more once something went wrong.
                        let _ = told.send(Told { line, id: id.to_owned(), outcome });
                    });
                    under_way.push(message.into_future());
                }
                _ => {
                    is_over = true;
                    told = None;
                }
            },
        }
    }
    // What was not even sent has no outcome.
    while let Some(sent) = under_way.next().await {
        sent.map_err(failure)?;
    }
    progress.finish();
    tally.verdict(arguments)
}

impl Tally {
    fn take(
        &mut self,
        arguments: &SendArguments,
        progress: &Progress,
        Told { line, id, outcome }: Told,
    ) -> Result<(), Failure> {
        if outcome.is_processed() {
            self.processed += 1;
        } else {
            self.not_processed += 1;
            if self.listed.len() < LISTED_MAX {
                self.listed.push((line, id.clone(), outcome.to_string()));
            }
        }
        progress.show(self.processed, self.not_processed);
        if arguments.remote.json {
            let line = arguments.lines.is_some().then_some(line);
            let line = as_json(line, &id, &outcome).map_err(Failure::runtime)?;
            return progress.suspend(|| output::line(&line));
        }
        // Of one message the result, as a command's output; of many the count.
        match outcome {
            Outcome::Processed(done) if arguments.lines.is_none() && !done.body().is_empty() => {
                output::bytes(done.body())?;
                // A terminal wants whole lines; whoever reads the result wants nothing but it.
                match std::io::stdout().is_terminal() && !done.body().ends_with(b"\n") {
                    true => output::line(""),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn verdict(self, arguments: &SendArguments) -> Result<(), Failure> {
        let Self { processed, not_processed, listed } = self;
        if arguments.lines.is_some() && !arguments.remote.json {
            for (line, id, why) in &listed {
                output::line(&visible(&format!("line {line}  {id}  {why}")))?;
            }
            let more = not_processed - listed.len() as u64;
            if more > 0 {
                output::line(&format!("and {more} more"))?;
            }
            output::line(&format!("{processed} processed, {not_processed} not"))?;
        }
        match (not_processed, &listed[..]) {
            (0, _) => Ok(()),
            (1, [(_, id, why)]) => Err(Failure::Runtime(format!("message {id}: {why}"))),
            (count, _) => Err(Failure::Runtime(format!("{count} messages were not processed"))),
        }
    }
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    id: &'a str,
    outcome: &'a str,
    error: Option<&'a str>,
    result: Option<ResultJson<'a>>,
    attempts: u16,
}

/// JSON as it is, anything else as text.
#[derive(Serialize)]
#[serde(untagged)]
enum ResultJson<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

fn as_json(
    line: Option<u64>,
    id: &str,
    outcome: &Outcome<Bytes, Raw>,
) -> serde_json::Result<String> {
    let (result, error) = match outcome {
        Outcome::Processed(done) => (Some(&done.body()[..]), None),
        Outcome::Failed(failed) => (None, Some(failed.error.as_str())),
        _ => (None, None),
    };
    let result = result.filter(|body| !body.is_empty()).map(|body| {
        // On one line, as everything here.
        let json = serde_json::from_slice(body).ok();
        let json = json.filter(|json: &&RawValue| !json.get().contains('\n'));
        json.map_or_else(|| ResultJson::Text(String::from_utf8_lossy(body)), ResultJson::Json)
    });
    let attempts = outcome.details().attempts;
    serde_json::to_string(&Line { line, id, outcome: outcome.name(), error, result, attempts })
}
