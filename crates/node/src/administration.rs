//! Users, virtual hosts and permissions: what an operator changes while the node is running.

use std::sync::Arc;

use crate::NodeError;
use crate::auth::{Access, CompiledPermissions, LoginError, hash_password};
use crate::definitions::{Change, Permissions, User};
use crate::names::DEFAULT_VHOST;
use crate::node::Node;
use crate::registry::Vhost;

const USER: &str = "user";
const VHOST: &str = "virtual host";

impl Node {
    /// Adds a user. It may connect nowhere until it has permissions.
    ///
    /// # Errors
    /// [`NodeError::Exists`].
    pub fn add_user(&self, name: &str, password: &str, tags: &[String]) -> Result<(), NodeError> {
        if self.accounts.definitions.read().users.contains_key(name) {
            return Err(NodeError::Exists { kind: USER, name: name.to_owned() });
        }
        let (name, tags) = (name.to_owned(), tags.to_vec());
        let user = User { name, password_hash: hash_password(password)?, tags };
        self.change_accounts(Change::UserPut(user));
        Ok(())
    }

    /// Gives a user another password. Open connections stay.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn change_password(&self, name: &str, password: &str) -> Result<(), NodeError> {
        let user = self.accounts.definitions.read().users.get(name).cloned();
        let mut user = user.ok_or_else(|| missing(USER, name))?;
        user.password_hash = hash_password(password)?;
        self.change_accounts(Change::UserPut(user));
        self.accounts.forget_password(name);
        Ok(())
    }

    /// Deletes a user with its permissions.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn delete_user(&self, name: &str) -> Result<(), NodeError> {
        if !self.accounts.definitions.read().users.contains_key(name) {
            return Err(missing(USER, name));
        }
        self.change_accounts(Change::UserDeleted { name: name.to_owned() });
        self.accounts.access.remove_user(name);
        self.accounts.forget_password(name);
        self.permissions_changed();
        Ok(())
    }

    /// All users.
    pub fn users(&self) -> Vec<User> {
        self.accounts.definitions.read().users.values().cloned().collect()
    }

    /// A user's tags; `None` when there is no such user.
    pub fn user_tags(&self, name: &str) -> Option<Vec<String>> {
        self.accounts.definitions.read().users.get(name).map(|user| user.tags.clone())
    }

    /// Adds a virtual host with the predeclared exchanges.
    ///
    /// # Errors
    /// [`NodeError::Exists`].
    pub fn add_vhost(&self, name: &str) -> Result<(), NodeError> {
        if self.engine.registry.vhosts.read().contains_key(name) {
            return Err(NodeError::Exists { kind: VHOST, name: name.to_owned() });
        }
        self.change_accounts(Change::VhostPut { name: name.to_owned() });
        self.engine.registry.vhosts.write().insert(name.to_owned(), Arc::new(Vhost::new(name)));
        Ok(())
    }

    /// Deletes a virtual host with all its queues and messages. Connections to it are closed at
    /// their next request.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn delete_vhost(&self, name: &str) -> Result<(), NodeError> {
        let vhost = self.engine.registry.vhost(name).ok_or_else(|| missing(VHOST, name))?;
        let queues: Vec<_> = {
            let mut state = vhost.state.write();
            if std::mem::replace(&mut state.is_deleted, true) {
                return Err(missing(VHOST, name));
            }
            state.queues.values().cloned().collect()
        };
        vhost.changed();
        for queue in &queues {
            self.engine.delete_live_queue(queue);
        }
        self.change_accounts(Change::VhostDeleted { name: name.to_owned() });
        self.accounts.access.remove_vhost(name);
        // Last, so that a new virtual host of this name cannot come before the log has forgotten
        // this one.
        self.engine.registry.vhosts.write().remove(name);
        self.engine.registry.connections.wake_all();
        Ok(())
    }

    /// Names of all virtual hosts.
    pub fn vhosts(&self) -> Vec<String> {
        self.accounts.definitions.read().vhosts.iter().cloned().collect()
    }

    /// Grants a user permissions in a virtual host, in place of those it had there.
    ///
    /// # Errors
    /// [`NodeError::Missing`], or [`NodeError::Auth`] if one is not a regular expression.
    pub fn set_permissions(
        &self,
        vhost: &str,
        user: &str,
        permissions: Permissions,
    ) -> Result<(), NodeError> {
        CompiledPermissions::compile(&permissions)?;
        let accounts = self.accounts.definitions.read();
        let has_vhost = accounts.vhosts.contains(vhost);
        let has_user = accounts.users.contains_key(user);
        drop(accounts);
        if !has_vhost {
            return Err(missing(VHOST, vhost));
        }
        if !has_user {
            return Err(missing(USER, user));
        }
        self.accounts.access.set(vhost, user, &permissions)?;
        let (vhost, user) = (vhost.to_owned(), user.to_owned());
        self.change_accounts(Change::PermissionsPut { vhost, user, permissions });
        self.permissions_changed();
        Ok(())
    }

    /// Takes a user's permissions in a virtual host away.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn clear_permissions(&self, vhost: &str, user: &str) -> Result<(), NodeError> {
        let key = (vhost.to_owned(), user.to_owned());
        if !self.accounts.definitions.read().permissions.contains_key(&key) {
            return Err(missing("permission of user", user));
        }
        self.accounts.access.remove(vhost, user);
        self.change_accounts(Change::PermissionsDeleted { vhost: key.0, user: key.1 });
        self.permissions_changed();
        Ok(())
    }

    /// All permissions as (virtual host, user, permissions).
    pub fn permissions(&self) -> Vec<(String, String, Permissions)> {
        let accounts = self.accounts.definitions.read();
        let all = accounts.permissions.iter();
        all.map(|((vhost, user), p)| (vhost.clone(), user.clone(), p.clone())).collect()
    }

    /// Whether these are a user's name and password. Blocks for a hash.
    pub fn check_password(&self, user: &str, password: &str) -> bool {
        self.accounts.check_password(user, password)
    }

    /// Lets a user in who comes from this address with this password.
    ///
    /// Dropping the future leaves the queue.
    ///
    /// # Errors
    /// [`LoginError`]. The caller should delay its answer, so that guessing takes time.
    pub async fn log_in(
        &self,
        peer: std::net::IpAddr,
        user: &str,
        password: &str,
    ) -> Result<(), LoginError> {
        self.accounts.log_in(peer, user, password).await
    }

    /// Whether there is such a virtual host and the user has permissions in it.
    pub fn may_enter(&self, vhost: &str, user: &str) -> bool {
        let exists = self.accounts.definitions.read().vhosts.contains(vhost);
        exists && self.accounts.access.may_open(vhost, user)
    }

    /// Whether a user has this access to a queue or an exchange of a virtual host.
    pub fn may(&self, vhost: &str, user: &str, access: Access, name: &str) -> bool {
        self.accounts.access.allow(vhost, user, access, name)
    }

    /// Whether a user may connect from an address.
    pub fn may_connect_from(&self, user: &str, peer: std::net::IpAddr) -> bool {
        self.accounts.may_connect_from(user, peer)
    }

    /// What a new store begins with: the virtual host `/`, and the user `guest`, who may do
    /// everything there. If the first start does not get that far, the store has none of it.
    pub(crate) fn add_defaults(&self) -> Result<(), NodeError> {
        let (vhost, name) = (DEFAULT_VHOST.to_owned(), "guest".to_owned());
        let tags = vec!["administrator".to_owned()];
        let all = || ".*".to_owned();
        let permissions = Permissions { configure: all(), write: all(), read: all() };
        self.accounts.access.set(&vhost, &name, &permissions)?;
        self.engine.registry.vhosts.write().insert(vhost.clone(), Arc::new(Vhost::new(&vhost)));
        let password_hash = hash_password("guest")?;
        let user = User { name: name.clone(), password_hash, tags };
        self.change_all(vec![
            Change::VhostPut { name: vhost.clone() },
            Change::UserPut(user),
            Change::PermissionsPut { vhost, user: name, permissions },
        ]);
        Ok(())
    }

    /// Makes a change, and waits until it is durable.
    fn change_accounts(&self, change: Change) {
        self.change_all(vec![change]);
    }

    /// Changes in memory and in the log, under one lock so that both have the same order; either
    /// all changes survive a crash or none.
    fn change_all(&self, changes: Vec<Change>) {
        let mut accounts = self.accounts.definitions.write();
        changes.iter().for_each(|change| accounts.apply(change));
        self.engine.store.append(None, |appender| {
            appender.batch.begin_group();
            changes.into_iter().for_each(|change| appender.change(change));
            appender.batch.end_group();
        });
        drop(accounts);
        if let Err(error) = self.engine.store.sync_all() {
            tracing::error!(
                "a change of users or virtual hosts may not survive a restart: {error}"
            );
        }
    }

    /// Sessions cache permissions with their routes; this makes them ask again.
    fn permissions_changed(&self) {
        self.engine.registry.vhosts.read().values().for_each(|vhost| vhost.changed());
    }
}

fn missing(kind: &'static str, name: &str) -> NodeError {
    NodeError::Missing { kind, name: name.to_owned() }
}
