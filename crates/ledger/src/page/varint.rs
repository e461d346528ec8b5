//! Numbers of variable length, and the reading of bytes that may be anything.
//!
//! Owns the encoding: seven bits per byte, the lowest first; the upper bit says that more follow.
//! Reading never panics: it returns `None` for what is not there.

use bstr::BStr;

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends `to - from`, in whichever direction; any two numbers have a difference modulo 2^64.
pub(super) fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from) as i64;
    put(out, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// Appends bytes, preceded by their number.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes still to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number that must fit its type.
    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    /// A number written as its difference from `from`.
    pub(super) fn difference(&mut self, from: u64) -> Option<u64> {
        let zigzag = self.number()?;
        let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        Some(from.wrapping_add(difference as u64))
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes preceded by their number.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.small()?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Option<&'a BStr> {
        self.bytes().map(BStr::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_differences_come_back() {
        let numbers = [0, 1, 127, 128, 300, 1 << 40, u64::MAX - 1, u64::MAX];
        let mut out = Vec::new();
        for number in numbers {
            put(&mut out, number);
            for other in numbers {
                put_difference(&mut out, number, other);
            }
        }
        let mut input = Input(&out);
        for number in numbers {
            assert_eq!(input.number(), Some(number));
            for other in numbers {
                assert_eq!(input.difference(number), Some(other));
            }
        }
        assert!(input.is_empty());
        assert_eq!(input.number(), None);
    }

    #[test]
    fn a_number_without_end_is_none() {
        assert_eq!(Input(&[0x80; 11]).number(), None);
        assert_eq!(Input(&[0x80; 3]).number(), None);
        assert_eq!(Input(&[5, 1]).bytes(), None);
    }
}
