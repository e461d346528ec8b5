//! The ledger against a model, and on a disk that fails.

mod basic;
mod crash;
mod damage;
mod forgetting;
mod format;
mod model;
mod support;
