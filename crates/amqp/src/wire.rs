//! Reads and writes the elementary types (AMQP 0-9-1, section 4.2.5), with bits packed.

use bstr::{BStr, ByteSlice};

use crate::DecodeError;

/// The most bytes a short string can have.
const SHORT_STRING_BYTES_MAX: usize = 255;

/// Reads fields from the front of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    bits: u8,
    /// How many bits of `bits` are still unread; reading any other field drops them.
    bits_left: u8,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input, bits: 0, bits_left: 0 }
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        self.bits_left = 0;
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        self.bits_left = 0;
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        if self.bits_left == 0 {
            let [bits] = self.array("bit")?;
            self.bits = bits;
            self.bits_left = 8;
        }
        let bit = self.bits & 1 != 0;
        self.bits >>= 1;
        self.bits_left -= 1;
        Ok(bit)
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, DecodeError> {
        let [octet] = self.array("octet")?;
        Ok(octet)
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array("short")?))
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array("long")?))
    }

    #[inline]
    pub(crate) fn longlong(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array("longlong")?))
    }

    #[inline]
    pub(crate) fn timestamp(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array("timestamp")?))
    }

    /// A short string that must be UTF-8.
    #[inline]
    pub(crate) fn shortstr(&mut self) -> Result<&'a str, DecodeError> {
        self.shortbytes()?.to_str().map_err(|_| DecodeError::NotUtf8)
    }

    /// A short string as it came.
    #[inline]
    pub(crate) fn shortbytes(&mut self) -> Result<&'a BStr, DecodeError> {
        let [length] = self.array("short string")?;
        Ok(self.take(usize::from(length), "short string")?.as_bstr())
    }

    #[inline]
    pub(crate) fn longstr(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = u32::from_be_bytes(self.array("long string")?);
        self.take(length as usize, "long string")
    }

    #[inline]
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }
}

/// Appends fields to a buffer. [`finish`](Self::finish) writes the last bits.
pub(crate) struct Writer<'o> {
    out: &'o mut Vec<u8>,
    bits: u8,
    bit_count: u8,
}

impl<'o> Writer<'o> {
    #[inline]
    pub(crate) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, bits: 0, bit_count: 0 }
    }

    #[inline]
    fn flush_bits(&mut self) {
        if self.bit_count > 0 {
            self.out.push(self.bits);
            self.bits = 0;
            self.bit_count = 0;
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.flush_bits();
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn bit(&mut self, bit: bool) {
        if self.bit_count == 8 {
            self.flush_bits();
        }
        self.bits |= u8::from(bit) << self.bit_count;
        self.bit_count += 1;
    }

    #[inline]
    pub(crate) fn octet(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    #[inline]
    pub(crate) fn short(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn long(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn longlong(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn timestamp(&mut self, value: u64) {
        self.longlong(value);
    }

    #[inline]
    pub(crate) fn shortstr(&mut self, value: &str) {
        self.shortbytes(clip(value).into());
    }

    /// A short string that need not be UTF-8; what is over 255 bytes is cut.
    #[inline]
    pub(crate) fn shortbytes(&mut self, value: &BStr) {
        let value = &value[..value.len().min(SHORT_STRING_BYTES_MAX)];
        self.octet(value.len() as u8);
        self.out.extend_from_slice(value);
    }

    #[inline]
    pub(crate) fn longstr(&mut self, value: &[u8]) {
        self.long(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.out.extend_from_slice(&value[..value.len().min(u32::MAX as usize)]);
    }

    /// The buffer to append to, with the bits so far written out.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        self.flush_bits();
        self.out
    }

    #[inline]
    pub(crate) fn finish(mut self) {
        self.flush_bits();
    }
}

/// The longest prefix of `text` that fits a short string (255 bytes) and is still UTF-8.
///
/// Only text that the server makes is ever cut (reply texts quote names of any length); names of
/// exchanges and queues come from short strings and are never too long.
#[inline]
pub(crate) fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHORT_STRING_BYTES_MAX)]
}

/// Appends what `body` writes, with its length in front.
pub(crate) fn with_length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
