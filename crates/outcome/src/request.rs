//! What a producer asks for: `x-notify`, `x-confirm-on`, `x-deadline`, as message headers or queue
//! arguments. The message's headers win.

use amqp::{BStr, FieldValue, ValueRef};

use crate::Outcome;

/// The default deadline of a confirm that waits for an ack, ms.
pub const DEADLINE_MS_DEFAULT: u64 = 30_000;
/// The longest time that anybody may ask for, ms: ten years, as in RabbitMQ.
pub const DURATION_MS_MAX: u64 = 315_360_000_000;

/// `x-notify`: which outcomes a producer is notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Notify {
    /// Of every one.
    All = 1,
    /// Only if the message was processed.
    Processed = 2,
    /// Only if it was not.
    Failed = 3,
}

impl Notify {
    /// The value with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::All, Self::Processed, Self::Failed].into_iter().find(|n| *n as u8 == number)
    }

    /// Whether this outcome is asked for.
    pub fn wants(self, outcome: Outcome) -> bool {
        match self {
            Self::All => true,
            Self::Processed => outcome == Outcome::Processed,
            Self::Failed => outcome != Outcome::Processed,
        }
    }
}

/// A value that makes no sense; the text says what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RequestError(String);

/// See the module's documentation. `None` means not specified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutcomeRequest {
    /// `x-notify`.
    pub notify: Option<Notify>,
    /// Whether `x-confirm-on` is `ack`.
    pub confirm_on_ack: Option<bool>,
    /// `x-deadline`, ms from publishing; never 0.
    pub deadline_ms: Option<u64>,
}

impl OutcomeRequest {
    /// Names of the headers and arguments.
    pub const NAMES: [&str; 3] = ["x-notify", "x-confirm-on", "x-deadline"];

    /// Whether anything is asked for.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// What the message asks for and, where it does not specify, what its queue asks for.
    pub fn or(self, queue: Self) -> Self {
        Self {
            notify: self.notify.or(queue.notify),
            confirm_on_ack: self.confirm_on_ack.or(queue.confirm_on_ack),
            deadline_ms: self.deadline_ms.or(queue.deadline_ms),
        }
    }

    /// Takes over one header of a message, if it is one of these.
    ///
    /// # Errors
    /// A value that makes no sense, with the header's name.
    pub fn take_header(&mut self, name: &BStr, value: &ValueRef<'_>) -> Result<(), RequestError> {
        let Some(name) = Self::NAMES.into_iter().find(|known| name == *known) else {
            return Ok(());
        };
        if matches!(value, ValueRef::Void) {
            return Ok(());
        }
        self.take(name, value.as_str(), value.as_i64())
            .map_err(|text| RequestError(format!("header '{name}': {text}")))
    }

    /// Takes over one argument of a queue, if it is one of these.
    ///
    /// # Errors
    /// A value that makes no sense.
    pub fn take_argument(&mut self, name: &str, value: &FieldValue) -> Result<(), RequestError> {
        self.take(name, value.as_str(), value.as_i64()).map_err(RequestError)
    }

    fn take(&mut self, name: &str, text: Option<&str>, number: Option<i64>) -> Result<(), String> {
        match name {
            "x-notify" => {
                self.notify = Some(match text {
                    Some("all") => Notify::All,
                    Some("processed") => Notify::Processed,
                    Some("failed") => Notify::Failed,
                    _ => return Err("it must be 'all', 'processed' or 'failed'".to_owned()),
                });
            }
            "x-confirm-on" => {
                self.confirm_on_ack = Some(match text {
                    Some("enqueue") => false,
                    Some("ack") => true,
                    _ => return Err("it must be 'enqueue' or 'ack'".to_owned()),
                });
            }
            "x-deadline" => match number {
                Some(ms) if (1..=DURATION_MS_MAX as i64).contains(&ms) => {
                    self.deadline_ms = Some(ms as u64);
                }
                _ => {
                    return Err(format!(
                        "it must be an integer from 1 to {DURATION_MS_MAX}, milliseconds from publishing"
                    ));
                }
            },
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, value: FieldValue) -> Result<OutcomeRequest, RequestError> {
        let mut request = OutcomeRequest::default();
        request.take_argument(name, &value).map(|()| request)
    }

    #[test]
    fn values_mean_what_they_say() {
        let notify = |n| Ok(OutcomeRequest { notify: Some(n), ..OutcomeRequest::default() });
        assert_eq!(taken("x-notify", "all".into()), notify(Notify::All));
        assert_eq!(taken("x-notify", "processed".into()), notify(Notify::Processed));
        assert_eq!(taken("x-notify", "failed".into()), notify(Notify::Failed));
        let on_ack =
            |on| Ok(OutcomeRequest { confirm_on_ack: Some(on), ..OutcomeRequest::default() });
        assert_eq!(taken("x-confirm-on", "ack".into()), on_ack(true));
        assert_eq!(taken("x-confirm-on", "enqueue".into()), on_ack(false));
        let deadline = Ok(OutcomeRequest { deadline_ms: Some(250), ..OutcomeRequest::default() });
        assert_eq!(taken("x-deadline", FieldValue::I32(250)), deadline);
        assert_eq!(taken("x-other", "all".into()), Ok(OutcomeRequest::default()));
    }

    /// One value of every type.
    fn of_every_type() -> Vec<FieldValue> {
        vec![
            FieldValue::Bool(true),
            FieldValue::I8(7),
            FieldValue::U8(7),
            FieldValue::I16(7),
            FieldValue::U16(7),
            FieldValue::I32(7),
            FieldValue::U32(7),
            FieldValue::I64(7),
            FieldValue::F32(7.0),
            FieldValue::F64(7.0),
            FieldValue::Decimal { scale: 0, value: 7 },
            FieldValue::LongString(b"ack".to_vec()),
            FieldValue::LongString(b"all".to_vec()),
            FieldValue::LongString(b"\xff".to_vec()),
            FieldValue::Array(vec!["all".into()]),
            FieldValue::Timestamp(7),
            FieldValue::Table(amqp::FieldTable::new()),
            FieldValue::Bytes(b"all".to_vec()),
        ]
    }

    fn header(name: &str, value: &FieldValue) -> Result<OutcomeRequest, RequestError> {
        let headers: amqp::FieldTable = [(name, value.clone())].into_iter().collect();
        let mut encoded = Vec::new();
        amqp::OwnedProperties { headers: Some(headers), ..Default::default() }.encode(&mut encoded);
        let properties = amqp::Properties::decode(&encoded).expect("just encoded");
        let mut request = OutcomeRequest::default();
        for entry in properties.headers.expect("there are headers").iter() {
            let (name, value) = entry.expect("just encoded");
            request.take_header(name, &value)?;
        }
        Ok(request)
    }

    #[test]
    fn only_text_and_integers_of_any_width_have_sense() {
        for value in of_every_type() {
            for (name, has_sense) in [
                ("x-notify", value.as_str() == Some("all")),
                ("x-confirm-on", value.as_str() == Some("ack")),
                ("x-deadline", value.as_i64() == Some(7)),
                ("x-other", true),
            ] {
                let as_argument = taken(name, value.clone());
                assert_eq!(as_argument.is_ok(), has_sense, "{name} {value:?}");
                match (as_argument, header(name, &value)) {
                    (Ok(as_argument), Ok(as_header)) => assert_eq!(as_argument, as_header),
                    (Err(text), Err(error)) => {
                        assert_eq!(error.to_string(), format!("header '{name}': {text}"));
                    }
                    other => panic!("{name} {value:?}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_header_of_type_void_says_nothing_and_an_argument_is_refused() {
        for name in OutcomeRequest::NAMES {
            assert_eq!(header(name, &FieldValue::Void), Ok(OutcomeRequest::default()));
            assert!(taken(name, FieldValue::Void).is_err());
        }
    }

    #[test]
    fn a_deadline_is_from_1_ms_to_ten_years() {
        let max_ms = DURATION_MS_MAX as i64;
        for (ms, is_taken) in
            [(i64::MIN, false), (0, false), (1, true), (max_ms, true), (max_ms + 1, false)]
        {
            let deadline_ms = taken("x-deadline", FieldValue::I64(ms)).map(|a| a.deadline_ms);
            let refused =
                "it must be an integer from 1 to 315360000000, milliseconds from publishing";
            let expected =
                if is_taken { Ok(Some(ms as u64)) } else { Err(RequestError(refused.to_owned())) };
            assert_eq!(deadline_ms, expected);
        }
    }

    #[test]
    fn values_without_sense_are_refused() {
        for (name, value) in [
            ("x-notify", "sometimes".into()),
            ("x-notify", FieldValue::Bool(true)),
            ("x-confirm-on", "never".into()),
            ("x-confirm-on", FieldValue::I32(1)),
            ("x-deadline", FieldValue::I32(-1)),
            ("x-deadline", FieldValue::I32(0)),
            ("x-deadline", FieldValue::I64(1 << 40)),
            ("x-deadline", "soon".into()),
        ] {
            assert!(taken(name, value.clone()).is_err(), "{name} {value:?}");
        }
    }

    #[test]
    fn the_message_wins_over_its_queue() {
        let message = OutcomeRequest { notify: Some(Notify::Failed), ..OutcomeRequest::default() };
        let queue = OutcomeRequest {
            notify: Some(Notify::All),
            confirm_on_ack: Some(true),
            deadline_ms: Some(9),
        };
        let both = message.or(queue);
        assert_eq!(both, OutcomeRequest { notify: Some(Notify::Failed), ..queue });
        assert!(both.is_any() && !OutcomeRequest::default().is_any());
    }

    #[test]
    fn failed_is_everything_but_processed() {
        for outcome in Outcome::ALL {
            let is_processed = outcome == Outcome::Processed;
            assert!(Notify::All.wants(outcome));
            assert_eq!(Notify::Processed.wants(outcome), is_processed);
            assert_eq!(Notify::Failed.wants(outcome), !is_processed);
        }
    }
}
