//! Asking: what is published to `amq.wilco.query` is a question about messages, answered by direct
//! reply-to.

use amqp::Properties;
use broker::BrokerError;

use crate::auth::Identity;
use crate::names::REPLY_TO;
use crate::queries::{Place, Question, answer};
use crate::session::publishes::Publish;
use crate::session::state::Session;

/// The most bytes that a question may have.
const QUESTION_BYTES_MAX: usize = 64 << 10;
/// What answers of this module are.
const CONTENT_TYPE: &str = "application/problem+json";

impl Session {
    /// Asks. What may be asked, and who may know what, is for the one who answers to decide.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` without direct reply-to, or for a question that is too large.
    pub(super) fn ask(
        &mut self,
        number: u16,
        publish: &Publish<'_>,
        properties: &Properties<'_>,
    ) -> Result<(), BrokerError> {
        if properties.reply_to.is_none_or(|reply_to| reply_to != REPLY_TO) {
            let text = "a question to 'amq.wilco.query' needs reply_to 'amq.rabbitmq.reply-to'";
            return Err(BrokerError::precondition_failed(text));
        }
        if publish.body.len() > QUESTION_BYTES_MAX {
            let text = format!("a question has at most {QUESTION_BYTES_MAX} bytes");
            return Err(BrokerError::precondition_failed(text));
        }
        let address = self.reply_address(number)?;
        let asker = self.engine.registry.reply_consumer(&self.vhost.name, &address);
        let Some(asker) = asker else { return self.confirm_in_turn(number) };
        let correlation_id = properties.correlation_id.map(ToOwned::to_owned);
        let refuse = |status, detail: &str| {
            if let Some(asker) = asker.upgrade() {
                let body = format!("{{\"status\":{status},\"detail\":\"{detail}\"}}");
                answer(&asker, correlation_id.as_ref(), status, CONTENT_TYPE, body.as_bytes());
            }
        };
        match (self.engine.queries.get(), Place::take(&self.questions)) {
            (None, _) => refuse(501, "this server answers no questions"),
            (_, None) => {
                refuse(503, "too many questions of this connection are unanswered; wait for some");
            }
            (Some(queries), Some(place)) => queries.ask(Question {
                who: Identity::new(&self.user, self.outbox.owner.incarnation),
                vhost: self.vhost.name.clone(),
                subject: publish.routing_key.to_string(),
                body: publish.body.to_vec(),
                correlation_id,
                asker,
                _place: place,
            }),
        }
        self.confirm_in_turn(number)
    }
}
