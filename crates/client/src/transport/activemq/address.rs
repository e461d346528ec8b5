//! Names of queues as ActiveMQ takes them.
//!
//! Some characters in an address mean another queue than the one of that name, or several: wildcards (`*` and
//! `#` in both brokers, `>` in Classic), `ADDRESS::QUEUE` in Artemis, lists with commas, `?options` and
//! `queue://` in Classic, which also cuts off blanks at the ends. There is no way to quote them, so a name that has
//! any of these is refused. *Invariant:* a name of a queue never means another queue.

use super::management::MANAGEMENT;
use crate::error::{Error, ErrorKind};

/// What has a meaning of its own in an address.
const SPECIAL: [char; 5] = ['*', '#', '>', ',', '?'];
const SPECIAL_SEQUENCES: [&str; 2] = ["::", "://"];

/// How Classic begins the addresses that it gives out.
const QUEUE_PREFIX: &str = "queue://";
const TEMPORARY_PREFIX: &str = "temp-queue://";

fn is_plain(name: &str) -> bool {
    // As Java's `trim` has it.
    let is_blank = |octet: &u8| *octet <= b' ';
    let (first, last) = (name.as_bytes().first(), name.as_bytes().last());
    !name.is_empty()
        && name != MANAGEMENT
        && !name.contains(SPECIAL)
        && !SPECIAL_SEQUENCES.iter().any(|sequence| name.contains(sequence))
        && !first.is_some_and(is_blank)
        && !last.is_some_and(is_blank)
}

/// Whether a queue can have this name here.
pub(super) fn check(name: &str) -> Result<(), Error> {
    if is_plain(name) {
        return Ok(());
    }
    let text = format!(
        "'{}' cannot be the name of a queue on ActiveMQ: *, #, >, a comma, ?, :: and :// mean other queues there, \
         blanks at the ends nothing, and {MANAGEMENT} takes orders",
        name.escape_debug()
    );
    Err(Error::new(ErrorKind::Invalid, text))
}

/// The address to which a producer wants to be told, or `None` if it is not the address of one queue.
pub(super) fn of_reply(reply_to: &str) -> Option<&str> {
    let name = reply_to.strip_prefix(QUEUE_PREFIX).unwrap_or(reply_to);
    // A queue that goes with its connection is known by all of this.
    let plain = name.strip_prefix(TEMPORARY_PREFIX).unwrap_or(name);
    is_plain(plain).then_some(name)
}

/// Whether an address is that of a temporary queue, which only its maker can make.
pub(super) fn is_temporary(address: &str) -> bool {
    address.starts_with(TEMPORARY_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_other_queues_are_refused() {
        for name in
            ["orders", "größe.1", "a b", "a:b", "a/b", "$x", "wilco.outcomes.0-1", "ActiveMQ.DLQ"]
        {
            assert!(check(name).is_ok(), "{name}");
        }
        let refused = [
            "",
            MANAGEMENT,
            "*",
            "a.*",
            "a.#",
            "a.>",
            ">",
            "a,b",
            "a?consumer.exclusive=true",
            "a::b",
            "queue://a",
            "topic://a",
            " a",
            "a ",
            "a\t",
            "\u{1}a",
        ];
        for name in refused {
            let error = check(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn replies_go_to_one_queue() {
        assert_eq!(of_reply("a"), Some("a"));
        assert_eq!(of_reply("queue://a"), Some("a"));
        assert_eq!(of_reply("temp-queue://ID:x-1:2"), Some("temp-queue://ID:x-1:2"));
        for address in ["topic://a", "queue://a,b", "queue://>", "temp-queue://a,queue://b", ""] {
            assert_eq!(of_reply(address), None, "{address}");
        }
    }
}
