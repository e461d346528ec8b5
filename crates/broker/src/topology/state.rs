//! The state of a topology, and what can be read from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::bound::{BindingIdentity, BoundBinding};
use super::definitions::{BindingDefinition, Destination, QueueDefinition};
use super::registry::{Registry, Slab};
use crate::exchange::{ExchangeDefinition, Routes};
use crate::{BrokerError, QueueId};

/// One virtual host's exchanges, queues and bindings.
#[derive(Debug, Clone)]
pub struct Topology {
    pub(super) virtual_host: Arc<str>,
    pub(super) exchanges: Registry<ExchangeEntry>,
    pub(super) queues: Registry<QueueEntry>,
    pub(super) queue_places: HashMap<QueueId, u32>,
    /// Exclusive queues by connection.
    pub(super) owned: HashMap<u64, BTreeSet<u32>>,
    pub(super) bindings: Slab<BoundBinding>,
    pub(super) identities: HashMap<BindingIdentity, u32>,
    pub(super) epoch: u64,
}

#[derive(Debug, Clone)]
pub(super) struct ExchangeEntry {
    pub(super) definition: ExchangeDefinition,
    pub(super) routes: Routes,
    /// Bindings from here.
    pub(super) outgoing: BTreeSet<u32>,
    /// Bindings to here.
    pub(super) incoming: BTreeSet<u32>,
    /// The exchanges it is bound to, with the number of bindings.
    pub(super) onward: BTreeMap<u32, u32>,
}

impl ExchangeEntry {
    pub(super) fn new(definition: ExchangeDefinition) -> Self {
        Self {
            routes: Routes::new(definition.kind),
            definition,
            outgoing: BTreeSet::new(),
            incoming: BTreeSet::new(),
            onward: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct QueueEntry {
    pub(super) definition: QueueDefinition,
    pub(super) incoming: BTreeSet<u32>,
}

impl Topology {
    /// A virtual host with the predeclared exchanges and nothing else.
    pub fn new(virtual_host: impl Into<Arc<str>>) -> Self {
        let mut exchanges = Registry::default();
        for definition in ExchangeDefinition::predeclared() {
            exchanges.insert(Arc::clone(&definition.name), ExchangeEntry::new(definition));
        }
        Self {
            virtual_host: virtual_host.into(),
            exchanges,
            queues: Registry::default(),
            queue_places: HashMap::new(),
            owned: HashMap::new(),
            bindings: Slab::default(),
            identities: HashMap::new(),
            epoch: 0,
        }
    }

    /// The virtual host's name.
    pub fn virtual_host(&self) -> &Arc<str> {
        &self.virtual_host
    }

    /// A number that changes with everything that may change a route.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All exchanges, the predeclared ones included.
    pub fn exchanges(&self) -> impl Iterator<Item = &ExchangeDefinition> {
        self.exchanges.iter().map(|entry| &entry.definition)
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = &QueueDefinition> {
        self.queues.iter().map(|entry| &entry.definition)
    }

    /// All bindings, except the implicit ones of the default exchange.
    pub fn bindings(&self) -> impl Iterator<Item = &BindingDefinition> {
        self.bindings.iter().map(|binding| &binding.definition)
    }

    /// Number of queues.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Bindings whose source is this exchange; none if there is no such exchange.
    pub fn bindings_from(&self, exchange: &str) -> impl Iterator<Item = &BindingDefinition> {
        let entry = self.exchanges.find(exchange).and_then(|place| self.exchanges.get(place));
        self.definitions(entry.map(|entry| &entry.outgoing))
    }

    /// Bindings that lead to this queue or exchange; none if it does not exist.
    pub fn bindings_to(
        &self,
        destination: &Destination,
    ) -> impl Iterator<Item = &BindingDefinition> {
        let incoming = match destination {
            Destination::Queue(name) => {
                let entry = self.queues.find(name).and_then(|place| self.queues.get(place));
                entry.map(|entry| &entry.incoming)
            }
            Destination::Exchange(name) => {
                let entry = self.exchanges.find(name).and_then(|place| self.exchanges.get(place));
                entry.map(|entry| &entry.incoming)
            }
        };
        self.definitions(incoming)
    }

    fn definitions<'a>(
        &'a self,
        places: Option<&'a BTreeSet<u32>>,
    ) -> impl Iterator<Item = &'a BindingDefinition> {
        let places = places.into_iter().flatten();
        places.filter_map(|&place| Some(&self.bindings.get(place)?.definition))
    }

    /// The error for a queue that does not exist.
    pub fn no_queue(&self, name: &str) -> BrokerError {
        BrokerError::not_found(format!("no {}", self.queue_subject(name)))
    }

    /// The error for an exchange that does not exist.
    pub fn no_exchange(&self, name: &str) -> BrokerError {
        BrokerError::not_found(format!("no {}", self.exchange_subject(name)))
    }

    /// The error for deleting a queue `if-unused` that has consumers.
    pub fn queue_in_use(&self, name: &str) -> BrokerError {
        BrokerError::precondition_failed(format!("{} in use", self.queue_subject(name)))
    }

    /// The error for deleting a queue `if-empty` that has messages.
    pub fn queue_not_empty(&self, name: &str) -> BrokerError {
        BrokerError::precondition_failed(format!("{} not empty", self.queue_subject(name)))
    }

    /// The error for consuming from a queue that has an exclusive consumer, or for consuming
    /// exclusively from one that has consumers.
    pub fn queue_in_exclusive_use(&self, name: &str) -> BrokerError {
        BrokerError::access_refused(format!("{} in exclusive use", self.queue_subject(name)))
    }

    /// How error texts name a queue.
    pub(super) fn queue_subject(&self, name: &str) -> String {
        format!("queue '{name}' in vhost '{}'", self.virtual_host)
    }

    /// How error texts name an exchange.
    pub(super) fn exchange_subject(&self, name: &str) -> String {
        format!("exchange '{name}' in vhost '{}'", self.virtual_host)
    }

    pub(super) fn changed(&mut self) {
        self.epoch += 1;
    }
}
