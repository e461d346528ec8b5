//! What has become of the messages, and what is printed of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use wilco::{Error, ErrorKind, Outcome, Raw};

use crate::arguments::SendArguments;
use crate::client::failure;
use crate::client::progress::Progress;
use crate::failure::Failure;
use crate::output;
use crate::visible::visible;

/// Failures that are listed at the end.
const LISTED_MAX: usize = 100;

type Bytes = Vec<u8>;

/// What became of a message.
pub(super) struct Told {
    pub(super) line: u64,
    pub(super) id: String,
    pub(super) outcome: Outcome<Bytes, Raw>,
}

/// See the module's documentation.
pub(super) struct Report<'a> {
    arguments: &'a SendArguments,
    progress: Progress,
    processed: u64,
    not_processed: u64,
    not_sent: u64,
    /// Those of which more is to come, by their lines.
    open: BTreeMap<u64, String>,
    /// Line, id, and why.
    listed: Vec<(u64, String, String)>,
    /// Why no more are sent.
    stopped: Option<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(arguments: &'a SendArguments) -> Self {
        let has_lines = arguments.lines.is_some();
        let total = (!has_lines).then_some(1);
        Self {
            arguments,
            progress: Progress::new(total, has_lines && arguments.wait),
            processed: 0,
            not_processed: 0,
            not_sent: 0,
            open: BTreeMap::new(),
            listed: Vec::new(),
            stopped: None,
        }
    }

    /// A message is on its way.
    pub(super) fn begun(&mut self, line: u64, id: &str) {
        self.open.insert(line, id.to_owned());
    }

    /// The broker has it.
    pub(super) fn stored(&mut self, line: u64, id: &str) -> Result<(), Failure> {
        if self.arguments.wait {
            return Ok(());
        }
        self.open.remove(&line);
        match self.arguments.remote.json {
            true => output::line(&json!({ "id": id }).to_string()),
            false => output::line(id),
        }
    }

    /// It was not even sent. Of one message that is all there is to say; of several, the others are told, and
    /// whether more are sent depends on whose fault it is.
    pub(super) fn not_sent(&mut self, line: u64, id: &str, error: Error) -> Result<(), Failure> {
        self.open.remove(&line);
        if self.arguments.lines.is_none() {
            return Err(failure(error));
        }
        let is_its_own = matches!(
            error.kind(),
            ErrorKind::TooLarge | ErrorKind::Refused | ErrorKind::Invalid | ErrorKind::Codec
        );
        if !is_its_own && self.stopped.is_none() {
            self.stopped = Some(error.to_string());
        }
        self.note_not_sent(line, id, &error.to_string())
    }

    /// It could not be read.
    pub(super) fn unread(&mut self, line: u64, why: &str) -> Result<(), Failure> {
        match self.arguments.lines.is_none() {
            true => Err(Failure::Runtime(format!("the message cannot be sent: {why}"))),
            false => self.note_not_sent(line, "", why),
        }
    }

    fn note_not_sent(&mut self, line: u64, id: &str, why: &str) -> Result<(), Failure> {
        self.not_sent += 1;
        if self.arguments.remote.json {
            let text = match self.arguments.wait {
                true => as_json(Some(line), id, None, Some(why)).map_err(Failure::runtime)?,
                false => json!({ "line": line, "id": id, "error": why }).to_string(),
            };
            return self.progress.suspend(|| output::line(&text));
        }
        if self.arguments.wait {
            self.list(line, id, format!("not sent: {why}"));
        } else {
            complain(&format!("line {line}: {why}"));
        }
        Ok(())
    }

    /// Whether no more are to be sent.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Nothing more can be read.
    pub(super) fn stop(&mut self, why: &Failure) {
        let (Failure::Usage(text) | Failure::Runtime(text)) = why else { return };
        self.stopped = Some(text.clone());
    }

    fn list(&mut self, line: u64, id: &str, why: String) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push((line, id.to_owned(), why));
        }
    }

    /// It is known what became of it.
    pub(super) fn told(&mut self, Told { line, id, outcome }: Told) -> Result<(), Failure> {
        self.open.remove(&line);
        if outcome.is_processed() {
            self.processed += 1;
        } else {
            self.not_processed += 1;
            self.list(line, &id, outcome.to_string());
        }
        self.progress.show(self.processed, self.not_processed);
        let has_lines = self.arguments.lines.is_some();
        if self.arguments.remote.json {
            let line = has_lines.then_some(line);
            let line = as_json(line, &id, Some(&outcome), None).map_err(Failure::runtime)?;
            return self.progress.suspend(|| output::line(&line));
        }
        // Of one message the result, as a command's output; of many the count.
        match outcome {
            Outcome::Processed(done) if !has_lines && !done.body().is_empty() => {
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

    /// All is known.
    pub(super) fn finish(self) -> Result<(), Failure> {
        self.progress.finish();
        self.summary()?;
        let Self { not_processed, not_sent, listed, stopped, .. } = self;
        if let Some(why) = stopped {
            let text = format!("what follows was not sent: {why}");
            return Err(Failure::Runtime(text));
        }
        match (not_sent, not_processed, &listed[..]) {
            (0, 0, _) => Ok(()),
            (0, 1, [(_, id, why)]) => Err(Failure::Runtime(format!("message {id}: {why}"))),
            (0, count, _) => Err(Failure::Runtime(format!("{count} messages were not processed"))),
            (count, 0, _) => Err(Failure::Runtime(format!("{count} messages were not sent"))),
            (_, count, _) => Err(Failure::Runtime(format!(
                "{not_sent} messages were not sent, and {count} not processed"
            ))),
        }
    }

    /// Somebody does not want to wait any longer: what is known is told, and which messages are under way, so
    /// that they can be asked for.
    pub(super) fn interrupted(mut self) -> Result<(), Failure> {
        self.progress.finish();
        let (is_waiting, has_lines) = (self.arguments.wait, self.arguments.lines.is_some());
        let open = std::mem::take(&mut self.open);
        if self.arguments.remote.json {
            for (line, id) in &open {
                let line = has_lines.then_some(*line);
                output::line(&as_json(line, id, None, None).map_err(Failure::runtime)?)?;
            }
        } else if has_lines && is_waiting {
            let count = open.len();
            for (line, id) in open.into_iter().take(LISTED_MAX) {
                output::line(&visible(&format!("line {line}  {id}  not known yet")))?;
            }
            output::line(&format!("{count} not known yet"))?;
            self.summary()?;
        } else {
            let what = if is_waiting { "is under way" } else { "may have been sent" };
            for id in open.values().take(LISTED_MAX) {
                complain(&format!("message {id} {what}: see wilco status {id}"));
            }
        }
        Err(Failure::Interrupted)
    }

    fn summary(&self) -> Result<(), Failure> {
        if !self.arguments.wait || self.arguments.lines.is_none() || self.arguments.remote.json {
            return Ok(());
        }
        for (line, id, why) in &self.listed {
            output::line(&visible(&format!("line {line}  {id}  {why}")))?;
        }
        let Self { processed, not_processed, not_sent, listed, .. } = self;
        let more = not_processed + not_sent - listed.len() as u64;
        if more > 0 {
            output::line(&format!("and {more} more"))?;
        }
        match not_sent {
            0 => output::line(&format!("{processed} processed, {not_processed} not")),
            _ => output::line(&format!(
                "{processed} processed, {not_processed} not, {not_sent} not sent"
            )),
        }
    }
}

/// Says something beside the output.
fn complain(text: &str) {
    // If standard error is closed, nobody is left to be told.
    let _ = writeln!(std::io::stderr().lock(), "wilco: {}", visible(text));
}

/// A line of JSON. Without an outcome, it is not known, or the message was not sent: `error` says that.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    id: &'a str,
    outcome: Option<&'a str>,
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
    outcome: Option<&Outcome<Bytes, Raw>>,
    error: Option<&str>,
) -> serde_json::Result<String> {
    let (result, error) = match outcome {
        Some(Outcome::Processed(done)) => (Some(&done.body()[..]), None),
        Some(Outcome::Failed(failed)) => (None, Some(failed.error.as_str())),
        _ => (None, error),
    };
    let result = result.filter(|body| !body.is_empty()).map(|body| {
        // On one line, as everything here.
        let json = serde_json::from_slice(body).ok();
        let json = json.filter(|json: &&RawValue| !json.get().contains('\n'));
        json.map_or_else(|| ResultJson::Text(String::from_utf8_lossy(body)), ResultJson::Json)
    });
    let attempts = outcome.map_or(0, |outcome| outcome.details().attempts);
    let outcome = outcome.map(Outcome::name);
    serde_json::to_string(&Line { line, id, outcome, error, result, attempts })
}
