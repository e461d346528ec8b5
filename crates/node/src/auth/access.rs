//! The permissions in force, by virtual host and user.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Access, AuthError, CompiledPermissions};
use crate::definitions::Permissions;
use crate::locks::{Mutex, RwLock};

/// Most decisions remembered per user and virtual host.
const DECISION_COUNT_MAX: usize = 512;

/// Answers whether a user may do something in a virtual host. Mirrors the permissions of the
/// definitions: whoever changes those calls [`set`](Self::set) and the `remove` methods.
#[derive(Debug, Default)]
pub struct AccessTable {
    vhosts: RwLock<HashMap<String, HashMap<String, Arc<UserAccess>>>>,
}

/// One user in one virtual host.
#[derive(Debug)]
struct UserAccess {
    permissions: CompiledPermissions,
    /// Decisions by resource name. Emptied when full: a client that names each of many resources
    /// once gains nothing from it.
    decisions: Mutex<HashMap<String, Decisions>>,
}

/// What was decided about one name: configure, write, read.
type Decisions = [Option<bool>; 3];

impl AccessTable {
    /// Grants a user these permissions in a virtual host, in place of earlier ones.
    ///
    /// # Errors
    /// [`AuthError::Pattern`]; nothing changes then.
    pub fn set(&self, vhost: &str, user: &str, permissions: &Permissions) -> Result<(), AuthError> {
        let access = Arc::new(UserAccess {
            permissions: CompiledPermissions::compile(permissions)?,
            decisions: Mutex::default(),
        });
        let mut vhosts = self.vhosts.write();
        vhosts.entry(vhost.to_owned()).or_default().insert(user.to_owned(), access);
        Ok(())
    }

    /// Takes a user's permissions in a virtual host away.
    pub fn remove(&self, vhost: &str, user: &str) {
        if let Some(users) = self.vhosts.write().get_mut(vhost) {
            users.remove(user);
        }
    }

    /// Takes everybody's permissions in a virtual host away.
    pub fn remove_vhost(&self, vhost: &str) {
        self.vhosts.write().remove(vhost);
    }

    /// Takes a user's permissions away everywhere.
    pub fn remove_user(&self, user: &str) {
        for users in self.vhosts.write().values_mut() {
            users.remove(user);
        }
    }

    /// Whether a user may open a virtual host: whether it has any permissions there, even empty
    /// ones.
    pub fn may_open(&self, vhost: &str, user: &str) -> bool {
        self.find(vhost, user).is_some()
    }

    /// Whether a user has this access to a queue or exchange. An empty name is the default
    /// exchange.
    pub fn allow(&self, vhost: &str, user: &str, access: Access, name: &str) -> bool {
        // The table's lock is released before the user's is taken.
        self.find(vhost, user).is_some_and(|user| user.allow(access, name))
    }

    fn find(&self, vhost: &str, user: &str) -> Option<Arc<UserAccess>> {
        self.vhosts.read().get(vhost)?.get(user).cloned()
    }
}

impl UserAccess {
    fn allow(&self, access: Access, name: &str) -> bool {
        let mut decisions = self.decisions.lock();
        if let Some(known) = decisions.get(name).and_then(|known| known[access as usize]) {
            return known;
        }
        let decision = self.permissions.allow(access, name);
        if decisions.len() >= DECISION_COUNT_MAX && !decisions.contains_key(name) {
            decisions.clear();
        }
        decisions.entry(name.to_owned()).or_default()[access as usize] = Some(decision);
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(configure: &str, write: &str, read: &str) -> Permissions {
        Permissions { configure: configure.into(), write: write.into(), read: read.into() }
    }

    #[test]
    fn what_is_not_granted_is_refused() {
        let table = AccessTable::default();
        assert!(!table.may_open("/", "anna"));
        assert!(!table.allow("/", "anna", Access::Read, "q"));
        table.set("/", "anna", &permissions("", "^q$", ".*")).expect("patterns");
        assert!(table.may_open("/", "anna"));
        assert!(!table.may_open("/", "bert"));
        assert!(!table.may_open("other", "anna"));
        assert!(!table.allow("/", "anna", Access::Configure, "q"));
        assert!(table.allow("/", "anna", Access::Write, "q"));
        assert!(!table.allow("/", "anna", Access::Write, "other"));
        assert!(table.allow("/", "anna", Access::Read, "other"));
        assert!(!table.allow("/", "bert", Access::Read, "other"));
    }

    #[test]
    fn a_change_takes_effect_at_once() {
        let table = AccessTable::default();
        let all = permissions(".*", ".*", ".*");
        table.set("/", "anna", &all).expect("patterns");
        assert!(table.allow("/", "anna", Access::Read, "q"));
        table.set("/", "anna", &permissions("", "", "")).expect("patterns");
        assert!(table.may_open("/", "anna"));
        assert!(!table.allow("/", "anna", Access::Read, "q"));

        for remove in [
            |table: &AccessTable| table.remove("/", "anna"),
            |table: &AccessTable| table.remove_user("anna"),
            |table: &AccessTable| table.remove_vhost("/"),
        ] {
            table.set("/", "anna", &all).expect("patterns");
            assert!(table.allow("/", "anna", Access::Read, "q"));
            remove(&table);
            assert!(!table.may_open("/", "anna"));
            assert!(!table.allow("/", "anna", Access::Read, "q"));
        }
    }

    #[test]
    fn a_bad_pattern_leaves_what_was_granted() {
        let table = AccessTable::default();
        table.set("/", "anna", &permissions(".*", ".*", ".*")).expect("patterns");
        assert!(table.set("/", "anna", &permissions("(", "", "")).is_err());
        assert!(table.allow("/", "anna", Access::Configure, "q"));
    }

    #[test]
    fn decisions_are_bounded_and_stay_right() {
        let table = AccessTable::default();
        table.set("/", "anna", &permissions("", "7$", "")).expect("patterns");
        for _ in 0..2 {
            for number in 0..DECISION_COUNT_MAX * 2 {
                let name = format!("q{number}");
                let expected = name.ends_with('7');
                assert_eq!(table.allow("/", "anna", Access::Write, &name), expected, "{name}");
            }
        }
        let user = table.find("/", "anna").expect("permissions");
        assert!(user.decisions.lock().len() <= DECISION_COUNT_MAX);
    }
}
