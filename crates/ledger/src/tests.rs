//! The ledger against what it should be, and a disk that fails.

mod basic;
mod model;
mod support;
