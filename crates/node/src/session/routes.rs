//! Where messages go: resolved once per exchange and routing key, and cached until the epoch
//! changes.

use std::sync::Arc;

use amqp::TableRef;
use broker::arguments::QueueType;
use broker::dead_letter::copy_keys;
use broker::{BrokerError, QueueId};
use hashbrown::HashMap;
use outcome::OutcomeRequest;

use super::Session;
use crate::auth::Access;
use crate::registry::LiveQueue;

/// Routes cached per session; a publisher with more keys than this resolves some of them again.
const ROUTES_MAX: usize = 4096;

/// The queues that messages go to.
#[derive(Default)]
pub(crate) struct Route {
    pub queues: Vec<Arc<LiveQueue>>,
    /// Whether any of them survives a restart.
    pub is_durable: bool,
    /// Whether any of them keeps transient messages, too: quorum queues do.
    pub keeps_transient: bool,
    /// What its queues request for messages that request nothing: that of the first queue that
    /// does.
    pub request: OutcomeRequest,
}

/// Routes by exchange and routing key, all of one epoch.
#[derive(Default)]
pub(super) struct RouteCache {
    epoch: u64,
    /// Exchange, a zero byte, routing key.
    last_key: Vec<u8>,
    last: Option<Arc<Route>>,
    routes: HashMap<Vec<u8>, Arc<Route>>,
}

impl RouteCache {
    fn find(&mut self, epoch: u64, exchange: &str, routing_key: &str) -> Option<Arc<Route>> {
        if self.epoch != epoch {
            self.routes.clear();
            self.last = None;
            self.epoch = epoch;
            return None;
        }
        let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
        let is_last = self.last_key.len() == exchange.len() + 1 + routing_key.len()
            && self.last_key.starts_with(exchange)
            && self.last_key.ends_with(routing_key);
        if let Some(last) = self.last.as_ref().filter(|_| is_last) {
            return Some(Arc::clone(last));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(exchange);
        self.last_key.push(0);
        self.last_key.extend_from_slice(routing_key);
        self.last = self.routes.get(&self.last_key).cloned();
        self.last.clone()
    }

    /// Caches a route that was not found before.
    fn keep(&mut self, route: &Arc<Route>) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(self.last_key.clone(), Arc::clone(route));
        self.last = Some(Arc::clone(route));
    }
}

impl Session {
    /// The queues for a message whose headers do not matter.
    ///
    /// # Errors
    /// `NOT_FOUND` for the exchange, `ACCESS_REFUSED` when it is internal or the user may not write
    /// to it.
    pub(super) fn route(
        &mut self,
        exchange: &str,
        routing_key: &str,
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
        let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
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
        routing_key: &str,
        copies: &[&str],
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
        let request = queues
            .iter()
            .fold(OutcomeRequest::default(), |request, queue| request.or(queue.settings().request));
        let is_cacheable = state.topology.is_cacheable(exchange);
        Ok((Route { queues, is_durable, keeps_transient, request }, is_cacheable))
    }
}

/// The routing keys in `CC` and `BCC`.
fn copies(headers: TableRef<'_>) -> Result<Vec<String>, BrokerError> {
    let malformed = |error: amqp::DecodeError| BrokerError::syntax_error(error.to_string());
    let table = headers.to_headers().map_err(malformed)?;
    let mut keys = check_copy_keys(&table, "CC")?;
    keys.extend(check_copy_keys(&table, "BCC")?);
    Ok(keys)
}

fn check_copy_keys(table: &amqp::FieldTable, name: &str) -> Result<Vec<String>, BrokerError> {
    match table.get(name) {
        None | Some(amqp::FieldValue::Array(_)) => Ok(copy_keys(table, name)),
        Some(other) => Err(BrokerError::precondition_failed(format!(
            "unexpected type of '{name}' header: {other:?}, an array of strings is needed"
        ))),
    }
}
