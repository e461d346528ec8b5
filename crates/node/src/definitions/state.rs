//! The definitions in memory: plain ordered collections, and the effect of each change.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Permissions, StoredBinding, StoredExchange, StoredQueue, User};

/// All definitions of a node at one moment. Keys of two strings are (virtual host, name).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    /// Incarnations of the virtual hosts, by name.
    pub vhosts: BTreeMap<String, u64>,
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Permissions by (virtual host, user).
    pub permissions: BTreeMap<(String, String), Permissions>,
    /// Exchanges by (virtual host, name).
    pub exchanges: BTreeMap<(String, String), StoredExchange>,
    /// Queues by (virtual host, name).
    pub queues: BTreeMap<(String, String), StoredQueue>,
    /// Bindings as (virtual host, binding).
    pub bindings: BTreeSet<(String, StoredBinding)>,
    /// The id for the next queue: one above the highest ever used.
    pub next_queue_id: u32,
    /// One above the highest incarnation ever used, of a virtual host or a user. Those that a store
    /// begins with have 0.
    pub next_incarnation: u64,
}

impl Definitions {
    /// Applies one change. Pure and total: everything it does not concern stays as it is.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::VhostPut { name, incarnation } => {
                self.use_incarnation(*incarnation);
                self.vhosts.insert(name.clone(), *incarnation);
            }
            Change::VhostDeleted { name } => self.delete_vhost(name),
            Change::UserPut(user) => {
                self.use_incarnation(user.incarnation);
                self.users.insert(user.name.clone(), user.clone());
            }
            Change::UserDeleted { name } => {
                self.users.remove(name);
                self.permissions.retain(|(_, user), _| user != name);
            }
            Change::PermissionsPut { vhost, user, permissions } => {
                self.permissions.insert((vhost.clone(), user.clone()), permissions.clone());
            }
            Change::PermissionsDeleted { vhost, user } => {
                self.permissions.remove(&(vhost.clone(), user.clone()));
            }
            Change::ExchangePut { vhost, exchange } => {
                self.exchanges.insert((vhost.clone(), exchange.name.clone()), exchange.clone());
            }
            Change::ExchangeDeleted { vhost, name } => {
                self.exchanges.remove(&(vhost.clone(), name.clone()));
                self.delete_bindings_to(vhost, false, name);
                self.bindings.retain(|(of, binding)| of != vhost || binding.source != *name);
            }
            Change::QueuePut { vhost, queue } => {
                self.use_queue_id(queue.id);
                self.queues.insert((vhost.clone(), queue.name.clone()), queue.clone());
            }
            Change::QueueDeleted { vhost, name, id } => self.delete_queue(vhost, name, *id),
            Change::QueueIdsReserved { end } => self.next_queue_id = self.next_queue_id.max(*end),
            Change::BindingPut { vhost, binding } => {
                self.bindings.insert((vhost.clone(), binding.clone()));
            }
            Change::BindingDeleted { vhost, binding } => {
                self.bindings.remove(&(vhost.clone(), binding.clone()));
            }
        }
    }

    /// Changes that remove bindings of which an end does not exist. A crash may leave such
    /// bindings: the declaration of a queue is lost while its binding survives, and a later queue
    /// of that name must not find itself bound.
    pub fn loose_bindings(&self) -> Vec<Change> {
        let has_exchange = |vhost: &String, name: &String| {
            // The predeclared exchanges exist in every virtual host without being stored.
            name.is_empty()
                || name.starts_with("amq.")
                || self.exchanges.contains_key(&(vhost.clone(), name.clone()))
        };
        let is_loose = |(vhost, binding): &&(String, StoredBinding)| {
            let destination = &binding.destination;
            let has_destination = match binding.destination_is_queue {
                true => self.queues.contains_key(&(vhost.clone(), destination.clone())),
                false => has_exchange(vhost, destination),
            };
            !has_destination || !has_exchange(vhost, &binding.source)
        };
        let loose = self.bindings.iter().filter(is_loose).cloned();
        loose.map(|(vhost, binding)| Change::BindingDeleted { vhost, binding }).collect()
    }

    fn delete_vhost(&mut self, name: &str) {
        self.vhosts.remove(name);
        self.permissions.retain(|(vhost, _), _| vhost != name);
        self.exchanges.retain(|(vhost, _), _| vhost != name);
        self.queues.retain(|(vhost, _), _| vhost != name);
        self.bindings.retain(|(vhost, _)| vhost != name);
    }

    fn delete_queue(&mut self, vhost: &str, name: &str, id: u32) {
        self.use_queue_id(id);
        let key = (vhost.to_owned(), name.to_owned());
        if self.queues.get(&key).is_some_and(|queue| queue.id == id) {
            self.queues.remove(&key);
            self.delete_bindings_to(vhost, true, name);
        }
    }

    /// Bindings to one destination lie side by side, so this does not look at all of them: many
    /// short-lived queues must not cost the square of their number.
    fn delete_bindings_to(&mut self, vhost: &str, destination_is_queue: bool, name: &str) {
        let lowest = StoredBinding {
            destination_is_queue,
            destination: name.to_owned(),
            source: String::new(),
            routing_key: String::new(),
            arguments: Vec::new(),
        };
        let doomed: Vec<_> = self
            .bindings
            .range((vhost.to_owned(), lowest)..)
            .take_while(|(of, binding)| {
                of == vhost
                    && binding.destination_is_queue == destination_is_queue
                    && binding.destination == name
            })
            .cloned()
            .collect();
        for key in &doomed {
            self.bindings.remove(key);
        }
    }

    fn use_incarnation(&mut self, incarnation: u64) {
        self.next_incarnation = self.next_incarnation.max(incarnation.saturating_add(1));
    }

    fn use_queue_id(&mut self, id: u32) {
        self.next_queue_id = self.next_queue_id.max(id.saturating_add(1));
    }
}
