//! Who a client is and what it may do: password hashes, SASL responses, permissions.
//!
//! Owns the rules: how a password is hashed and verified ([`hash_password`], [`verify`],
//! [`Authenticator`]), how many are hashed at a time and for whom (module `logins`), what a SASL
//! response says ([`parse_plain`], [`parse_amqplain`]), where a user may connect from
//! ([`may_connect_from`]) and what the permissions allow ([`AccessTable`]).
//!
//! Never does: store users or permissions (that is [`definitions`](crate::definitions)), talk to a
//! client, log a password.
//!
//! Invariants:
//! - **A password is kept nowhere**, neither on disk nor in a cache.
//! - **A permission that is not granted is refused**: no entry, no access.

mod access;
mod accounts;
mod authenticator;
mod error;
mod identity;
mod logins;
mod password;
mod permissions;
mod sasl;

use std::net::IpAddr;

pub use access::AccessTable;
pub(crate) use accounts::Accounts;
pub use authenticator::Authenticator;
pub use error::AuthError;
pub use identity::Identity;
pub use logins::LoginError;
pub use password::{hash_password, verify};
pub use permissions::{Access, CompiledPermissions};
pub use sasl::{parse_amqplain, parse_plain};

/// 128 random bits as hexadecimal digits, which nobody can guess.
///
/// # Errors
/// [`AuthError::Hash`] if the operating system gives no random bytes.
pub fn random_token() -> Result<String, AuthError> {
    let bytes = argon2::password_hash::try_generate_salt()
        .map_err(|error| AuthError::Hash { reason: error.to_string() })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a user may connect from an address: those in `loopback_users` only from this machine.
pub fn may_connect_from(user: &str, peer: IpAddr, loopback_users: &[String]) -> bool {
    peer.to_canonical().is_loopback() || !loopback_users.iter().any(|name| name == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_users_are_refused_from_elsewhere() {
        let loopback_users = ["guest".to_owned()];
        let check = |user, peer: &str, expected| {
            let peer: IpAddr = peer.parse().expect("an address");
            assert_eq!(may_connect_from(user, peer, &loopback_users), expected, "{user} {peer}");
        };
        check("guest", "127.0.0.1", true);
        check("guest", "127.3.2.1", true);
        check("guest", "::1", true);
        check("guest", "::ffff:127.0.0.1", true);
        check("guest", "192.168.0.7", false);
        check("guest", "::ffff:192.168.0.7", false);
        check("worker", "192.168.0.7", true);
        assert!(may_connect_from("guest", IpAddr::from([10, 0, 0, 1]), &[]));
    }
}
