//! How a handler says that it could not do its work.

use std::error::Error;
use std::fmt::{self, Write};
use std::time::Duration;

/// Why a handler could not do its work, and whether somebody is to try again.
///
/// Any error becomes one by `?`, and its message is tried again: errors that nobody thought of are
/// mostly of the kind that passes. What will never work is said to be [`permanent`](Self::permanent).
///
/// It is no [`std::error::Error`] itself, as otherwise `?` could not make it of all others.
#[derive(Debug)]
pub struct Failure {
    text: String,
    then: Then,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// After the worker's backoff.
    Retry,
    RetryAfter(Duration),
    GiveUp,
}

impl Failure {
    /// It will not work, however often it is tried: the producer is told that the message has failed,
    /// with this text.
    pub fn permanent(why: impl fmt::Display) -> Self {
        Self { text: why.to_string(), then: Then::GiveUp }
    }

    /// It did not work now: somebody tries again after the worker's backoff, up to the worker's number
    /// of attempts.
    pub fn retry(why: impl fmt::Display) -> Self {
        Self { text: why.to_string(), then: Then::Retry }
    }

    /// It may work after this time, as when somebody else said so.
    pub fn retry_after(delay: Duration, why: impl fmt::Display) -> Self {
        Self { text: why.to_string(), then: Then::RetryAfter(delay) }
    }

    /// Tried again, as any error is: for those in a box, which `?` cannot convert.
    pub fn from_boxed(error: Box<dyn Error + Send + Sync>) -> Self {
        Self { text: with_causes(&*error), then: Then::Retry }
    }

    /// The deadline has passed, and nobody waits for it any more.
    pub fn late() -> Self {
        Self::permanent("the deadline passed before it was done")
    }

    pub(crate) fn then(&self) -> Then {
        self.then
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// Tried again. The text is that of the error and of all that caused it.
impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { text: with_causes(&error), then: Then::Retry }
    }
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_tried_again_and_tells_what_caused_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("no broker")]
        struct NoBroker(#[source] std::io::Error);
        let fails = || -> Result<(), Failure> { Err(NoBroker(std::io::Error::other("no route")))? };
        let failure = fails().expect_err("it fails");
        let expected = ("no broker: no route".to_owned(), Then::Retry);
        assert_eq!((failure.to_string(), failure.then()), expected);
        let permanent: Result<(), Failure> = (|| Err(Failure::permanent("sold out"))?)();
        assert_eq!(permanent.expect_err("it fails").then(), Then::GiveUp);
    }
}
