//! Checks logins: the first takes time, the same login again does not.
//!
//! A client library opens a connection per process or per request, and each login costs 20 ms of
//! Argon2. So a successful login leaves a keyed digest of (user, stored hash, password). The key is
//! random and lives as long as this process, and with another stored hash the digest is different.
//! Failures are not remembered, so guessing stays slow.

use std::collections::HashMap;

use crate::locks::Mutex;
use argon2::password_hash::try_generate_salt;
use sha2::{Digest, Sha256};

use super::AuthError;
use super::password::{verify, verify_no_one};

/// Most users remembered at a time.
const REMEMBERED_COUNT_MAX: usize = 4096;

type Tag = [u8; 32];

/// Verifies passwords and remembers the last successful one of each user.
pub struct Authenticator {
    key: [u8; 32],
    remembered: Mutex<HashMap<String, Tag>>,
}

impl Authenticator {
    /// An authenticator that remembers nobody yet.
    ///
    /// # Errors
    /// [`AuthError::Hash`] if the operating system gives no random bytes.
    pub fn new() -> Result<Self, AuthError> {
        let random =
            || try_generate_salt().map_err(|error| AuthError::Hash { reason: error.to_string() });
        let mut key = [0; 32];
        key[..16].copy_from_slice(&random()?);
        key[16..].copy_from_slice(&random()?);
        Ok(Self { key, remembered: Mutex::default() })
    }

    /// Whether `password` is that of the user with this stored hash; `None` where there is no such
    /// user, which takes as long as a wrong password.
    ///
    /// Blocks for some 20 ms unless this very login succeeded before.
    pub fn check(&self, user: &str, password: &str, password_hash: Option<&str>) -> bool {
        let Some(password_hash) = password_hash else {
            verify_no_one(password);
            return false;
        };
        if self.remembers(user, password, password_hash) {
            return true;
        }
        let right = verify(password, password_hash);
        if right {
            self.remember(user, self.tag(user, password_hash, password));
        }
        right
    }

    /// Whether this very login succeeded before.
    pub fn remembers(&self, user: &str, password: &str, password_hash: &str) -> bool {
        let tag = self.tag(user, password_hash, password);
        self.remembered.lock().get(user) == Some(&tag)
    }

    /// Forgets a user, whose password changed or who is gone.
    pub fn forget(&self, user: &str) {
        self.remembered.lock().remove(user);
    }

    fn remember(&self, user: &str, tag: Tag) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_COUNT_MAX && !remembered.contains_key(user) {
            // Any one will do: whoever is dropped pays 20 ms at the next login.
            if let Some(dropped) = remembered.keys().next().cloned() {
                remembered.remove(&dropped);
            }
        }
        remembered.insert(user.to_owned(), tag);
    }

    fn tag(&self, user: &str, password_hash: &str, password: &str) -> Tag {
        let mut digest = Sha256::new();
        digest.update(self.key);
        for part in [user, password_hash, password] {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        digest.finalize().into()
    }
}

/// Shows neither key nor digests.
impl std::fmt::Debug for Authenticator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash_password;
    use super::*;

    fn remembered(authenticator: &Authenticator) -> Vec<String> {
        authenticator.remembered.lock().keys().cloned().collect()
    }

    #[test]
    fn a_login_is_remembered_and_a_failure_is_not() {
        let authenticator = Authenticator::new().expect("random bytes");
        let hash = hash_password("right").expect("a hash");
        assert!(!authenticator.check("anna", "wrong", Some(&hash)));
        assert!(remembered(&authenticator).is_empty());
        assert!(authenticator.check("anna", "right", Some(&hash)));
        assert_eq!(remembered(&authenticator), ["anna"]);
        assert!(authenticator.check("anna", "right", Some(&hash)));
        assert!(!authenticator.check("anna", "wrong", Some(&hash)));
        assert!(authenticator.check("anna", "right", Some(&hash)));
    }

    #[test]
    fn a_remembered_login_does_not_outlive_its_hash() {
        let authenticator = Authenticator::new().expect("random bytes");
        let old = hash_password("old").expect("a hash");
        let new = hash_password("new").expect("a hash");
        assert!(authenticator.check("anna", "old", Some(&old)));
        assert!(!authenticator.check("anna", "old", Some(&new)));
        assert!(authenticator.check("anna", "new", Some(&new)));
        authenticator.forget("anna");
        assert!(remembered(&authenticator).is_empty());
    }

    #[test]
    fn a_remembered_login_is_no_other_users() {
        let authenticator = Authenticator::new().expect("random bytes");
        let (anna, bert) = (hash_password("a"), hash_password("b"));
        assert!(authenticator.check("anna", "a", Some(&anna.expect("a hash"))));
        assert!(!authenticator.check("bert", "a", Some(&bert.expect("a hash"))));
        assert!(!authenticator.check("nobody", "a", None));
    }

    #[test]
    fn a_remembered_login_needs_no_argon2() {
        let authenticator = Authenticator::new().expect("random bytes");
        // No Argon2 can verify this hash, so only the memory can say yes.
        let tag = authenticator.tag("anna", "unreadable", "p");
        authenticator.remember("anna", tag);
        assert!(authenticator.check("anna", "p", Some("unreadable")));
        assert!(!authenticator.check("anna", "q", Some("unreadable")));
    }

    #[test]
    fn memory_is_bounded() {
        let authenticator = Authenticator::new().expect("random bytes");
        for number in 0..REMEMBERED_COUNT_MAX + 10 {
            authenticator.remember(&format!("user{number}"), [0; 32]);
        }
        assert_eq!(remembered(&authenticator).len(), REMEMBERED_COUNT_MAX);
    }
}
