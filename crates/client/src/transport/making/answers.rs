//! Answers to questions about a message, from the ledger: in the form that a wilco server gives them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::Maker;
use crate::error::{Error, ErrorKind};
use crate::transport::{Answer, Question};

/// How long to wait before the ledger is asked again whether there is an outcome.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(1);

impl Maker {
    /// Answers a question; one that waits for an outcome, once there is one or its time is up.
    pub(crate) async fn answer(
        &self,
        question: &Question,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let Question { subject, parameters, .. } = question;
        let id = parameters["id"].as_str().unwrap_or_default();
        let wait = match *subject {
            "message" => Duration::ZERO,
            "outcome" => Duration::from_secs(parameters["wait"].as_u64().unwrap_or(0)),
            other => {
                let text = format!(
                    "this broker cannot {other} a message: it knows none by its id; a wilco server does"
                );
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
        };
        let (until, mut look_again) = (Instant::now() + wait.min(timeout), LOOK_AGAIN);
        loop {
            let story = self.ledger.story(id).await?;
            let is_open = story.as_ref().is_some_and(|story| story["state"] != "settled");
            let now = Instant::now();
            if !is_open || now >= until {
                return Ok(Answer::of_story(story));
            }
            tokio::time::sleep(look_again.min(until - now)).await;
            look_again = (look_again * 2).min(LOOK_AGAIN_MAX);
        }
    }
}

impl Answer {
    /// What is known of a message, if anything is.
    pub(crate) fn of_story(story: Option<Value>) -> Self {
        match story {
            Some(story) => Self { status: 200, body: story.to_string().into() },
            None => Self { status: 404, body: Bytes::new() },
        }
    }
}
