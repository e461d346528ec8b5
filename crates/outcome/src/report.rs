//! What a worker says of a message that it settles.

use std::sync::Arc;

/// Bytes of a result or an error text that are kept; what is beyond is cut off.
pub const REPORT_BYTES_MAX: usize = 64 << 10;

/// Who settled a delivery, and what they said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettledBy {
    /// As in `x-worker`.
    pub worker: Arc<str>,
    /// What the worker published to `amq.wilco.report` before.
    pub report: Option<Report>,
}

/// A worker's result or error text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Whether the body is an error text (`x-outcome: failed`), not a result.
    pub is_error: bool,
    /// The content type of a result.
    pub content_type: Option<String>,
    /// At most [`REPORT_BYTES_MAX`] of what was published.
    pub body: Vec<u8>,
    /// Bytes that were published.
    pub bytes_published: u64,
    /// Names who waits for the producer to receive it, 0 for nobody.
    pub ticket: u64,
}
