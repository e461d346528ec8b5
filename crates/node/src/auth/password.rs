//! Password hashes: Argon2id with OWASP's parameters, as PHC strings.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, try_generate_salt};
use argon2::{Algorithm, Argon2, Params, Version};

use super::AuthError;

/// OWASP's Password Storage Cheat Sheet: 19 MiB of memory, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASS_COUNT: u32 = 2;
const LANE_COUNT: u32 = 1;

/// Verified against when there is no such user, so that the answer takes as long as for one.
static NO_ONE: LazyLock<String> =
    LazyLock::new(|| hash_with_salt("", &[0; 16]).unwrap_or_default());

/// The hash of a password, with a salt from the operating system. Takes some 20 ms of processor
/// time, by design.
///
/// # Errors
/// [`AuthError::Hash`].
pub fn hash_password(password: &str) -> Result<String, AuthError> {
    let salt =
        try_generate_salt().map_err(|error| AuthError::Hash { reason: error.to_string() })?;
    hash_with_salt(password, &salt)
}

/// Whether `password` is the one `hash` was made from. A hash that cannot be read matches nothing.
/// Takes as long as [`hash_password`].
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Takes the time of a [`verify`] that fails.
pub(super) fn verify_no_one(password: &str) {
    verify(password, &NO_ONE);
}

fn hash_with_salt(password: &str, salt: &[u8]) -> Result<String, AuthError> {
    let failed = |reason: String| AuthError::Hash { reason };
    let params = Params::new(MEMORY_KIB, PASS_COUNT, LANE_COUNT, None)
        .map_err(|error| failed(error.to_string()))?;
    let hash: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), salt)
        .map_err(|error| failed(error.to_string()))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_only() {
        let hash = hash_password("Geheimnis ü").expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify("Geheimnis ü", &hash));
        assert!(!verify("geheimnis ü", &hash));
        assert!(!verify("", &hash));
    }

    #[test]
    fn the_same_password_has_another_hash_each_time() {
        assert_ne!(hash_password("p").expect("a hash"), hash_password("p").expect("a hash"));
    }

    #[test]
    fn an_unreadable_hash_matches_nothing() {
        for hash in ["", "plain", "$argon2id$", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA"] {
            assert!(!verify("", hash), "{hash}");
            assert!(!verify("plain", hash), "{hash}");
        }
    }
}
