//! Binding and unbinding, and what is deleted along with a binding.
//!
//! An auto-delete exchange is deleted when the last binding *from* it is removed; the bindings *to*
//! it are removed with it, which may be the last of other exchanges, and so on.

use std::collections::BTreeSet;
use std::sync::Arc;

use amqp::FieldTable;

use super::bound::{BindingIdentity, BoundBinding};
use super::definitions::{BindingDefinition, Declared, Destination, Removal};
use super::rules::{check_not_of_broker, default_exchange_refused};
use super::state::Topology;
use crate::BrokerError;
use crate::exchange::RouteTarget;
use crate::headers_match::HeadersMatch;

/// The ends of a requested binding.
struct Ends {
    source: u32,
    target: RouteTarget,
}

impl Topology {
    /// `queue.bind` and `exchange.bind`. Repeating a binding changes nothing.
    ///
    /// # Errors
    ///
    /// `ACCESS_REFUSED` for the default exchange at either end, `NOT_FOUND` for an end that does
    /// not exist, `PRECONDITION_FAILED` for a wrong `x-match`, `RESOURCE_LOCKED` for another
    /// connection's exclusive queue.
    pub fn bind(
        &mut self,
        source: &str,
        destination: &Destination,
        routing_key: &str,
        arguments: &FieldTable,
        connection: u64,
    ) -> Result<Declared<&BindingDefinition>, BrokerError> {
        check_not_default(source, destination)?;
        if let Destination::Exchange(name) = destination {
            check_not_of_broker(name)?;
        }
        let ends = self.ends(source, destination)?;
        let headers = self.headers_match(ends.source, arguments)?;
        if let Destination::Queue(name) = destination {
            self.queue(name, connection)?;
        }
        let arguments = sorted(arguments);
        let identity = identity(&ends, routing_key, &arguments);
        let (place, created) = match self.identities.get(&identity) {
            Some(place) => (*place, false),
            None => (self.add_binding(identity, arguments, headers), true),
        };
        let binding = self.bindings.get(place).expect("found or added just now");
        Ok(Declared::new(&binding.definition, created))
    }

    /// `queue.unbind` and `exchange.unbind`. Removing what does not exist does nothing.
    ///
    /// # Errors
    ///
    /// `ACCESS_REFUSED` for the default exchange at either end, `RESOURCE_LOCKED` for another
    /// connection's exclusive queue.
    pub fn unbind(
        &mut self,
        source: &str,
        destination: &Destination,
        routing_key: &str,
        arguments: &FieldTable,
        connection: u64,
    ) -> Result<Removal, BrokerError> {
        check_not_default(source, destination)?;
        let Ok(ends) = self.ends(source, destination) else { return Ok(Removal::default()) };
        let identity = identity(&ends, routing_key, &sorted(arguments));
        let Some(&place) = self.identities.get(&identity) else { return Ok(Removal::default()) };
        if let Destination::Queue(name) = destination {
            self.queue(name, connection)?;
        }
        self.changed();
        Ok(self.remove_bindings(BTreeSet::from([place])))
    }

    /// Restores a binding from storage.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for an end that does not exist, `PRECONDITION_FAILED` for a wrong `x-match`.
    pub fn restore_binding(&mut self, binding: BindingDefinition) -> Result<(), BrokerError> {
        check_not_default(&binding.source, &binding.destination)?;
        let ends = self.ends(&binding.source, &binding.destination)?;
        let headers = self.headers_match(ends.source, &binding.arguments)?;
        let arguments = sorted(&binding.arguments);
        let identity = identity(&ends, &binding.routing_key, &arguments);
        if !self.identities.contains_key(&identity) {
            self.add_binding(identity, arguments, headers);
        }
        Ok(())
    }

    fn ends(&self, source: &str, destination: &Destination) -> Result<Ends, BrokerError> {
        let place = self.exchanges.find(source).ok_or_else(|| self.no_exchange(source))?;
        let target = match destination {
            Destination::Queue(name) => {
                let queue = self.queue_named(name).ok_or_else(|| self.no_queue(name))?;
                RouteTarget::Queue(queue.id)
            }
            Destination::Exchange(name) => RouteTarget::Exchange(
                self.exchanges.find(name).ok_or_else(|| self.no_exchange(name))?,
            ),
        };
        Ok(Ends { source: place, target })
    }

    /// How a headers exchange at `source` reads the arguments; `None` for other kinds.
    fn headers_match(
        &self,
        source: u32,
        arguments: &FieldTable,
    ) -> Result<Option<HeadersMatch>, BrokerError> {
        match self.exchanges.get(source) {
            Some(entry) if entry.routes.needs_headers() => HeadersMatch::parse(arguments).map(Some),
            _ => Ok(None),
        }
    }

    fn add_binding(
        &mut self,
        identity: BindingIdentity,
        arguments: FieldTable,
        headers: Option<HeadersMatch>,
    ) -> u32 {
        let BindingIdentity { source, target, .. } = identity;
        let routing_key = Arc::clone(&identity.routing_key);
        let (destination, destination_durable) = match target {
            RouteTarget::Queue(id) => {
                let queue = self.queue_by_id(id);
                let name = queue.map_or_else(|| "".into(), |queue| Arc::clone(&queue.name));
                (Destination::Queue(name), queue.is_some_and(|queue| queue.durable))
            }
            RouteTarget::Exchange(place) => {
                let entry = self.exchanges.get(place).map(|entry| &entry.definition);
                let name = entry.map_or_else(|| "".into(), |entry| Arc::clone(&entry.name));
                (Destination::Exchange(name), entry.is_some_and(|entry| entry.durable))
            }
        };
        let from = self.exchanges.get(source).map(|entry| &entry.definition);
        let definition = BindingDefinition {
            source: from.map_or_else(|| "".into(), |from| Arc::clone(&from.name)),
            destination,
            routing_key: Arc::clone(&routing_key),
            arguments,
            durable: destination_durable && from.is_some_and(|from| from.durable),
        };
        let place = self.bindings.insert(BoundBinding { definition, identity: identity.clone() });
        self.identities.insert(identity, place);
        if let Some(entry) = self.exchanges.get_mut(source) {
            entry.outgoing.insert(place);
            entry.routes.add(place, &routing_key, headers, target);
            if let RouteTarget::Exchange(onward) = target {
                *entry.onward.entry(onward).or_default() += 1;
            }
        }
        if let Some(incoming) = self.incoming(target) {
            incoming.insert(place);
        }
        self.changed();
        place
    }

    fn incoming(&mut self, target: RouteTarget) -> Option<&mut BTreeSet<u32>> {
        match target {
            RouteTarget::Queue(id) => {
                let place = *self.queue_places.get(&id)?;
                Some(&mut self.queues.get_mut(place)?.incoming)
            }
            RouteTarget::Exchange(place) => Some(&mut self.exchanges.get_mut(place)?.incoming),
        }
    }

    /// Removes bindings, and the auto-delete exchanges that lose their last binding.
    pub(super) fn remove_bindings(&mut self, places: BTreeSet<u32>) -> Removal {
        let mut removal = Removal::default();
        let mut unused = Vec::new();
        for place in places {
            unused.extend(self.remove_binding(place, &mut removal));
        }
        self.remove_unused(unused, &mut removal);
        removal
    }

    /// Removes an exchange, its bindings, and whatever is deleted with them.
    pub(super) fn remove_exchange(&mut self, place: u32) -> Removal {
        let mut removal = Removal::default();
        self.remove_unused(vec![place], &mut removal);
        removal
    }

    /// Removes exchanges until none is left that must be deleted.
    fn remove_unused(&mut self, mut unused: Vec<u32>, removal: &mut Removal) {
        while let Some(place) = unused.pop() {
            let Some(entry) = self.exchanges.get(place) else { continue };
            let name = Arc::clone(&entry.definition.name);
            let bindings: Vec<u32> = entry.outgoing.union(&entry.incoming).copied().collect();
            for binding in bindings {
                unused.extend(self.remove_binding(binding, removal));
            }
            if let Some(entry) = self.exchanges.remove(&name) {
                removal.exchanges.push(entry.definition);
                self.changed();
            }
        }
    }

    /// Removes one binding; returns its source if that must be deleted, too.
    fn remove_binding(&mut self, place: u32, removal: &mut Removal) -> Option<u32> {
        let BoundBinding { definition, identity } = self.bindings.remove(place)?;
        self.identities.remove(&identity);
        let BindingIdentity { source, target, routing_key, .. } = identity;
        if let Some(incoming) = self.incoming(target) {
            incoming.remove(&place);
        }
        removal.bindings.push(definition);
        let entry = self.exchanges.get_mut(source)?;
        entry.outgoing.remove(&place);
        entry.routes.remove(place, &routing_key, target);
        if let RouteTarget::Exchange(onward) = target
            && let Some(count) = entry.onward.get_mut(&onward)
        {
            *count -= 1;
            if *count == 0 {
                entry.onward.remove(&onward);
            }
        }
        (entry.definition.auto_delete && entry.outgoing.is_empty()).then_some(source)
    }
}

fn check_not_default(source: &str, destination: &Destination) -> Result<(), BrokerError> {
    let to_default = matches!(destination, Destination::Exchange(name) if name.is_empty());
    if source.is_empty() || to_default {
        return Err(default_exchange_refused());
    }
    Ok(())
}

fn identity(ends: &Ends, routing_key: &str, arguments: &FieldTable) -> BindingIdentity {
    let mut encoded = Vec::new();
    if !arguments.is_empty() {
        arguments.encode_with_length(&mut encoded);
    }
    BindingIdentity {
        source: ends.source,
        target: ends.target,
        routing_key: routing_key.into(),
        arguments: encoded.into(),
    }
}

/// The arguments sorted by name: a different order does not make another binding.
fn sorted(arguments: &FieldTable) -> FieldTable {
    let mut entries: Vec<_> = arguments.clone().into_iter().collect();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    entries.into_iter().collect()
}
