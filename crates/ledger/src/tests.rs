//! The ledger against what it should be, and a disk that fails.

mod basic;
mod crash;
mod damage;
mod forgetting;
mod format;
mod model;
mod support;
