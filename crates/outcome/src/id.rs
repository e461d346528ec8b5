//! How the ledger identifies a message: by a 128-bit hash of its id.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// A message id within its virtual host, hashed (SipHash-1-3, 128 bits, key 0).
///
/// The chance that any two of ten million ids collide is below 10^-24. The key is fixed, so an
/// attacker might find a collision, but only between ids of their own, in a virtual host they may
/// publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdHash(pub u128);

impl IdHash {
    /// The hash of an id in a virtual host.
    pub fn new(vhost: &str, id: impl AsRef<[u8]>) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(vhost.as_bytes());
        hasher.write_u8(0);
        hasher.write(id.as_ref());
        Self(hasher.finish128().as_u128())
    }
}
