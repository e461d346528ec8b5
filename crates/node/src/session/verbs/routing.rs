//! Where a message goes: found once per exchange and routing key, and kept.

use std::sync::Arc;

use amqp::{BStr, BString, ByteSlice, TableRef};
use broker::arguments::QueueType;
use broker::dead_letter::copy_keys;
use broker::{BrokerError, QueueId};
use outcome::OutcomeRequest;

use crate::auth::Access;
use crate::registry::LiveQueue;
use crate::session::routes::Route;
use crate::session::state::Session;

impl Session {
    /// The queues for a message whose headers do not matter.
    ///
    /// # Errors
    /// `NOT_FOUND` for the exchange, `ACCESS_REFUSED` when it is internal or the user may not write
    /// to it.
    pub(super) fn route(
        &mut self,
        exchange: &str,
        routing_key: &BStr,
        headers: Option<TableRef<'_>>,
        has_copies: bool,
    ) -> Result<Arc<Route>, BrokerError> {
        let epoch = self.vhost.epoch();
        let copies = headers.filter(|_| has_copies).map(|headers| copies(headers));
        let copies = copies.transpose()?.unwrap_or_default();
        if copies.is_empty()
            && let Some(route) = self.routes.find(epoch, exchange, routing_key)
        {
            return Ok(route);
        }
        let copies: Vec<&BStr> = copies.iter().map(|key| key.as_bstr()).collect();
        let (route, is_cacheable) = self.resolve(exchange, routing_key, &copies, headers)?;
        let route = Arc::new(route);
        if is_cacheable && copies.is_empty() {
            self.routes.find(epoch, exchange, routing_key);
            self.routes.keep(&route);
        }
        Ok(route)
    }

    fn resolve(
        &self,
        exchange: &str,
        routing_key: &BStr,
        copies: &[&BStr],
        headers: Option<TableRef<'_>>,
    ) -> Result<(Route, bool), BrokerError> {
        self.check(Access::Write, "exchange", exchange)?;
        let state = self.vhost.state.read();
        state.topology.exchange_for_publish(exchange)?;
        let mut ids: Vec<QueueId> = Vec::new();
        state.topology.route(exchange, routing_key, copies, headers, &mut ids)?;
        let queues: Vec<_> = ids.iter().filter_map(|id| state.queues.get(id).cloned()).collect();
        if queues.len() > usize::from(u16::MAX) {
            let text =
                format!("a message may reach at most 65535 queues, this one {}", queues.len());
            return Err(BrokerError::resource_error(text));
        }
        let is_durable = queues.iter().any(|queue| queue.durable);
        let keeps_transient =
            queues.iter().any(|queue| queue.settings().queue_type == QueueType::Quorum);
        // Whoever publishes to a shared exchange did not choose the queues behind it: these delay and
        // mark nothing.
        let is_shared = !exchange.is_empty();
        let asking = queues.iter().filter(|_| !is_shared);
        let request = asking
            .fold(OutcomeRequest::default(), |request, queue| request.or(queue.settings().request));
        let notifies = |queue: &Arc<LiveQueue>| queue.settings().request.notify.is_some();
        let notifies = is_shared && queues.iter().any(notifies);
        let is_cacheable = state.topology.is_cacheable(exchange);
        Ok((Route { queues, is_durable, keeps_transient, request, notifies }, is_cacheable))
    }
}

/// The routing keys in `CC` and `BCC`.
fn copies(headers: TableRef<'_>) -> Result<Vec<BString>, BrokerError> {
    let malformed = |error: amqp::DecodeError| BrokerError::syntax_error(error.to_string());
    let table = headers.to_headers().map_err(malformed)?;
    let mut keys = check_copy_keys(&table, "CC")?;
    keys.extend(check_copy_keys(&table, "BCC")?);
    Ok(keys)
}

/// The type of a value, in a word.
fn kind_of(value: &amqp::FieldValue) -> &'static str {
    match value {
        amqp::FieldValue::LongString(_) => "a string",
        amqp::FieldValue::Table(_) => "a table",
        amqp::FieldValue::Bool(_) => "a boolean",
        value if value.as_i64().is_some() => "a number",
        _ => "another value",
    }
}

fn check_copy_keys(table: &amqp::FieldTable, name: &str) -> Result<Vec<BString>, BrokerError> {
    match table.get(name) {
        None | Some(amqp::FieldValue::Array(_)) => Ok(copy_keys(table, name)),
        Some(other) => Err(BrokerError::precondition_failed(format!(
            "unexpected type of '{name}' header: an array of strings is needed, not {}",
            kind_of(other)
        ))),
    }
}
