//! The redb tables, and what each change does to them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | `format`, `applied_position`, `next_queue_id`, `next_incarnation` |
//! | `vhosts` | name | empty |
//! | `vhost_incarnations` | name | a number; 0 if there is none |
//! | `users` | name | [`User`] as JSON |
//! | `permissions` | virtual host, user | [`Permissions`] as JSON |
//! | `exchanges` | virtual host, name | [`StoredExchange`] as JSON |
//! | `queues` | virtual host, name | [`StoredQueue`] as JSON |
//! | `bindings` | virtual host, then the fields of [`StoredBinding`] | empty |

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::Serialize;

use super::{Change, StoredBinding, StoredQueue};
#[cfg(doc)]
use super::{Permissions, StoredExchange, User};

/// Key of a binding: virtual host, destination is a queue, destination, source, routing key,
/// arguments.
pub(super) type BindingKey =
    (&'static str, bool, &'static str, &'static str, &'static str, &'static [u8]);

/// Key of something that has a name in a virtual host.
pub(super) type NamedKey = (&'static str, &'static str);

pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(super) const VHOSTS: TableDefinition<&str, ()> = TableDefinition::new("vhosts");
pub(super) const VHOST_INCARNATIONS: TableDefinition<&str, u64> =
    TableDefinition::new("vhost_incarnations");
pub(super) const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
pub(super) const PERMISSIONS: TableDefinition<NamedKey, &[u8]> =
    TableDefinition::new("permissions");
pub(super) const EXCHANGES: TableDefinition<NamedKey, &[u8]> = TableDefinition::new("exchanges");
pub(super) const QUEUES: TableDefinition<NamedKey, &[u8]> = TableDefinition::new("queues");
pub(super) const BINDINGS: TableDefinition<BindingKey, ()> = TableDefinition::new("bindings");

/// Keys of the `meta` table.
pub(super) const FORMAT: &str = "format";
pub(super) const APPLIED_POSITION: &str = "applied_position";
pub(super) const NEXT_QUEUE_ID: &str = "next_queue_id";
pub(super) const NEXT_INCARNATION: &str = "next_incarnation";

/// The tables, open in one write transaction.
pub(super) struct Tables<'t> {
    pub(super) meta: Table<'t, &'static str, u64>,
    vhosts: Table<'t, &'static str, ()>,
    vhost_incarnations: Table<'t, &'static str, u64>,
    users: Table<'t, &'static str, &'static [u8]>,
    permissions: Table<'t, NamedKey, &'static [u8]>,
    exchanges: Table<'t, NamedKey, &'static [u8]>,
    queues: Table<'t, NamedKey, &'static [u8]>,
    bindings: Table<'t, BindingKey, ()>,
}

impl<'t> Tables<'t> {
    /// Opens all tables, creating those that are missing.
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            vhosts: transaction.open_table(VHOSTS)?,
            vhost_incarnations: transaction.open_table(VHOST_INCARNATIONS)?,
            users: transaction.open_table(USERS)?,
            permissions: transaction.open_table(PERMISSIONS)?,
            exchanges: transaction.open_table(EXCHANGES)?,
            queues: transaction.open_table(QUEUES)?,
            bindings: transaction.open_table(BINDINGS)?,
        })
    }

    /// What [`Definitions::apply`](super::Definitions::apply) does, on the tables.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), redb::Error> {
        match change {
            Change::VhostPut { name, incarnation } => {
                self.keep_next(NEXT_INCARNATION, incarnation.saturating_add(1))?;
                self.vhosts.insert(name.as_str(), ())?;
                self.vhost_incarnations.insert(name.as_str(), *incarnation)?;
            }
            Change::VhostDeleted { name } => self.delete_vhost(name)?,
            Change::UserPut(user) => {
                self.keep_next(NEXT_INCARNATION, user.incarnation.saturating_add(1))?;
                self.users.insert(user.name.as_str(), json(user).as_slice())?;
            }
            Change::UserDeleted { name } => {
                self.users.remove(name.as_str())?;
                self.permissions.retain(|(_, user), _| user != name)?;
            }
            Change::PermissionsPut { vhost, user, permissions } => {
                let value = json(permissions);
                self.permissions.insert((vhost.as_str(), user.as_str()), value.as_slice())?;
            }
            Change::PermissionsDeleted { vhost, user } => {
                self.permissions.remove((vhost.as_str(), user.as_str()))?;
            }
            Change::ExchangePut { vhost, exchange } => {
                let value = json(exchange);
                self.exchanges
                    .insert((vhost.as_str(), exchange.name.as_str()), value.as_slice())?;
            }
            Change::ExchangeDeleted { vhost, name } => {
                self.exchanges.remove((vhost.as_str(), name.as_str()))?;
                self.bindings.retain(|(of, to_queue, destination, source, _, _), ()| {
                    of != vhost || (source != name && (to_queue || destination != name))
                })?;
            }
            Change::QueuePut { vhost, queue } => {
                self.use_queue_id(queue.id)?;
                let value = json(queue);
                self.queues.insert((vhost.as_str(), queue.name.as_str()), value.as_slice())?;
            }
            Change::QueueDeleted { vhost, name, id } => self.delete_queue(vhost, name, *id)?,
            Change::QueueIdsReserved { end } => {
                if let Some(last) = end.checked_sub(1) {
                    self.use_queue_id(last)?;
                }
            }
            Change::BindingPut { vhost, binding } => {
                self.bindings.insert(binding_key(vhost, binding), ())?;
            }
            Change::BindingDeleted { vhost, binding } => {
                self.bindings.remove(binding_key(vhost, binding))?;
            }
        }
        Ok(())
    }

    fn delete_vhost(&mut self, name: &str) -> Result<(), redb::Error> {
        self.vhosts.remove(name)?;
        self.vhost_incarnations.remove(name)?;
        self.permissions.retain(|(vhost, _), _| vhost != name)?;
        self.exchanges.retain(|(vhost, _), _| vhost != name)?;
        self.queues.retain(|(vhost, _), _| vhost != name)?;
        self.bindings.retain(|(vhost, ..), ()| vhost != name)?;
        Ok(())
    }

    fn delete_queue(&mut self, vhost: &str, name: &str, id: u32) -> Result<(), redb::Error> {
        self.use_queue_id(id)?;
        let stored = match self.queues.get((vhost, name))? {
            Some(value) => parse::<StoredQueue>(value.value())?,
            None => return Ok(()),
        };
        if stored.id != id {
            return Ok(());
        }
        self.queues.remove((vhost, name))?;
        // All bindings to the queue lie side by side, and all of them go. The keys themselves show
        // where the range ends, since there is no string that directly follows another one.
        let lowest: (&str, bool, &str, &str, &str, &[u8]) = (vhost, true, name, "", "", &[]);
        let mut doomed = Vec::new();
        for entry in self.bindings.range(lowest..)? {
            let key = entry?.0;
            let (of, to_queue, destination, source, routing_key, arguments) = key.value();
            if of != vhost || !to_queue || destination != name {
                break;
            }
            doomed.push((source.to_owned(), routing_key.to_owned(), arguments.to_vec()));
        }
        for (source, routing_key, arguments) in &doomed {
            let key =
                (vhost, true, name, source.as_str(), routing_key.as_str(), arguments.as_slice());
            self.bindings.remove(key)?;
        }
        Ok(())
    }

    fn use_queue_id(&mut self, id: u32) -> Result<(), redb::Error> {
        self.keep_next(NEXT_QUEUE_ID, u64::from(id.saturating_add(1)))
    }

    /// Notes that the next number is at least this.
    fn keep_next(&mut self, entry: &str, at_least: u64) -> Result<(), redb::Error> {
        let next = self.meta.get(entry)?.map_or(0, |value| value.value());
        if at_least > next {
            self.meta.insert(entry, at_least)?;
        }
        Ok(())
    }
}

/// A stored value from its JSON form.
pub(super) fn parse<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, redb::Error> {
    serde_json::from_slice(value).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Only maps whose keys are not strings can fail to become JSON; the stored types have none.
    serde_json::to_vec(value).expect("a stored definition has a JSON form")
}

fn binding_key<'b>(
    vhost: &'b str,
    binding: &'b StoredBinding,
) -> (&'b str, bool, &'b str, &'b str, &'b str, &'b [u8]) {
    (
        vhost,
        binding.destination_is_queue,
        &binding.destination,
        &binding.source,
        &binding.routing_key,
        &binding.arguments,
    )
}
