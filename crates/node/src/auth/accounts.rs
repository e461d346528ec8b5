//! Users, virtual hosts and permissions in their current state, and who is let in.
//!
//! Owns them in memory. Never makes a change durable: whoever changes them logs that under the same
//! lock (module [`administration`](crate::administration)).

use std::net::IpAddr;
use std::sync::Arc;

use event_listener::Event;

use super::logins::{Login, LoginError, Logins};
use super::{AccessTable, AuthError, Identity};
use crate::definitions::Definitions;
use crate::locks::{Rank, RwLock};
use crate::one_at_a_time::OneAtATime;

/// See the module's documentation.
pub(crate) struct Accounts {
    /// Holds no queues, exchanges and bindings: they live in the registry.
    pub definitions: RwLock<Definitions>,
    pub access: Arc<AccessTable>,
    /// Changes of accounts are made one after the other.
    pub changes: OneAtATime<()>,
    /// Notified when somebody has lost something: a user is gone, or may no longer enter.
    pub revoked: Event,
    logins: Arc<Logins>,
    /// Users that may connect from this machine only.
    loopback_users: Vec<String>,
}

impl Accounts {
    /// # Errors
    /// [`AuthError`] for permissions that are not valid patterns.
    pub(crate) fn new(
        definitions: &Definitions,
        loopback_users: Vec<String>,
    ) -> Result<Self, AuthError> {
        let access = Arc::new(AccessTable::default());
        for ((vhost, user), permissions) in &definitions.permissions {
            access.set(vhost, user, permissions)?;
        }
        let accounts = Definitions {
            exchanges: Default::default(),
            queues: Default::default(),
            bindings: Default::default(),
            ..definitions.clone()
        };
        let (definitions, logins) = (RwLock::new(Rank::Accounts, accounts), Logins::new()?);
        let (changes, revoked) = (OneAtATime::default(), Event::new());
        Ok(Self { definitions, access, changes, revoked, logins, loopback_users })
    }

    /// As [`Node::log_in`](crate::Node::log_in).
    pub(crate) async fn log_in(
        &self,
        peer: IpAddr,
        user: &str,
        password: &str,
    ) -> Result<Identity, LoginError> {
        // Looked up again after the wait: the user may have changed.
        self.logins.log_in(peer, || self.login(user, password)).await
    }

    /// Whether these are a user's name and password. Blocks for a hash.
    pub(crate) fn check_password(&self, user: &str, password: &str) -> bool {
        self.login(user, password).check(self.logins.authenticator())
    }

    /// Who is called this now.
    pub(crate) fn identity(&self, user: &str) -> Option<Identity> {
        let users = self.definitions.read();
        users.users.get(user).map(|it| Identity::new(user, it.incarnation))
    }

    /// Whether this user still exists.
    pub(crate) fn is_current(&self, who: &Identity) -> bool {
        self.identity(who.user()).as_ref() == Some(who)
    }

    pub(crate) fn may_connect_from(&self, user: &str, peer: IpAddr) -> bool {
        super::may_connect_from(user, peer, &self.loopback_users)
    }

    /// A user has been deleted or has a new password.
    pub(crate) fn forget_password(&self, user: &str) {
        self.logins.authenticator().forget(user);
    }

    fn login(&self, user: &str, password: &str) -> Login {
        let users = self.definitions.read();
        let found = users.users.get(user);
        Login {
            password: password.to_owned(),
            password_hash: found.map(|it| it.password_hash.clone()),
            who: Identity::new(user, found.map_or(0, |it| it.incarnation)),
        }
    }
}
