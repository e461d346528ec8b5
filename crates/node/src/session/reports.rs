//! Reports about messages that a channel holds.

use std::collections::BTreeMap;

use outcome::Report;

/// See the module's documentation. By delivery tag.
#[derive(Default)]
pub(super) struct Reports {
    by_tag: BTreeMap<u64, Report>,
    bytes: usize,
}

impl Reports {
    /// Returns the one that was there.
    pub(super) fn insert(&mut self, tag: u64, report: Report) -> Option<Report> {
        self.bytes += report.body.len();
        let before = self.by_tag.insert(tag, report);
        self.bytes -= before.as_ref().map_or(0, |before| before.body.len());
        before
    }

    pub(super) fn take(&mut self, tag: u64) -> Option<Report> {
        if self.by_tag.is_empty() {
            return None;
        }
        let report = self.by_tag.remove(&tag)?;
        self.bytes -= report.body.len();
        Some(report)
    }

    /// Bytes of all bodies.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Report> {
        self.by_tag.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_that_are_held() {
        let report = |bytes| Report { body: vec![0; bytes], ..Report::default() };
        let mut reports = Reports::default();
        assert!(reports.insert(1, report(10)).is_none());
        assert!(reports.insert(2, report(5)).is_none());
        assert_eq!(reports.insert(1, report(3)), Some(report(10)));
        assert_eq!((reports.bytes(), reports.all().count()), (8, 2));
        assert_eq!((reports.take(1), reports.take(1)), (Some(report(3)), None));
        assert_eq!(reports.bytes(), 5);
    }
}
