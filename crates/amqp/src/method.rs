//! The methods of AMQP 0-9-1 and RabbitMQ's extensions: a struct for each, and one flat enum over
//! all.
//!
//! The list itself is in `method/list.rs`; the macro here turns it into structs, the enum, and
//! decoding and encoding. Reserved fields are skipped on reading and written as zero.
//!
//! As in RabbitMQ, names in methods without content must be UTF-8 (`shortstr`); what publishers write
//! next to content need not be (`shortbytes`).

use bstr::BStr;

use crate::wire::{Reader, Writer};
use crate::{DecodeError, FieldTable};

macro_rules! field_type {
    (bit) => { bool };
    (octet) => { u8 };
    (short) => { u16 };
    (long) => { u32 };
    (longlong) => { u64 };
    (timestamp) => { u64 };
    (shortstr) => { &'a str };
    (shortbytes) => { &'a BStr };
    (longstr) => { &'a [u8] };
    (table) => { FieldTable };
}

macro_rules! write_field {
    ($writer:ident, table, $value:expr) => {
        $writer.table($value)
    };
    ($writer:ident, shortstr, $value:expr) => {
        $writer.shortstr($value)
    };
    ($writer:ident, shortbytes, $value:expr) => {
        $writer.shortbytes($value)
    };
    ($writer:ident, longstr, $value:expr) => {
        $writer.longstr($value)
    };
    ($writer:ident, $kind:ident, $value:expr) => {
        $writer.$kind(*$value)
    };
}

macro_rules! write_reserved {
    ($writer:ident, shortstr) => {
        $writer.shortstr("")
    };
    ($writer:ident, longstr) => {
        $writer.longstr(b"")
    };
    ($writer:ident, bit) => {
        $writer.bit(false)
    };
    ($writer:ident, $kind:ident) => {
        $writer.$kind(0)
    };
}

/// `Name<'a> (class, method, "name") [reserved before] { fields } [reserved after];`
macro_rules! methods {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$lt:lifetime>)? ($class:literal, $method:literal, $text:literal)
        [$($before:ident)*] { $($field:ident: $kind:ident),* $(,)? } [$($after:ident)*];
    )*) => {
        $(
            $(#[$meta])*
            #[derive(Debug, Clone, Default, PartialEq)]
            #[allow(missing_docs, reason = "the fields are those of the specification")]
            pub struct $name $(<$lt>)? {
                $(pub $field: field_type!($kind),)*
            }

            impl<'a> From<$name $(<$lt>)?> for Method<'a> {
                #[inline]
                fn from(method: $name $(<$lt>)?) -> Self {
                    Self::$name(method)
                }
            }
        )*

        /// Any method. The structs say what each is for.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "documented at the struct of the same name")]
        pub enum Method<'a> {
            $($name($name $(<$lt>)?),)*
        }

        impl<'a> Method<'a> {
            /// Decodes the payload of a method frame.
            #[inline]
            pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(payload);
                let class = reader.short()?;
                let method = reader.short()?;
                let decoded = match (class, method) {
                    $(($class, $method) => {
                        $(reader.$before()?;)*
                        let decoded = $name { $($field: reader.$kind()?,)* };
                        $(reader.$after()?;)*
                        Self::$name(decoded)
                    })*
                    _ => return Err(DecodeError::UnknownMethod { class, method }),
                };
                reader.finish()?;
                Ok(decoded)
            }

            /// Appends the payload of a method frame.
            #[inline]
            pub fn encode(&self, out: &mut Vec<u8>) {
                let mut writer = Writer::new(out);
                match self {
                    $(Self::$name($name { $($field,)* }) => {
                        writer.long($class << 16 | $method);
                        $(write_reserved!(writer, $before);)*
                        $(write_field!(writer, $kind, $field);)*
                        $(write_reserved!(writer, $after);)*
                    })*
                }
                writer.finish();
            }

            /// The class id.
            pub fn class_id(&self) -> u16 {
                match self { $(Self::$name(_) => $class,)* }
            }

            /// The method id within the class.
            pub fn method_id(&self) -> u16 {
                match self { $(Self::$name(_) => $method,)* }
            }

            /// The name in the specification, such as `basic.publish`.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => $text,)* }
            }

            /// One method of each kind, with fields drawn from `source`.
            #[cfg(test)]
            pub(crate) fn samples(source: &'a crate::tests::Source) -> Vec<Self> {
                vec![$(Self::$name($name { $($field: source.$kind(),)* }),)*]
            }
        }
    };
}

mod list;
pub use list::*;

impl Method<'_> {
    /// Whether a content header and body follow the method.
    #[inline]
    pub fn carries_content(&self) -> bool {
        matches!(
            self,
            Self::BasicPublish(_)
                | Self::BasicDeliver(_)
                | Self::BasicReturn(_)
                | Self::BasicGetOk(_)
        )
    }
}
