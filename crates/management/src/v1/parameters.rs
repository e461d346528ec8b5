//! Parameters that several calls share.

use std::time::Duration;

use crate::ports::{Cursor, Outcome, Ports};
use crate::problem::{Answer, Problem};
use crate::time;

/// How long a request may wait.
const WAIT_S_MAX: u64 = 60;

pub(super) fn outcome(name: &str) -> Answer<Outcome> {
    Outcome::parse(name).ok_or_else(|| {
        let names = Outcome::ALL.map(Outcome::name).join(", ");
        Problem::bad(format!("'{name}' is no outcome; there are {names}"))
    })
}

pub(super) fn cursor(ports: &Ports, name: &str, text: &str) -> Answer<Cursor> {
    let cursor = ports.messages.cursor(text);
    cursor.map_err(|error| Problem::bad(format!("{name}: {error}; take one that you got")))
}

pub(super) fn time(name: &str, text: &str) -> Answer<u64> {
    time::parse(text).ok_or_else(|| {
        let forms = "a time like 2026-11-22T12:00:00Z, or milliseconds since 1970";
        Problem::bad(format!("query: {name} is {forms}"))
    })
}

pub(super) fn wait(seconds: Option<u64>) -> Answer<Duration> {
    match seconds.unwrap_or(0) {
        seconds @ 0..=WAIT_S_MAX => Ok(Duration::from_secs(seconds)),
        _ => {
            Err(Problem::bad(format!("query: wait is a number of seconds from 0 to {WAIT_S_MAX}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_bounded() {
        assert_eq!(wait(None).ok(), Some(Duration::ZERO));
        assert_eq!(wait(Some(60)).ok(), Some(Duration::from_secs(60)));
        assert!(wait(Some(61)).is_err());
    }
}
