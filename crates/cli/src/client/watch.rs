//! `wilco watch`: what becomes of everybody's messages, a line each.

use std::io::IsTerminal;

use jiff::Timestamp;
use serde_json::json;
use wilco::{Outcome, Raw};

use super::{connect_patiently, failure};
use crate::arguments::WatchArguments;
use crate::failure::Failure;
use crate::output;
use crate::visible::visible;

pub(super) async fn run(arguments: &WatchArguments) -> Result<(), Failure> {
    let WatchArguments { queue, failures, remote } = arguments;
    let wilco = connect_patiently(remote).await?;
    let mut watch = wilco.watch(queue.as_deref()).await.map_err(failure)?;
    let is_coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut stop = std::pin::pin!(wilco::signals());
    loop {
        let outcome = tokio::select! {
            outcome = watch.next() => outcome.map_err(failure)?,
            () = &mut stop => break,
        };
        let Some(outcome) = outcome else { break };
        if *failures && outcome.is_processed() {
            continue;
        }
        match remote.json {
            true => output::line(&as_json(&outcome))?,
            false => output::line(&as_line(&outcome, is_coloured))?,
        }
        // Nobody reads any more.
        if output::is_closed() {
            break;
        }
    }
    // Else it is gone by itself.
    let _ = watch.close().await;
    wilco.close().await;
    Ok(())
}

/// Time, queue, id, outcome and why, in columns that are wide enough for most.
fn as_line(outcome: &Outcome<Vec<u8>, Raw>, is_coloured: bool) -> String {
    let details = outcome.details();
    let at = Timestamp::try_from(details.settled_at).unwrap_or_default();
    let at = at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string();
    let queue = if details.queue.is_empty() { "-" } else { details.queue.as_str() };
    let text = visible(&outcome.to_string());
    let text = match (is_coloured, outcome) {
        (false, _) => text,
        (true, Outcome::Processed(_)) => format!("\x1b[32m{text}\x1b[0m"),
        (true, Outcome::Failed(_)) => format!("\x1b[31m{text}\x1b[0m"),
        (true, _) => format!("\x1b[33m{text}\x1b[0m"),
    };
    format!("{at}  {:20}  {:36}  {text}", visible(queue), visible(&details.id))
}

fn as_json(outcome: &Outcome<Vec<u8>, Raw>) -> String {
    let details = outcome.details();
    let at = Timestamp::try_from(details.settled_at).unwrap_or_default();
    let error = match outcome {
        Outcome::Failed(failed) => Some(failed.error.as_str()),
        _ => None,
    };
    json!({
        "at": at.to_string(),
        "queue": details.queue,
        "id": details.id,
        "outcome": outcome.name(),
        "reason": details.reason,
        "error": error,
        "attempts": details.attempts,
        "late": details.is_late,
        "worker": details.worker,
    })
    .to_string()
}
