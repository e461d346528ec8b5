//! Where messages go: resolved once per exchange and routing key, and cached until the epoch
//! changes.

use std::sync::Arc;

use hashbrown::HashMap;
use outcome::OutcomeRequest;

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
    /// What queues that are addressed by name request for messages that request nothing: that of the
    /// first queue that does.
    pub request: OutcomeRequest,
    /// Whether a queue reached through another exchange has outcomes sent to publishers who may be
    /// answered.
    pub notifies: bool,
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
    pub(super) fn find(
        &mut self,
        epoch: u64,
        exchange: &str,
        routing_key: &[u8],
    ) -> Option<Arc<Route>> {
        if self.epoch != epoch {
            self.routes.clear();
            self.last = None;
            self.epoch = epoch;
            return None;
        }
        let exchange = exchange.as_bytes();
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
    pub(super) fn keep(&mut self, route: &Arc<Route>) {
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(self.last_key.clone(), Arc::clone(route));
        self.last = Some(Arc::clone(route));
    }
}
