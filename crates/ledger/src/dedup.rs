//! The window of known ids: how it identifies a message in a queue, and what its entries say.
//!
//! An entry's value is a time, and whether the id was *seen* then or *freed*: a message that was
//! refused, purged or cancelled may come again. The greatest value of a key counts, so the lowest bit
//! says which it is.

use std::hash::Hasher;

use outcome::IdHash;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::lookup::Lookup;

/// How the window identifies an id in a queue: each queue sees an id on its own. The queue is known
/// by its name, so a queue that is deleted and declared again remembers its ids; the id's hash
/// includes the virtual host.
pub fn dedup_key(id: IdHash, queue: &str) -> u128 {
    let mut hasher = SipHasher13::new_with_keys(id.0 as u64, (id.0 >> 64) as u64);
    hasher.write(queue.as_bytes());
    hasher.finish128().as_u128()
}

/// What a key's value becomes when another is added to it: [`after`], or the greater of both where
/// the order is not known any more.
pub(crate) type After = fn(u64, u64) -> u64;

/// Notes that a queue took in a message with the id.
pub(crate) fn see(window: &Lookup, id: IdHash, queue: &str, time_ms: u64, after: After) {
    window.follow(dedup_key(id, queue), seen(time_ms), after);
}

/// Notes that the id is free again.
pub(crate) fn free(window: &Lookup, id: IdHash, queue: &str, time_ms: u64, after: After) {
    let key = dedup_key(id, queue);
    // Ids that the window does not know need no entry. If the disk fails, it may.
    if window.latest(key).map_or(true, |known| known.is_some()) {
        window.follow(key, freed(time_ms), after);
    }
}

/// A queue took in a message with the id.
pub(crate) fn seen(time_ms: u64) -> u64 {
    time_ms << 1
}

/// The id is free again.
fn freed(time_ms: u64) -> u64 {
    time_ms << 1 | 1
}

/// When the id was seen; `None` if it is free.
pub(crate) fn seen_at_ms(value: u64) -> Option<u64> {
    (value & 1 == 0).then_some(value >> 1)
}

/// What a key's value becomes when something else happens to its id: it must be greater, even if
/// both happened in the same millisecond.
pub(crate) fn after(before: u64, value: u64) -> u64 {
    let is_news = before & 1 != value & 1;
    match value > before || !is_news {
        true => value.max(before),
        false => before + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_later_counts_even_within_a_millisecond() {
        let mut value = seen(7);
        for (then, expected) in [
            (seen(7), Some(7)),
            (freed(7), None),
            (freed(7), None),
            (seen(7), Some(8)),
            (freed(7), None),
            (seen(20), Some(20)),
            (seen(3), Some(20)),
        ] {
            let next = after(value, then);
            assert!(next >= value);
            value = next;
            assert_eq!(seen_at_ms(value), expected);
        }
    }

    #[test]
    fn a_queue_knows_an_id_by_its_name() {
        let key = |vhost: &str, id: &str, queue: &str| dedup_key(IdHash::new(vhost, id), queue);
        assert_eq!(key("/", "m", "q"), key("/", "m", "q"));
        let all = [key("/", "m", "q"), key("/", "m", "r"), key("/", "n", "q"), key("v", "m", "q")];
        assert!((1..all.len()).all(|at| !all[..at].contains(&all[at])));
    }
}
