//! Field tables: owned, or left in their bytes, and what leads from one to the other.

mod borrowed;
mod decode;
mod encode;
mod owned;
mod writer;

pub use borrowed::{ArrayRef, TableRef, ValueRef};
pub use owned::{FieldTable, FieldValue};
pub use writer::TableWriter;
