//! What there is to say about an outcome besides the [`Verdict`](crate::Verdict): everything of
//! variable length.
//!
//! Borrowed where it is only passed on (the log's writer allocates nothing), owned where it is
//! kept.

use std::borrow::Cow;

use amqp::BStr;

/// See the module's documentation.
///
/// A worker's report is either an error or a result: at most one of `error` and `result` is set. What
/// clients wrote (id, error, content type) need not be UTF-8; names are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details<'a> {
    /// The message's id.
    pub message_id: Cow<'a, BStr>,
    /// Who settled it, as [`Worker`](crate::Worker) reads it; empty if nobody did.
    pub worker: Cow<'a, str>,
    /// The worker's error text.
    pub error: Option<Cow<'a, BStr>>,
    /// The content type of the result.
    pub content_type: Option<Cow<'a, BStr>>,
    /// The worker's result.
    pub result: Option<Cow<'a, [u8]>>,
    /// Where the message was dead-lettered to.
    pub dead_letter_exchange: Option<Cow<'a, str>>,
}

impl Details<'_> {
    /// These details, borrowed.
    pub fn borrowed(&self) -> Details<'_> {
        Details {
            message_id: Cow::Borrowed(&self.message_id),
            worker: Cow::Borrowed(&self.worker),
            error: self.error.as_deref().map(Cow::Borrowed),
            content_type: self.content_type.as_deref().map(Cow::Borrowed),
            result: self.result.as_deref().map(Cow::Borrowed),
            dead_letter_exchange: self.dead_letter_exchange.as_deref().map(Cow::Borrowed),
        }
    }

    /// These details, owned.
    pub fn into_owned(self) -> Details<'static> {
        fn owned<T: ToOwned + ?Sized>(text: Cow<'_, T>) -> Cow<'static, T> {
            Cow::Owned(text.into_owned())
        }
        Details {
            message_id: owned(self.message_id),
            worker: owned(self.worker),
            error: self.error.map(owned),
            content_type: self.content_type.map(owned),
            result: self.result.map(owned),
            dead_letter_exchange: self.dead_letter_exchange.map(owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowed_and_owned_say_the_same() {
        let details = Details {
            message_id: BStr::new("m").into(),
            worker: "w".into(),
            error: Some(BStr::new("no").into()),
            content_type: Some(BStr::new("text/plain").into()),
            result: Some(b"yes".as_slice().into()),
            dead_letter_exchange: Some("".into()),
        };
        assert_eq!(details.borrowed(), details);
        assert_eq!(details.clone().into_owned(), details);
        assert_eq!(Details::default().into_owned(), Details::default());
    }
}
