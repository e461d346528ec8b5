//! Message ids in the form of UUIDs: a random beginning, and a counter as the last 12 hexadecimal
//! digits. So the id that comes back says which message it belongs to, without a table of ids.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Bytes of an id.
pub(super) const ID_BYTES: usize = 36;
/// Bytes of an id's counter, at its end.
pub(super) const COUNTER_BYTES: usize = 12;
const PREFIX_BYTES: usize = ID_BYTES - COUNTER_BYTES;

/// The ids of one producer.
pub(super) struct Ids {
    prefix: [u8; PREFIX_BYTES],
}

impl Ids {
    /// Ids unlike those of any other producer or run.
    pub(super) fn random() -> Self {
        // Seeded by the operating system; more than enough to be unique.
        let random = || RandomState::new().build_hasher().finish();
        let digits = format!("{:016x}{:016x}", random(), random());
        // Version 4, variant 1: `xxxxxxxx-xxxx-4xxx-8xxx-`.
        let pieces = [&digits[..8], "-", &digits[8..12], "-4", &digits[12..15], "-8"];
        let text = pieces.concat() + &digits[16..19] + "-";
        let mut prefix = [b'-'; PREFIX_BYTES];
        prefix.copy_from_slice(text.as_bytes());
        Self { prefix }
    }

    /// The id with this counter, as text.
    pub(super) fn id(&self, counter: u64) -> String {
        let digits = counter_digits(counter);
        self.prefix.iter().chain(&digits).copied().map(char::from).collect()
    }

    /// The counter in an id; `None` if it is not one of these.
    #[inline]
    pub(super) fn counter_of(&self, id: &str) -> Option<u64> {
        let (prefix, digits) = id.as_bytes().split_first_chunk::<PREFIX_BYTES>()?;
        let digits: &[u8; COUNTER_BYTES] = digits.try_into().ok()?;
        if *prefix != self.prefix {
            return None;
        }
        digits.iter().try_fold(0, |counter, digit| {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some(counter << 4 | u64::from(value))
        })
    }
}

/// The end of the id with this counter.
#[inline]
pub(super) fn counter_digits(counter: u64) -> [u8; COUNTER_BYTES] {
    let mut digits = [0; COUNTER_BYTES];
    let mut rest = counter;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_shape_of_a_uuid_and_gives_its_counter_back() {
        let ids = Ids::random();
        for counter in [0, 1, 0x0123_4567_89ab, (1 << 48) - 1] {
            let id = ids.id(counter);
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert_eq!((id.len(), &id[14..15], &id[19..20]), (ID_BYTES, "4", "8"), "{id}");
            assert_eq!(ids.counter_of(&id), Some(counter));
        }
    }

    #[test]
    fn foreign_and_malformed_ids_have_no_counter() {
        let ids = Ids::random();
        let id = ids.id(7);
        assert_eq!(ids.counter_of(&Ids::random().id(7)), None);
        assert_eq!(ids.counter_of(""), None);
        assert_eq!(ids.counter_of(&id[..35]), None);
        assert_eq!(ids.counter_of(&format!("{id}0")), None);
        assert_eq!(ids.counter_of(&id.replace("000007", "00000g")), None);
        assert_eq!(ids.counter_of(&id.replace("000007", "00000é")), None);
    }
}
