//! Encoding of owned tables and values.

use bstr::ByteSlice;

use super::owned::{FieldTable, FieldValue};
use crate::wire::{Writer, with_length};

impl FieldTable {
    /// Appends the table with its length in front.
    pub fn encode_with_length(&self, out: &mut Vec<u8>) {
        with_length(out, |out| {
            for (name, value) in &self.0 {
                Writer::new(out).shortbytes(name.as_bstr());
                value.encode(out);
            }
        });
    }
}

impl Writer<'_> {
    /// A table, with its length in front.
    pub(crate) fn table(&mut self, value: &FieldTable) {
        value.encode_with_length(self.buffer());
    }
}

impl FieldValue {
    /// Appends type octet and value.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(v) => out.extend_from_slice(&[b't', u8::from(*v)]),
            Self::I8(v) => out.extend_from_slice(&[b'b', *v as u8]),
            Self::U8(v) => out.extend_from_slice(&[b'B', *v]),
            Self::I16(v) => tagged(out, b's', &v.to_be_bytes()),
            Self::U16(v) => tagged(out, b'u', &v.to_be_bytes()),
            Self::I32(v) => tagged(out, b'I', &v.to_be_bytes()),
            Self::U32(v) => tagged(out, b'i', &v.to_be_bytes()),
            Self::I64(v) => tagged(out, b'l', &v.to_be_bytes()),
            Self::F32(v) => tagged(out, b'f', &v.to_be_bytes()),
            Self::F64(v) => tagged(out, b'd', &v.to_be_bytes()),
            Self::Decimal { scale, value } => {
                out.extend_from_slice(&[b'D', *scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::LongString(v) => {
                out.push(b'S');
                Writer::new(out).longstr(v);
            }
            Self::Array(values) => {
                out.push(b'A');
                with_length(out, |out| values.iter().for_each(|value| value.encode(out)));
            }
            Self::Timestamp(v) => tagged(out, b'T', &v.to_be_bytes()),
            Self::Table(table) => {
                out.push(b'F');
                table.encode_with_length(out);
            }
            Self::Void => out.push(b'V'),
            Self::Bytes(v) => {
                out.push(b'x');
                Writer::new(out).longstr(v);
            }
            Self::Undecoded { octet, content } => {
                out.push(*octet);
                Writer::new(out).longstr(content);
            }
        }
    }
}

fn tagged(out: &mut Vec<u8>, octet: u8, bytes: &[u8]) {
    out.push(octet);
    out.extend_from_slice(bytes);
}
