//! Times as clients write and read them: RFC 3339, or milliseconds since the epoch.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// The end of the year 9999, ms since the epoch.
const MS_MAX: u64 = 253_402_300_799_999;

/// Milliseconds since the epoch as RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(ms: u64) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", timestamp.unwrap_or(Timestamp::MAX))
}

/// Reads either form as milliseconds since the epoch. Earlier times become 0.
pub(crate) fn parse(text: &str) -> Option<u64> {
    if let Ok(ms) = text.parse() {
        return Some(ms).filter(|ms| *ms <= MS_MAX);
    }
    let timestamp: Timestamp = text.parse().ok()?;
    Some(u64::try_from(timestamp.as_millisecond()).unwrap_or(0))
}

/// Now, ms since the epoch.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock that says a time before 1970 has not been set.
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let check = |text: &str, expected| assert_eq!(parse(text), expected, "{text}");
        check("0", Some(0));
        check("1792000000123", Some(1_792_000_000_123));
        check("1970-01-01T00:00:01Z", Some(1000));
        check("1970-01-01T01:00:01.5+01:00", Some(1500));
        check("1960-01-01T00:00:00Z", Some(0));
        check("253402300799999", Some(MS_MAX));
        check("253402300800000", None);
        check("yesterday", None);
        check("-1", None);
        check("", None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(rfc3339(1500), "1970-01-01T00:00:01.500Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(parse(&rfc3339(1_792_000_000_123)), Some(1_792_000_000_123));
    }
}
