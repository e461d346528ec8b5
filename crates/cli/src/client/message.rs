//! `wilco status`, `retry`, `cancel`: one message by its id.

use serde_json::json;
use wilco::{Outcome, Raw};

use super::{connect, failure};
use crate::arguments::{MessageArguments, Remote};
use crate::failure::Failure;
use crate::output;
use crate::visible::visible;

pub(super) async fn status(id: &str, remote: &Remote) -> Result<(), Failure> {
    let wilco = connect(remote).await?;
    let story = wilco.look_up(id).await.map_err(failure)?;
    wilco.close().await;
    let Some(story) = story else {
        let text = format!("nothing is known of a message {id} that this user may know");
        return Err(Failure::Runtime(text));
    };
    if remote.json {
        return output::line(&String::from_utf8_lossy(story.json()));
    }
    let rows: Vec<Vec<String>> = story
        .queues()
        .iter()
        .map(|it| {
            let outcome: Option<Outcome<Vec<u8>, Raw>> = it.outcome();
            let state = outcome.map_or_else(|| it.stage.name().to_owned(), |it| it.to_string());
            let cells = [it.queue.clone(), it.attempts.to_string(), it.worker.clone(), state];
            cells.iter().map(|cell| visible(cell)).collect()
        })
        .collect();
    output::table(&["QUEUE", "ATTEMPTS", "WORKER", "STATE"], &rows)
}

pub(super) async fn retry(arguments: &MessageArguments) -> Result<(), Failure> {
    let MessageArguments { id, queue, remote } = arguments;
    let wilco = connect(remote).await?;
    wilco.retry(id, queue.as_deref()).await.map_err(failure)?;
    wilco.close().await;
    done(remote, id, "is tried again")
}

pub(super) async fn cancel(arguments: &MessageArguments) -> Result<(), Failure> {
    let MessageArguments { id, queue, remote } = arguments;
    let wilco = connect(remote).await?;
    wilco.cancel(id, queue.as_deref()).await.map_err(failure)?;
    wilco.close().await;
    done(remote, id, "cancelled")
}

fn done(remote: &Remote, id: &str, what: &str) -> Result<(), Failure> {
    match remote.json {
        true => output::line(&json!({ "id": id }).to_string()),
        false => output::line(&format!("message {id} {what}")),
    }
}
