//! Counts of tests, with a name and a reason for each that did not pass.

use std::fmt;

/// A test that failed or was skipped, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The test's name within its part.
    pub(crate) name: String,
    /// The reason; empty if the printed output says it.
    pub(crate) reason: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.as_str() {
            "" => write!(f, "{}", self.name),
            reason => write!(f, "{}: {reason}", self.name),
        }
    }
}

/// The result of one part of the tests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many passed.
    pub(crate) passed_count: u64,
    /// Those that failed.
    pub(crate) failed: Vec<Note>,
    /// Those that were not run.
    pub(crate) skipped: Vec<Note>,
}

impl Tally {
    /// A part that could not be set up: one skipped test in its place.
    pub(crate) fn skip(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut tally = Self::default();
        tally.note_skipped(name, reason);
        tally
    }

    /// A part that failed as a whole: one failed test in its place.
    pub(crate) fn fail(name: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut tally = Self::default();
        tally.note_failed(name, reason);
        tally
    }

    /// Counts one passed test.
    pub(crate) fn note_passed(&mut self) {
        self.passed_count += 1;
    }

    /// Counts one failed test.
    pub(crate) fn note_failed(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.failed.push(Note { name: name.into(), reason: reason.into() });
    }

    /// Counts one skipped test.
    pub(crate) fn note_skipped(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Note { name: name.into(), reason: reason.into() });
    }

    /// Adds a part's counts to the total.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed_count += other.passed_count;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

impl fmt::Display for Tally {
    /// The closing line, in exactly this form: continuous integration reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed_count, failed, skipped } = self;
        write!(f, "{passed_count} passed, {} failed, {} skipped", failed.len(), skipped.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_counts_every_part() {
        let mut total = Tally::default();
        total.note_passed();
        let mut part = Tally::skip("fuzz", "no nightly");
        part.note_passed();
        part.note_failed("a test", "");
        total.add(part);
        assert_eq!(total.to_string(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(total.skipped[0].to_string(), "fuzz: no nightly");
        assert_eq!(total.failed[0].to_string(), "a test");
    }
}
