//! The message ids of a page, each written once: as virtual host and id, or as a hash alone.
//!
//! Owns how an id is written: what looks like a UUID takes sixteen bytes, and the hash is left out
//! if it follows from the text. Invariant: reading gives back the same text, byte for byte.

use std::borrow::Cow;

use bstr::{BStr, ByteSlice};
use hashbrown::HashTable;

use super::strings::{self, Role, Strings};
use super::varint::{self, Input};
use outcome::IdHash;

/// Only the hash is known.
const HASH: u8 = 0;
/// Written out.
const TEXT: u8 = 1;
/// 36 lower-case hexadecimal digits with hyphens, as a UUID.
const HYPHENATED: u8 = 2;
/// 32 lower-case hexadecimal digits.
const SIMPLE: u8 = 3;
/// Added to a form: the hash follows, since it is not that of virtual host and id.
const WITH_HASH: u8 = 4;

/// The ids of the page being written.
#[derive(Debug, Default)]
pub(super) struct Ids {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The latest entry for each hash.
    numbers: HashTable<u32>,
}

#[derive(Debug)]
struct Entry {
    hash: u128,
    is_named: bool,
}

/// An id's number in the page, and whether it is new to the page.
pub(super) struct Met {
    pub(super) number: u32,
    pub(super) is_new: bool,
}

impl Ids {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.numbers.clear();
    }

    /// For an event that identifies the message by hash.
    pub(super) fn by_hash(&mut self, id: IdHash) -> Met {
        if let Some(number) = self.find(id.0) {
            return Met { number, is_new: false };
        }
        self.bytes.push(HASH);
        self.bytes.extend_from_slice(&id.0.to_le_bytes());
        self.push(id.0, false)
    }

    /// For an event that names the virtual host and the id.
    pub(super) fn by_name(
        &mut self,
        id: IdHash,
        vhost: &str,
        text: &BStr,
        strings: &mut Strings,
    ) -> Met {
        let is_its_hash = IdHash::new(vhost, text) == id;
        if is_its_hash
            && let Some(number) = self.find(id.0)
            && self.entries[number as usize].is_named
        {
            return Met { number, is_new: false };
        }
        let (form, packed) = pack(text);
        let with_hash = if is_its_hash { 0 } else { WITH_HASH };
        self.bytes.push(form | with_hash);
        strings.put(&mut self.bytes, Role::Vhost, vhost.as_bytes());
        match form {
            TEXT => varint::put_bytes(&mut self.bytes, text),
            _ => self.bytes.extend_from_slice(&packed),
        }
        if !is_its_hash {
            self.bytes.extend_from_slice(&id.0.to_le_bytes());
        }
        self.push(id.0, is_its_hash)
    }

    fn find(&self, hash: u128) -> Option<u32> {
        let is_it = |number: &u32| self.entries[*number as usize].hash == hash;
        self.numbers.find(hash as u64, is_it).copied()
    }

    fn push(&mut self, hash: u128, is_named: bool) -> Met {
        let number = self.entries.len() as u32;
        self.entries.push(Entry { hash, is_named });
        let entries = &self.entries;
        let is_it = |other: &u32| entries[*other as usize].hash == hash;
        if let Some(known) = self.numbers.find_mut(hash as u64, is_it) {
            *known = number;
            return Met { number, is_new: false };
        }
        self.numbers
            .insert_unique(hash as u64, number, |other| entries[*other as usize].hash as u64);
        Met { number, is_new: true }
    }
}

/// An id as it is stored in a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id<'a> {
    vhost: &'a str,
    text: Text<'a>,
    hash: Option<u128>,
}

#[derive(Debug, Clone, Copy)]
enum Text<'a> {
    Unknown,
    Plain(&'a BStr),
    Hyphenated(&'a [u8]),
    Simple(&'a [u8]),
}

impl<'a> Id<'a> {
    /// The virtual host; empty if it is not known.
    pub(crate) fn vhost(&self) -> &'a str {
        self.vhost
    }

    /// The id; empty if it is not known.
    pub(crate) fn text(&self) -> Cow<'a, BStr> {
        let mut buffer = [0; 36];
        match self.text {
            Text::Plain(text) => Cow::Borrowed(text),
            _ => Cow::Owned(self.unpacked(&mut buffer).to_owned()),
        }
    }

    pub(crate) fn hash(&self) -> IdHash {
        let mut buffer = [0; 36];
        self.hash.map_or_else(|| IdHash::new(self.vhost, self.unpacked(&mut buffer)), IdHash)
    }

    fn unpacked<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b BStr
    where
        'a: 'b,
    {
        match self.text {
            Text::Unknown => BStr::new(""),
            Text::Plain(text) => text,
            Text::Hyphenated(bytes) => unpack(bytes, &[4, 6, 8, 10], buffer),
            Text::Simple(bytes) => unpack(bytes, &[], buffer),
        }
    }
}

/// All ids of a page.
pub(super) fn decode<'a>(bytes: &'a [u8], strings: &[&'a BStr]) -> Option<Vec<Id<'a>>> {
    let mut input = Input(bytes);
    let mut ids = Vec::new();
    while !input.is_empty() {
        let form = input.byte()?;
        let (vhost, text) = match form & !WITH_HASH {
            HASH => ("", Text::Unknown),
            other => {
                let vhost = strings::read(&mut input, strings)?.to_str().ok()?;
                let text = match other {
                    TEXT => Text::Plain(input.text()?),
                    HYPHENATED => Text::Hyphenated(input.take(16)?),
                    SIMPLE => Text::Simple(input.take(16)?),
                    _ => return None,
                };
                (vhost, text)
            }
        };
        let hash = if form == HASH || form & WITH_HASH != 0 {
            Some(u128::from_le_bytes(input.take(16)?.try_into().ok()?))
        } else {
            None
        };
        ids.push(Id { vhost, text, hash });
    }
    Some(ids)
}

/// The form an id is written in, and its bytes unless the form is [`TEXT`].
fn pack(bytes: &[u8]) -> (u8, [u8; 16]) {
    let mut packed = [0; 16];
    let form = match bytes.len() {
        36 if [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-') => HYPHENATED,
        32 => SIMPLE,
        _ => return (TEXT, packed),
    };
    let mut at = 0;
    for (index, byte) in packed.iter_mut().enumerate() {
        if form == HYPHENATED && matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        let (high, low) = (NIBBLES[usize::from(bytes[at])], NIBBLES[usize::from(bytes[at + 1])]);
        if high | low > 0xF {
            return (TEXT, packed);
        }
        *byte = high << 4 | low;
        at += 2;
    }
    (form, packed)
}

/// The bytes as digits, with a hyphen before each of the numbered bytes.
fn unpack<'b>(bytes: &[u8], hyphens: &[usize], buffer: &'b mut [u8; 36]) -> &'b BStr {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if hyphens.contains(&index) {
            buffer[at] = b'-';
            at += 1;
        }
        buffer[at] = DIGITS[usize::from(byte >> 4)];
        buffer[at + 1] = DIGITS[usize::from(byte & 0xF)];
        at += 2;
    }
    buffer[..at].as_bstr()
}

/// The value of a lower-case hexadecimal digit; 0xFF for any other byte.
static NIBBLES: [u8; 256] = {
    let mut nibbles = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        let digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        nibbles[digit as usize] = value;
        value += 1;
    }
    nibbles
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_were_whatever_they_look_like() {
        let texts = [
            "",
            "a",
            "0190b3f4-8d2a-7c11-9e55-0242ac120002",
            "0190B3F4-8D2A-7C11-9E55-0242AC120002",
            "0190b3f4-8d2a-7c11-9e55-0242ac12000g",
            "0190b3f4-8d2a-7c11-9e55-0242ac1200-2",
            "0190b3f48d2a7c119e550242ac120002",
            "0190b3f48d2a7c119e550242ac12000-",
            "0190b3f4_8d2a_7c11_9e55_0242ac120002",
            "ünïcödé",
        ];
        let texts = texts.map(BStr::new).into_iter().chain([BStr::new(b"\xFF\xFE")]);
        let texts: Vec<&BStr> = texts.collect();
        let (mut ids, mut strings) = (Ids::default(), Strings::default());
        for &text in &texts {
            assert!(ids.by_name(IdHash::new("v", text), "v", text, &mut strings).is_new);
            assert!(!ids.by_hash(IdHash::new("v", text)).is_new);
        }
        assert!(ids.by_name(IdHash(7), "w", "of another hash".into(), &mut strings).is_new);
        assert!(ids.by_hash(IdHash(8)).is_new);
        let strings = strings::decode(strings.bytes()).unwrap();
        let read = decode(ids.bytes(), &strings).unwrap();
        for (id, text) in read.iter().zip(texts.iter().copied()) {
            assert_eq!((id.vhost(), &*id.text(), id.hash()), ("v", text, IdHash::new("v", text)));
        }
        let others: Vec<_> = read[texts.len()..].iter().map(|id| (id.text(), id.hash())).collect();
        let text = |text| Cow::Borrowed(BStr::new(text));
        assert_eq!(others, [(text("of another hash"), IdHash(7)), (text(""), IdHash(8))]);
    }

    #[test]
    fn a_uuid_takes_eighteen_bytes() {
        let (mut ids, mut strings) = (Ids::default(), Strings::default());
        let text = BStr::new("0190b3f4-8d2a-7c11-9e55-0242ac120002");
        ids.by_name(IdHash::new("/", text), "/", text, &mut strings);
        assert_eq!(ids.bytes().len(), 18);
    }
}
