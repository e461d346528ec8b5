//! What a worker reports about a message that it settles.

use std::sync::Arc;

use amqp::{BStr, BString, ByteSlice};

use crate::Ticket;

/// Bytes of a result or an error text that are kept; the rest is cut off.
pub const REPORT_BYTES_MAX: usize = 64 << 10;

/// Who settled a delivery, and what they reported about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettledBy {
    /// As [`Worker`](crate::Worker) reads it.
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
    pub content_type: Option<BString>,
    /// At most [`REPORT_BYTES_MAX`] of what was published.
    pub body: Vec<u8>,
    /// Bytes of the whole body as published.
    pub bytes_published: u64,
    /// Identifies the confirm that is held until the producer has received the report.
    pub ticket: Option<Ticket>,
}

impl Report {
    /// The error text, if it is one: mostly, but not always, UTF-8.
    pub fn error(&self) -> Option<&BStr> {
        self.is_error.then(|| self.body.as_bstr())
    }

    /// The result, if it is one.
    pub fn result(&self) -> Option<&[u8]> {
        (!self.is_error).then_some(&*self.body)
    }

    /// The content type of a result.
    pub fn content_type(&self) -> Option<&BStr> {
        self.content_type.as_deref().filter(|_| !self.is_error).map(BStr::new)
    }

    /// The size of what was published, if only its beginning is kept.
    pub fn cut_from_bytes(&self) -> Option<u64> {
        let is_cut = self.bytes_published > self.body.len() as u64;
        is_cut.then_some(self.bytes_published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_error: bool, body: &[u8]) -> Report {
        Report {
            is_error,
            content_type: Some("text/plain".into()),
            body: body.to_owned(),
            bytes_published: body.len() as u64,
            ticket: None,
        }
    }

    #[test]
    fn a_report_is_a_result_or_an_error() {
        let result = report(false, b"done");
        let said = (result.error(), result.result(), result.content_type());
        assert_eq!(said, (None, Some(b"done".as_slice()), Some("text/plain".into())));
        let error = report(true, b"no");
        assert_eq!(
            (error.error(), error.result(), error.content_type()),
            (Some("no".into()), None, None)
        );
    }

    #[test]
    fn a_report_knows_whether_something_is_missing() {
        let mut report = report(false, b"beginning");
        assert_eq!(report.cut_from_bytes(), None);
        report.bytes_published = 70_000;
        assert_eq!(report.cut_from_bytes(), Some(70_000));
    }
}
