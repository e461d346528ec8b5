//! The atomics of what several threads work on: std's, but that a test can have shuttle choose who
//! goes on before each operation. Never here: counters that nothing is decided by.

pub(crate) use std::sync::atomic::Ordering;

#[cfg(test)]
pub(crate) use crate::interleaving::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
