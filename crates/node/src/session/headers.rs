//! What the broker itself reads in a message's headers: found in one pass, and only where there are
//! headers.

use amqp::{ByteSlice, TableRef};
use broker::BrokerError;
use outcome::OutcomeRequest;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Headers {
    /// Whether there is a `CC` or `BCC`.
    pub has_copies: bool,
    pub has_bcc: bool,
    /// What the message asks for.
    pub request: OutcomeRequest,
}

impl Headers {
    /// # Errors
    /// `SYNTAX_ERROR` for headers that cannot be decoded, `PRECONDITION_FAILED` for an invalid
    /// value.
    pub(super) fn scan(headers: Option<TableRef<'_>>) -> Result<Self, BrokerError> {
        let mut found = Self::default();
        for header in headers.iter().flat_map(|headers| headers.iter()) {
            let (name, value) = header.map_err(|e| BrokerError::syntax_error(e.to_string()))?;
            match name.as_bytes() {
                b"CC" => found.has_copies = true,
                b"BCC" => (found.has_copies, found.has_bcc) = (true, true),
                _ if name.starts_with(b"x-") => found.request.take_header(name, &value)?,
                _ => {}
            }
        }
        Ok(found)
    }
}
