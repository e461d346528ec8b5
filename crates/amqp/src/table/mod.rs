//! Field tables: owned, or borrowed as bytes, and the encoding and decoding between the two.

mod borrowed;
mod decode;
mod encode;
mod owned;
mod writer;

pub use borrowed::{ArrayRef, TableRef, ValueRef};
pub use owned::{FieldTable, FieldValue};
pub use writer::TableWriter;
