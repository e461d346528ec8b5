//! Users, virtual hosts and permissions: what an operator changes while the node is running.
//!
//! Changes are made one after the other ([`OneAtATime`](crate::one_at_a_time::OneAtATime)), so nothing
//! happens between what one of them checks and what it does. What takes something away from somebody
//! ends their sessions. Every change is logged under the target `audit`.

use std::sync::Arc;

use event_listener::EventListener;

use crate::NodeError;
use crate::auth::{Access, CompiledPermissions, Identity, LoginError, hash_password};
use crate::definitions::{Change, Permissions, User};
use crate::names::{DEFAULT_VHOST, vhost_of_realm};
use crate::node::Node;
use crate::registry::Vhost;

const USER: &str = "user";
const VHOST: &str = "virtual host";

/// The most bytes of a user's name: that of a short string.
const USER_BYTES_MAX: usize = 255;
/// The most bytes of a virtual host's name, so that its realm fits into a short string.
const VHOST_BYTES_MAX: usize = 234;
/// The most bytes of a password: it must fit into the frame with which a client logs in.
const PASSWORD_BYTES_MAX: usize = 1024;

impl Node {
    /// Adds a user. It may connect nowhere until it has permissions.
    ///
    /// # Errors
    /// [`NodeError::Exists`]; [`NodeError::Unusable`] for a name or a password with which nobody could
    /// log in.
    pub fn add_user(&self, name: &str, password: &str, tags: &[String]) -> Result<(), NodeError> {
        check_name(USER, name)?;
        if name.contains(':') {
            let reason = "it must not contain ':', which HTTP basic authentication cannot carry";
            return Err(NodeError::Unusable { what: "the user's name", reason });
        }
        check_password(password)?;
        let password_hash = hash_password(password)?;
        let _turn = self.accounts.changes.begin(());
        if self.identity(name).is_some() {
            return Err(NodeError::Exists { kind: USER, name: name.to_owned() });
        }
        let incarnation = self.next_incarnation();
        let (name, tags) = (name.to_owned(), tags.to_vec());
        tracing::info!(target: "audit", user = ?name, ?tags, "user added");
        self.change_accounts(Change::UserPut(User { name, password_hash, tags, incarnation }));
        Ok(())
    }

    /// Gives a user another password. Open connections stay.
    ///
    /// # Errors
    /// [`NodeError::Missing`], [`NodeError::Unusable`].
    pub fn change_password(&self, name: &str, password: &str) -> Result<(), NodeError> {
        check_password(password)?;
        let password_hash = hash_password(password)?;
        let _turn = self.accounts.changes.begin(());
        let user = self.accounts.definitions.read().users.get(name).cloned();
        let user = user.ok_or_else(|| missing(USER, name))?;
        tracing::info!(target: "audit", user = ?name, "password changed");
        self.change_accounts(Change::UserPut(User { password_hash, ..user }));
        self.accounts.forget_password(name);
        Ok(())
    }

    /// Deletes a user with its permissions, and ends its sessions.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn delete_user(&self, name: &str) -> Result<(), NodeError> {
        let _turn = self.accounts.changes.begin(());
        if self.identity(name).is_none() {
            return Err(missing(USER, name));
        }
        tracing::info!(target: "audit", user = ?name, "user deleted");
        self.change_accounts(Change::UserDeleted { name: name.to_owned() });
        self.accounts.access.remove_user(name);
        self.accounts.forget_password(name);
        self.permissions_changed();
        self.engine.registry.connections.end(|owner| *owner.user == *name);
        self.accounts.revoked.notify(usize::MAX);
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

    /// Who is called this now.
    pub fn identity(&self, user: &str) -> Option<Identity> {
        self.accounts.identity(user)
    }

    /// Whether this user still exists.
    pub fn is_current(&self, who: &Identity) -> bool {
        self.accounts.is_current(who)
    }

    /// Waits (as a future, or blocking) until somebody has lost something: a user was deleted, or may
    /// no longer enter a virtual host. Get this first, then look, then wait.
    pub fn revoked(&self) -> EventListener {
        self.accounts.revoked.listen()
    }

    /// Adds a virtual host with the predeclared exchanges.
    ///
    /// # Errors
    /// [`NodeError::Exists`], [`NodeError::Unusable`].
    pub fn add_vhost(&self, name: &str) -> Result<(), NodeError> {
        check_name(VHOST, name)?;
        let _turn = self.accounts.changes.begin(());
        if self.engine.registry.vhosts.read().contains_key(name) {
            return Err(NodeError::Exists { kind: VHOST, name: name.to_owned() });
        }
        let incarnation = self.next_incarnation();
        tracing::info!(target: "audit", vhost = ?name, "virtual host added");
        self.change_accounts(Change::VhostPut { name: name.to_owned(), incarnation });
        let vhost = Arc::new(Vhost::new(name, incarnation));
        self.engine.registry.vhosts.write().insert(name.to_owned(), vhost);
        Ok(())
    }

    /// Deletes a virtual host with all its queues and messages, and ends the sessions in it.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn delete_vhost(&self, name: &str) -> Result<(), NodeError> {
        let _turn = self.accounts.changes.begin(());
        let vhost = self.engine.registry.vhost(name).ok_or_else(|| missing(VHOST, name))?;
        let queues: Vec<_> = {
            let mut state = vhost.state.write();
            state.is_deleted = true;
            state.queues.values().cloned().collect()
        };
        tracing::info!(target: "audit", vhost = ?name, "virtual host deleted");
        vhost.changed();
        self.engine.registry.connections.end(|owner| *owner.vhost == *name);
        for queue in &queues {
            self.engine.delete_live_queue(queue);
        }
        self.change_accounts(Change::VhostDeleted { name: name.to_owned() });
        self.accounts.access.remove_vhost(name);
        // Last, so that a new virtual host of this name cannot come before the log has forgotten
        // this one.
        self.engine.registry.vhosts.write().remove(name);
        self.accounts.revoked.notify(usize::MAX);
        Ok(())
    }

    /// Names of all virtual hosts.
    pub fn vhosts(&self) -> Vec<String> {
        self.accounts.definitions.read().vhosts.keys().cloned().collect()
    }

    /// What the ledger calls a virtual host. One that is deleted and added again is called something
    /// else; `None` when there is none of this name.
    pub fn realm(&self, vhost: &str) -> Option<Arc<str>> {
        self.engine.registry.vhost(vhost).map(|vhost| Arc::clone(&vhost.realm))
    }

    /// The name of the virtual host that the ledger calls this; `None` when it is gone.
    pub fn vhost_of_realm<'r>(&self, realm: &'r str) -> Option<&'r str> {
        let name = vhost_of_realm(realm);
        let is_it = |vhost: &Arc<Vhost>| *vhost.realm == *realm;
        self.engine.registry.vhost(name).is_some_and(|vhost| is_it(&vhost)).then_some(name)
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
        let _turn = self.accounts.changes.begin(());
        let accounts = self.accounts.definitions.read();
        let has_vhost = accounts.vhosts.contains_key(vhost);
        let has_user = accounts.users.contains_key(user);
        drop(accounts);
        if !has_vhost {
            return Err(missing(VHOST, vhost));
        }
        if !has_user {
            return Err(missing(USER, user));
        }
        tracing::info!(target: "audit", ?user, ?vhost, ?permissions, "permissions set");
        self.accounts.access.set(vhost, user, &permissions)?;
        let (vhost, user) = (vhost.to_owned(), user.to_owned());
        self.change_accounts(Change::PermissionsPut { vhost, user, permissions });
        self.permissions_changed();
        Ok(())
    }

    /// Takes a user's permissions in a virtual host away, and ends its sessions there.
    ///
    /// # Errors
    /// [`NodeError::Missing`].
    pub fn clear_permissions(&self, vhost: &str, user: &str) -> Result<(), NodeError> {
        let _turn = self.accounts.changes.begin(());
        let key = (vhost.to_owned(), user.to_owned());
        if !self.accounts.definitions.read().permissions.contains_key(&key) {
            return Err(missing("permission of user", user));
        }
        tracing::info!(target: "audit", ?user, ?vhost, "permissions cleared");
        self.accounts.access.remove(vhost, user);
        self.change_accounts(Change::PermissionsDeleted { vhost: key.0, user: key.1 });
        self.permissions_changed();
        let is_theirs =
            |owner: &crate::registry::Owner| *owner.user == *user && *owner.vhost == *vhost;
        self.engine.registry.connections.end(is_theirs);
        self.accounts.revoked.notify(usize::MAX);
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
    ) -> Result<Identity, LoginError> {
        self.accounts.log_in(peer, user, password).await
    }

    /// Whether there is such a virtual host and the user has permissions in it.
    pub fn may_enter(&self, vhost: &str, user: &str) -> bool {
        let exists = self.accounts.definitions.read().vhosts.contains_key(vhost);
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
        let living = Arc::new(Vhost::new(&vhost, 0));
        self.engine.registry.vhosts.write().insert(vhost.clone(), living);
        let password_hash = hash_password("guest")?;
        let user = User { name: name.clone(), password_hash, tags, incarnation: 0 };
        self.change_all(vec![
            Change::VhostPut { name: vhost.clone(), incarnation: 0 },
            Change::UserPut(user),
            Change::PermissionsPut { vhost, user: name, permissions },
        ]);
        Ok(())
    }

    fn next_incarnation(&self) -> u64 {
        self.accounts.definitions.read().next_incarnation.max(1)
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

/// Checks the name of a new user or virtual host.
fn check_name(kind: &'static str, name: &str) -> Result<(), NodeError> {
    let (what, bytes_max, too_long) = match kind {
        USER => ("the user's name", USER_BYTES_MAX, "it must not be longer than 255 bytes"),
        _ => ("the virtual host's name", VHOST_BYTES_MAX, "it must not be longer than 234 bytes"),
    };
    let reason = if name.is_empty() {
        "it must not be empty"
    } else if name.len() > bytes_max {
        too_long
    } else if name.chars().any(char::is_control) {
        "it must not contain control characters"
    } else {
        return Ok(());
    };
    Err(NodeError::Unusable { what, reason })
}

/// Checks a new password.
fn check_password(password: &str) -> Result<(), NodeError> {
    let reason = if password.len() > PASSWORD_BYTES_MAX {
        "it must not be longer than 1024 bytes"
    } else if password.contains('\0') {
        "it must not contain the character NUL, which ends it in an AMQP login"
    } else {
        return Ok(());
    };
    Err(NodeError::Unusable { what: "the password", reason })
}
