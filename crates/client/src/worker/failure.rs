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

/// An error as tower's layers have it.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A failure as an error, which it is not itself.
#[derive(Debug)]
struct Boxed(Failure);

impl Error for Boxed {}

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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

    /// Tried again, as any error is: for those that `?` cannot convert, errors in a box and what becomes one,
    /// such as `anyhow::Error` (`.map_err(Failure::from_boxed)?`). A failure that was put into the box comes
    /// out as it was.
    pub fn from_boxed(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => Self { text: with_causes(&*error), then: Then::Retry },
        }
    }

    /// The failure in an error that a [layer](crate::WorkerBuilder::layer) sees, if the handler returned
    /// one.
    pub fn of(error: &BoxError) -> Option<&Self> {
        error.downcast_ref::<Boxed>().map(|boxed| &boxed.0)
    }

    /// As an error, as layers have them.
    pub fn boxed(self) -> BoxError {
        Box::new(Boxed(self))
    }

    /// The deadline has passed, and nobody waits for it any more.
    pub fn late() -> Self {
        Self::permanent("the deadline passed before it was done")
    }

    pub(crate) fn then(&self) -> Then {
        self.then
    }

    /// Nobody is to try again.
    #[cfg(feature = "sql")]
    pub(crate) fn is_permanent(&self) -> bool {
        self.then == Then::GiveUp
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
        let boxed = failure.boxed();
        assert_eq!(Failure::of(&boxed).map(Failure::then), Some(Then::Retry));
        let boxed = Failure::from_boxed(Failure::late().boxed());
        assert_eq!(boxed.then(), Then::GiveUp, "it comes out as it went in");
        let other = Failure::from_boxed(std::io::Error::other("no route"));
        assert_eq!((other.to_string(), other.then()), ("no route".to_owned(), Then::Retry));
        let permanent: Result<(), Failure> = (|| Err(Failure::permanent("sold out"))?)();
        assert_eq!(permanent.expect_err("it fails").then(), Then::GiveUp);
    }
}
