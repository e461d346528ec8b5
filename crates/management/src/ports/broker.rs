//! Users, and the state of the server.

use std::net::IpAddr;

use async_trait::async_trait;

use super::Changed;

/// Why somebody is not let in. The texts are for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefused {
    /// No such user, the wrong password, or not from this address: the client is not told which.
    #[error("name or password is wrong, or the user may not come from this address")]
    Wrong,
    /// So many logins from this address have failed lately that this one was not checked.
    #[error("too many failed logins from this address; try again in a second")]
    TooManyFailures,
    /// The password could not be compared.
    #[error("the password cannot be checked right now; try again in a second")]
    Unavailable,
}

/// A user, told from others that had or will have its name: what one of them began does not go on for
/// another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The same for as long as the user exists.
    pub incarnation: u64,
}

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// Whether it says that a proxy has passed it on: then nobody knows where it comes from.
    pub is_forwarded: bool,
}

/// A broker apart from its messages.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Lets a user in who comes from there with this password. A wrong name takes as long as a wrong
    /// password.
    ///
    /// # Errors
    /// [`LoginRefused`].
    async fn log_in(
        &self,
        source: Source,
        user: &str,
        password: &str,
    ) -> Result<User, LoginRefused>;

    /// Whether this user still exists. Answers from memory.
    fn is_current(&self, user: &User) -> bool;

    /// Completes when somebody may have lost something since this call: a user is deleted, or may no
    /// longer enter a virtual host.
    fn revoked(&self) -> Changed;

    /// A user's tags; `None` when there is no such user. Answers from memory.
    fn tags(&self, user: &str) -> Option<Vec<String>>;

    /// Whether this virtual host exists and the user has permissions in it. Answers from memory.
    fn may_enter(&self, user: &str, vhost: &str) -> bool;

    /// Whether this broker has run before on the same store.
    fn has_history(&self) -> bool;
}
