//! `wilco queue declare|purge|delete`.

use serde_json::json;

use super::{connect, failure};
use crate::arguments::{QueueCommand, Remote};
use crate::failure::Failure;
use crate::output;

pub(super) async fn run(command: &QueueCommand) -> Result<(), Failure> {
    let (name, remote) = match command {
        QueueCommand::Declare { name, remote }
        | QueueCommand::Purge { name, remote }
        | QueueCommand::Delete { name, remote } => (name, remote),
    };
    let wilco = connect(remote).await?;
    match command {
        QueueCommand::Declare { .. } => {
            wilco.declare_queue(name).await.map_err(failure)?;
            done(remote, name, "is there", None)?;
        }
        QueueCommand::Purge { .. } => {
            let messages = wilco.purge_queue(name).await.map_err(failure)?;
            done(remote, name, "purged", Some(messages))?;
        }
        QueueCommand::Delete { .. } => {
            let messages = wilco.delete_queue(name).await.map_err(failure)?;
            done(remote, name, "deleted", Some(messages))?;
        }
    }
    wilco.close().await;
    Ok(())
}

fn done(remote: &Remote, name: &str, what: &str, messages: Option<u64>) -> Result<(), Failure> {
    if remote.json {
        return output::line(&json!({ "queue": name, "messages": messages }).to_string());
    }
    match messages {
        Some(messages) => {
            output::line(&format!("queue {name} {what}: {messages} messages removed"))
        }
        None => output::line(&format!("queue {name} {what}")),
    }
}
