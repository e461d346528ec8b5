//! Publishing, a batch at a time: log once, lock each queue once, confirm once.

use amqp::{BString, ByteSlice, Properties, ReplyCode};
use broker::message::Origin;
use broker::{BrokerError, Message};
use outcome::DURATION_MS_MAX;

use crate::auth::Access;
use crate::names::{OUTCOMES_EXCHANGE, QUERY_EXCHANGE, REPLY_TO, REPORT_EXCHANGE};
use crate::rewrite;
use crate::session::headers::Headers;
use crate::session::publishes::{Pending, Publish};
use crate::session::state::Session;
use crate::sink::Returned;

impl Session {
    /// Takes a message; it reaches its queues with the next [`Session::flush`].
    ///
    /// # Errors
    /// `NOT_FOUND`, `ACCESS_REFUSED`, `PRECONDITION_FAILED` for an invalid property, `SYNTAX_ERROR`
    /// for properties that cannot be decoded.
    pub fn publish(&mut self, number: u16, publish: &Publish<'_>) -> Result<(), BrokerError> {
        self.failed.tell(number)?;
        let mut properties = Properties::decode(publish.properties)
            .map_err(|error| BrokerError::syntax_error(format!("message properties: {error}")))?;
        self.check_properties(&properties, publish)?;
        if publish.exchange.is_empty() && publish.routing_key.starts_with(REPLY_TO.as_bytes()) {
            self.check(Access::Write, "exchange", publish.exchange)?;
            return self.publish_reply(number, publish);
        }
        let headers = Headers::scan(properties.headers)?;
        if publish.exchange == REPORT_EXCHANGE {
            return self.report(number, publish, &properties, &headers);
        }
        if publish.exchange == QUERY_EXCHANGE {
            return self.ask(number, publish, &properties);
        }
        if publish.exchange == OUTCOMES_EXCHANGE {
            let text =
                "only the broker publishes to 'amq.wilco.outcomes'; bind a queue to watch it";
            return Err(BrokerError::access_refused(text));
        }
        // Who only reports, asks or replies adds nothing to what is stored, and goes on while publishers
        // are held: what workers settle is what makes room.
        self.has_published = true;
        let route = self.route(
            publish.exchange,
            publish.routing_key,
            properties.headers,
            headers.has_copies,
        )?;
        let now_ms = self.engine.now_ms();
        let id = self.tracked_id(&properties, &headers, &route, now_ms);
        let message_id = id.as_ref().map(|(id, _)| id.as_bstr());
        let mut tracking = {
            let at = (publish.exchange, now_ms);
            self.tracking(&properties, message_id, &headers, &route, at)?
        };
        let new_id = id.filter(|(_, is_new)| *is_new).map(|(id, _)| id);
        let rewritten = self.rewritten(number, &properties, publish, new_id)?;
        let encoded = rewritten.as_deref().unwrap_or(publish.properties);
        let confirm = self.next_confirm(number).map(|message| (number, message));
        if let (Some(tracking), Some((_, message))) = (&mut tracking, confirm)
            && self.waits_for_ack(number, headers.request.or(route.request))
        {
            let (count, deadline_at_ms) = (tracking.queue_count, tracking.deadline_at_ms);
            tracking.ticket = self.hold_confirm(number, message, count, deadline_at_ms);
        }
        if route.queues.is_empty() && publish.mandatory {
            match &mut self.channel(number)?.transaction {
                Some(transaction) => transaction.returns.push(publish.into()),
                None => self.send_return(number, publish),
            }
        }
        if route.keeps_transient {
            // What the message says about itself stays as it is.
            properties.delivery_mode = Some(2);
        }
        let content = (publish.exchange, publish.routing_key, encoded, publish.body);
        let scratch = &mut self.publishes.scratch;
        let (tracking, has_bcc) = (tracking.as_ref(), headers.has_bcc);
        let origin = Origin { tracking, has_bcc, has_died: false };
        let message = Message::build(now_ms, &properties, content, origin, scratch);
        let asks = self.deduplicates.unwrap_or_else(|| headers.request.is_any());
        let (message, position) = (Some(message), None);
        let pending = Pending { message, route, position, confirm, asks };
        let epoch = self.vhost.epoch();
        match &mut self.channel(number)?.transaction {
            Some(transaction) => {
                if transaction.publishes.is_empty() {
                    transaction.epoch = epoch;
                }
                transaction.publishes.push(pending);
                self.grow_transaction(number, 1, publish.body.len() + encoded.len())?;
            }
            None => {
                self.publishes.has_tracked |= tracking.is_some();
                self.publishes.pending.push(pending);
            }
        }
        Ok(())
    }

    fn check_properties(
        &self,
        properties: &Properties<'_>,
        publish: &Publish<'_>,
    ) -> Result<(), BrokerError> {
        let failed = |text| Err(BrokerError::precondition_failed(text));
        if let Some(user) = properties.user_id
            && *user != *self.user.as_bytes()
        {
            let text = format!(
                "user_id property set to '{user}' but authenticated user was '{}'",
                self.user
            );
            return failed(text);
        }
        if let Some(expiration) = properties.expiration {
            match expiration.to_str_lossy().parse::<u64>() {
                Ok(..=DURATION_MS_MAX) => {}
                Ok(ms) => {
                    let reason = format!("{{value_too_large,{ms}}}");
                    return failed(format!("invalid expiration '{expiration}': {reason}"));
                }
                Err(_) => return failed(format!("invalid expiration '{expiration}'")),
            }
        }
        let max = self.message_bytes_max();
        if publish.body.len() as u64 > max {
            let size = publish.body.len();
            return failed(format!("message size {size} is larger than configured max size {max}"));
        }
        Ok(())
    }

    /// The properties, if they may not stay as they are.
    fn rewritten(
        &mut self,
        number: u16,
        properties: &Properties<'_>,
        publish: &Publish<'_>,
        new_id: Option<BString>,
    ) -> Result<Option<Vec<u8>>, BrokerError> {
        let malformed = |error: amqp::DecodeError| BrokerError::syntax_error(error.to_string());
        let mut rewritten = None;
        if properties.reply_to.is_some_and(|reply_to| reply_to == REPLY_TO) {
            let address = self.reply_address(number)?;
            let encoded = publish.properties;
            rewritten = Some(rewrite::with_reply_to(encoded, address.into()).map_err(malformed)?);
        }
        if let Some(id) = new_id {
            let encoded = rewritten.as_deref().unwrap_or(publish.properties);
            rewritten = Some(rewrite::with_message_id(encoded, id).map_err(malformed)?);
        }
        Ok(rewritten)
    }

    /// Returns what reached no queue.
    pub(super) fn send_return(&self, number: u16, publish: &Publish<'_>) {
        let (code, text) = (ReplyCode::NoRoute, "NO_ROUTE");
        let Publish { exchange, routing_key, properties, body, .. } = *publish;
        let returned = Returned { code, text, exchange, routing_key, properties, body };
        self.outbox.lock().sink.returned(number, &returned);
    }
}
