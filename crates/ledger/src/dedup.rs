//! How the window of known ids identifies a message.

use outcome::IdHash;

/// How the window identifies a message in a queue: each queue sees an id on its own.
pub fn dedup_key(id: IdHash, queue_id: u32) -> u128 {
    // Multiplying by an odd number loses nothing; the queue's number is spread over all bits.
    let spread = u128::from(queue_id)
        .wrapping_add(1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    (id.0 ^ spread).wrapping_mul(0xD6E8_FEB8_6659_FD93_A5A3_564E_2AC4_1B2D)
}
