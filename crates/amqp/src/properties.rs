//! Message properties of class `basic`: flags, then the fields that are present, in fixed order.
//!
//! A broker passes the raw bytes on and decodes only what it needs; [`Properties`] borrows from
//! them and leaves the headers undecoded. Texts are mostly, but not always, UTF-8. The table below
//! gives the flag, field and type of each.

use bstr::{BStr, BString, ByteSlice};

use crate::wire::{Reader, Writer};
use crate::{DecodeError, FieldTable, TableRef};

macro_rules! properties {
    ($($(#[$meta:meta])* $field:ident: $kind:ident, $flag:literal;)*) => {
        /// Message properties, borrowed from the content header.
        #[derive(Debug, Clone, Copy, Default, PartialEq)]
        pub struct Properties<'a> {
            $($(#[$meta])* pub $field: Option<properties!(@borrowed $kind)>,)*
        }

        /// Message properties with owned values, for building messages.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct OwnedProperties {
            $($(#[$meta])* pub $field: Option<properties!(@owned $kind)>,)*
        }

        impl<'a> Properties<'a> {
            /// Decodes flags and fields; the headers stay as bytes.
            #[inline]
            pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(bytes);
                let flags = reader.short()?;
                if flags & UNUSED_FLAGS != 0 {
                    return Err(DecodeError::BadFlags(flags));
                }
                let mut properties = Self::default();
                $(if flags & (1 << $flag) != 0 {
                    properties.$field = Some(properties!(@read $kind, reader));
                })*
                reader.finish()?;
                Ok(properties)
            }

            /// Appends flags and fields.
            pub fn encode(&self, out: &mut Vec<u8>) {
                let flags = 0 $(| u16::from(self.$field.is_some()) << $flag)*;
                out.extend_from_slice(&u16::to_be_bytes(flags));
                $(if let Some(value) = self.$field {
                    properties!(@write_borrowed $kind, out, value);
                })*
            }
        }

        impl OwnedProperties {
            /// Decodes flags and fields, headers included.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                Self::try_from(&Properties::decode(bytes)?)
            }

            /// Appends flags and fields.
            pub fn encode(&self, out: &mut Vec<u8>) {
                let flags = 0 $(| u16::from(self.$field.is_some()) << $flag)*;
                out.extend_from_slice(&u16::to_be_bytes(flags));
                $(if let Some(value) = &self.$field {
                    properties!(@write_owned $kind, out, value);
                })*
            }
        }

        /// Fails if the headers cannot be split into entries; values that cannot be decoded are
        /// kept as they came.
        impl TryFrom<&Properties<'_>> for OwnedProperties {
            type Error = DecodeError;

            fn try_from(from: &Properties<'_>) -> Result<Self, DecodeError> {
                Ok(Self {
                    $($field: match from.$field {
                        Some(value) => Some(properties!(@to_owned $kind, value)),
                        None => None,
                    },)*
                })
            }
        }
    };
    (@borrowed shortbytes) => { &'a BStr };
    (@borrowed table) => { TableRef<'a> };
    (@borrowed octet) => { u8 };
    (@borrowed timestamp) => { u64 };
    (@owned shortbytes) => { BString };
    (@owned table) => { FieldTable };
    (@owned octet) => { u8 };
    (@owned timestamp) => { u64 };
    (@read table, $reader:ident) => { TableRef::new($reader.longstr()?) };
    (@read $kind:ident, $reader:ident) => { $reader.$kind()? };
    (@write_borrowed table, $out:ident, $value:ident) => {
        Writer::new($out).longstr($value.as_bytes())
    };
    (@write_borrowed $kind:ident, $out:ident, $value:ident) => { Writer::new($out).$kind($value) };
    (@write_owned table, $out:ident, $value:ident) => { $value.encode_with_length($out) };
    (@write_owned shortbytes, $out:ident, $value:ident) => {
        Writer::new($out).shortbytes($value.as_bstr())
    };
    (@write_owned $kind:ident, $out:ident, $value:ident) => { Writer::new($out).$kind(*$value) };
    (@to_owned table, $value:ident) => { $value.to_headers()? };
    (@to_owned shortbytes, $value:ident) => { $value.to_owned() };
    (@to_owned $kind:ident, $value:ident) => { $value };
}

/// The continuation bit (there are no more flags in class `basic`) and the bit nobody uses.
const UNUSED_FLAGS: u16 = 0b11;

properties! {
    /// MIME type of the body.
    content_type: shortbytes, 15;
    /// MIME encoding of the body.
    content_encoding: shortbytes, 14;
    /// Headers.
    headers: table, 13;
    /// 2 for persistent, anything else for transient.
    delivery_mode: octet, 12;
    /// Priority in a queue with `x-max-priority`.
    priority: octet, 11;
    /// Ties a reply to its request.
    correlation_id: shortbytes, 10;
    /// Queue to send the reply to.
    reply_to: shortbytes, 9;
    /// Time to live in milliseconds, as decimal digits.
    expiration: shortbytes, 8;
    /// The application's id for the message.
    message_id: shortbytes, 7;
    /// Seconds since 1970.
    timestamp: timestamp, 6;
    /// The `type` property: what kind of message this is.
    kind: shortbytes, 5;
    /// The user who published; the broker checks it.
    user_id: shortbytes, 4;
    /// The application that published.
    app_id: shortbytes, 3;
    /// Not used any more.
    cluster_id: shortbytes, 2;
}
