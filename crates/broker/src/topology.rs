//! The exchanges, queues and bindings of one virtual host, and routing over them.
//!
//! Owns every definition, the rules of declaring, binding and deleting, and what RabbitMQ says when
//! they are broken. It never holds a message, checks no permission, and generates neither names nor
//! ids: the caller brings them.
//!
//! *Invariants:*
//! - Both ends of every binding exist; it is known to both, and once in its source's routes.
//! - No two bindings have the same source, destination, routing key and arguments.
//! - The default exchange has no bindings: it routes to the queue the routing key names.
//! - [`epoch`](Topology::epoch) changes with everything that may change a route.
//!
//! Declaring, binding and deleting cost the same however many queues there are.

mod bindings;
mod definitions;
mod exchanges;
mod queues;
mod registry;
mod routing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::exchange::{ExchangeDefinition, Routes};
use crate::{BrokerError, QueueId};
use bindings::{BindingIdentity, BoundBinding};
pub use definitions::{
    BindingDefinition, Declared, Destination, ExchangeDeclaration, QueueDeclaration,
    QueueDefinition, Removal, RemovedQueue,
};
use registry::{Registry, Slab};

/// One virtual host's exchanges, queues and bindings.
#[derive(Debug, Clone)]
pub struct Topology {
    virtual_host: Arc<str>,
    exchanges: Registry<ExchangeEntry>,
    queues: Registry<QueueEntry>,
    queue_places: HashMap<QueueId, u32>,
    /// Exclusive queues by connection.
    owned: HashMap<u64, BTreeSet<u32>>,
    bindings: Slab<BoundBinding>,
    identities: HashMap<BindingIdentity, u32>,
    epoch: u64,
}

#[derive(Debug, Clone)]
struct ExchangeEntry {
    definition: ExchangeDefinition,
    routes: Routes,
    /// Bindings from here.
    outgoing: BTreeSet<u32>,
    /// Bindings that lead here.
    incoming: BTreeSet<u32>,
    /// The exchanges it is bound to, with the number of bindings.
    onward: BTreeMap<u32, u32>,
}

impl ExchangeEntry {
    fn new(definition: ExchangeDefinition) -> Self {
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
struct QueueEntry {
    definition: QueueDefinition,
    incoming: BTreeSet<u32>,
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

    /// All exchanges, the predeclared ones too.
    pub fn exchanges(&self) -> impl Iterator<Item = &ExchangeDefinition> {
        self.exchanges.iter().map(|entry| &entry.definition)
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = &QueueDefinition> {
        self.queues.iter().map(|entry| &entry.definition)
    }

    /// All bindings. The default exchange's are not among them: every queue has its own.
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

    /// The error for consuming from a queue that somebody consumes exclusively, or exclusively
    /// from one that has consumers.
    pub fn queue_in_exclusive_use(&self, name: &str) -> BrokerError {
        BrokerError::access_refused(format!("{} in exclusive use", self.queue_subject(name)))
    }

    /// How error texts name a queue.
    fn queue_subject(&self, name: &str) -> String {
        format!("queue '{name}' in vhost '{}'", self.virtual_host)
    }

    /// How error texts name an exchange.
    fn exchange_subject(&self, name: &str) -> String {
        format!("exchange '{name}' in vhost '{}'", self.virtual_host)
    }

    fn changed(&mut self) {
        self.epoch += 1;
    }
}

fn default_exchange_refused() -> BrokerError {
    BrokerError::access_refused("operation not permitted on the default exchange")
}

/// Names that begin with `amq.` are the server's.
fn check_name(kind: &str, name: &str) -> Result<(), BrokerError> {
    if name.starts_with("amq.") {
        return Err(BrokerError::access_refused(format!(
            "{kind} name '{name}' contains reserved prefix 'amq.*'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
