//! What the ledger knows a message by: 128 bits of its id.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// A message id within its virtual host, hashed (SipHash-1-3, 128 bits, key 0).
///
/// A collision of two ids among ten million has a chance below 10^-24. The key is fixed, so an
/// attacker might find one: of two ids of his own, in a virtual host he may publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdHash(pub u128);

impl IdHash {
    /// The hash of an id in a virtual host.
    pub fn new(vhost: &str, id: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(vhost.as_bytes());
        hasher.write_u8(0);
        hasher.write(id.as_bytes());
        Self(hasher.finish128().as_u128())
    }
}

/// What the window of a queue knows a message by: each queue sees an id for itself.
pub fn dedup_key(id: IdHash, queue_id: u32) -> u128 {
    // Multiplying by an odd number loses nothing; the queue's number is spread over all bits.
    let spread = u128::from(queue_id)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    (id.0 ^ spread).wrapping_mul(0xD6E8_FEB8_6659_FD93_A5A3_564E_2AC4_1B2D)
}
