//! Who somebody is: a user, told from others that had or will have its name.

use std::sync::Arc;

/// A user whose login was right, or for whom the embedding program vouches.
///
/// When a user is deleted and another of its name is added, that is somebody else: what was begun for
/// the one does not go on for the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    user: Arc<str>,
    incarnation: u64,
}

impl Identity {
    /// Who is known by this name and number.
    pub fn new(user: &str, incarnation: u64) -> Self {
        Self { user: user.into(), incarnation }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Tells users of one name apart; 0 for those that a store begins with.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }
}
