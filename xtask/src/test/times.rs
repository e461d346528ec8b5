//! How long each part of the tests took, as a table.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Parts that have ended, in the order in which they were noted.
#[derive(Debug)]
pub(crate) struct Times {
    start: Instant,
    parts: Vec<(&'static str, Duration)>,
}

impl Times {
    /// Starts the clock for the whole run.
    pub(crate) fn begin() -> Self {
        Self { start: Instant::now(), parts: Vec::new() }
    }

    /// Adds a part.
    pub(crate) fn note(&mut self, part: &'static str, took: Duration) {
        self.parts.push((part, took));
    }
}

impl fmt::Display for Times {
    /// A line for each part, and one for the whole, which is less than the sum if parts ran side by
    /// side.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, &self.parts, self.start.elapsed())
    }
}

fn table(
    f: &mut impl fmt::Write,
    parts: &[(&'static str, Duration)],
    whole: Duration,
) -> fmt::Result {
    let names = parts.iter().map(|(name, _)| name.len());
    let width = names.chain(["whole".len()]).max().unwrap_or(0);
    for (name, took) in parts.iter().chain(&[("whole", whole)]) {
        writeln!(f, "{name:width$} {:8.1} s", took.as_secs_f64())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_part_and_one_for_the_whole() {
        let mut text = String::new();
        let parts =
            [("build", Duration::from_millis(61_440)), ("suite-amqp", Duration::from_millis(50))];
        table(&mut text, &parts, Duration::from_secs(1234)).expect("a string takes everything");
        let expected = "build          61.4 s\nsuite-amqp      0.1 s\nwhole        1234.0 s\n";
        assert_eq!(text, expected);
    }
}
