//! How far a worker has got with a message that takes long.

use crate::target::Key;

/// How far a worker has got: what it said last with [`Context::progress`](crate::Context::progress).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// From 0 to 1.
    pub fraction: f64,
    /// What it is doing, in words.
    pub text: String,
    /// Which attempt it is.
    pub attempt: u16,
    /// The queue whose worker says so.
    pub queue: String,
}

/// Of which message.
#[derive(Debug, Clone)]
pub(crate) struct Progressed {
    pub(crate) key: Key,
    pub(crate) progress: Progress,
}

/// Of a text, so much is passed on.
const TEXT_BYTES_MAX: usize = 1024;

impl Progress {
    pub(crate) fn new(fraction: f64, text: &str, attempt: u32, queue: &str) -> Self {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self {
            fraction,
            text: text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned(),
            attempt: u16::try_from(attempt).unwrap_or(u16::MAX),
            queue: queue.to_owned(),
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0} %", self.fraction * 100.0)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}
