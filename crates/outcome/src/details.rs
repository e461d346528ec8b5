//! What there is to say about an outcome besides the [`Verdict`](crate::Verdict): everything of
//! variable length.
//!
//! Borrowed where it is only passed on (the log's writer allocates nothing), owned where it is
//! kept.

use std::borrow::Cow;

/// See the module's documentation.
///
/// A worker's report is either an error or a result: at most one of `error` and `result` is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details<'a> {
    /// The message's id.
    pub message_id: Cow<'a, str>,
    /// Who settled it; empty if nobody did.
    pub worker: Cow<'a, str>,
    /// The worker's error text.
    pub error: Option<Cow<'a, str>>,
    /// The content type of the result.
    pub content_type: Option<Cow<'a, str>>,
    /// The worker's result.
    pub result: Option<Cow<'a, [u8]>>,
    /// Where the message was dead-lettered to.
    pub dead_letter_exchange: Option<Cow<'a, str>>,
}

impl Details<'_> {
    /// These details, borrowed.
    pub fn borrowed(&self) -> Details<'_> {
        fn text<'a>(text: &'a Option<Cow<'_, str>>) -> Option<Cow<'a, str>> {
            text.as_deref().map(Cow::Borrowed)
        }
        Details {
            message_id: Cow::Borrowed(&self.message_id),
            worker: Cow::Borrowed(&self.worker),
            error: text(&self.error),
            content_type: text(&self.content_type),
            result: self.result.as_deref().map(Cow::Borrowed),
            dead_letter_exchange: text(&self.dead_letter_exchange),
        }
    }

    /// These details, owned.
    pub fn into_owned(self) -> Details<'static> {
        fn text(text: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(text.into_owned())
        }
        Details {
            message_id: text(self.message_id),
            worker: text(self.worker),
            error: self.error.map(text),
            content_type: self.content_type.map(text),
            result: self.result.map(|bytes| Cow::Owned(bytes.into_owned())),
            dead_letter_exchange: self.dead_letter_exchange.map(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrowed_and_owned_say_the_same() {
        let details = Details {
            message_id: "m".into(),
            worker: "w".into(),
            error: Some("no".into()),
            content_type: Some("text/plain".into()),
            result: Some(b"yes".as_slice().into()),
            dead_letter_exchange: Some("".into()),
        };
        assert_eq!(details.borrowed(), details);
        assert_eq!(details.clone().into_owned(), details);
        assert_eq!(Details::default().into_owned(), Details::default());
    }
}
