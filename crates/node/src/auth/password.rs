//! Password hashes: Argon2id with OWASP's parameters, as PHC strings.

use std::sync::LazyLock;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::try_generate_salt;
use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::AuthError;

/// OWASP's Password Storage Cheat Sheet: 19 MiB of memory, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASS_COUNT: u32 = 2;
const LANE_COUNT: u32 = 1;

/// The size of the allocation for one hash, of which only the 19 MiB are written to and take up
/// memory. glibc never serves more than 32 MiB from its heaps, so all of it goes back to the
/// operating system at once; a 19 MiB allocation might be kept.
const ALLOCATED_BYTES: usize = 33 << 20;

/// Verified against when there is no such user, so that the answer takes as long as for a real one.
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
    PasswordHash::new(hash).ok().and_then(|hash| is_made_from(&hash, password)).unwrap_or(false)
}

/// `None`: the hash is not one of Argon2's, or is incomplete.
fn is_made_from(hash: &PasswordHash, password: &str) -> Option<bool> {
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let algorithm = Algorithm::new(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let params = Params::try_from(hash).ok()?;
    let argon2 = Argon2::new(algorithm, version, params);
    let output = compute(&argon2, password, salt.as_ref(), expected.len()).ok()?;
    // Compared in constant time.
    Some(output == *expected)
}

fn compute(
    argon2: &Argon2<'_>,
    password: &str,
    salt: &[u8],
    output_len: usize,
) -> Result<Output, argon2::Error> {
    let block_count = argon2.params().block_count();
    let mut blocks = Vec::with_capacity(block_count.max(ALLOCATED_BYTES / Block::SIZE));
    blocks.resize(block_count, Block::default());
    let mut output = [0; Output::MAX_LENGTH];
    let output = &mut output[..output_len];
    argon2.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut blocks)?;
    Output::new(output).map_err(|_| argon2::Error::OutputTooLong)
}

/// Takes the time of a [`verify`] that fails.
pub(super) fn verify_no_one(password: &str) {
    verify(password, &NO_ONE);
}

fn hash_with_salt(password: &str, salt: &[u8]) -> Result<String, AuthError> {
    let failed = |reason: String| AuthError::Hash { reason };
    let params = Params::new(MEMORY_KIB, PASS_COUNT, LANE_COUNT, None)
        .map_err(|error| failed(error.to_string()))?;
    let params_string = ParamsString::try_from(&params).map_err(|e| failed(e.to_string()))?;
    let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
    let argon2 = Argon2::new(algorithm, version, params);
    let output = compute(&argon2, password, salt, Params::DEFAULT_OUTPUT_LEN);
    let hash = PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: params_string,
        salt: Some(Salt::new(salt).map_err(|error| failed(error.to_string()))?),
        hash: Some(output.map_err(|error| failed(error.to_string()))?),
    };
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
