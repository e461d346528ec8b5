//! What is found missing at the start: files that somebody deleted or that a disk lost.
//!
//! Each part of the store knows how far it had followed the message log, and the log knows its
//! segments. Where they disagree something is gone, and the operator is told what, with numbers: a
//! silent start looks like a good one. The node goes on wherever that loses nothing that is still
//! there; otherwise it refuses to start ([`NodeError::Loss`]) until the operator accepts that.

use segment_log::{Missing, Recovery, SegmentStat};

use crate::NodeError;

/// How far each part of the store had got when it was opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Followed {
    /// How far the definitions had followed the log.
    pub definitions: u64,
    /// How far the ledger had followed the log.
    pub ledger: u64,
    /// The definitions held nothing at all: no user, virtual host or queue.
    pub definitions_were_blank: bool,
}

impl Followed {
    /// No position before this may be used again: some part of the store remembers it.
    pub(crate) fn position_min(&self) -> u64 {
        self.definitions.max(self.ledger)
    }

    /// What is missing, a line each.
    ///
    /// # Errors
    /// [`NodeError::Loss`] if going on would lose what is still there, unless that is accepted.
    pub(crate) fn losses(
        &self,
        log: &Recovery,
        segments: &[SegmentStat],
        accepts_loss: bool,
    ) -> Result<Vec<String>, NodeError> {
        let mut losses: Vec<String> = log.missing.iter().map(missing_segment).collect();
        if log.is_manifest_damaged {
            losses.push(
                "the list of the log's segments (log/segments) is damaged; whether a segment is missing cannot be told"
                    .to_owned(),
            );
        }
        losses.extend(self.short_log(segments));
        let begin = segments.first().map_or(0, |segment| segment.base);
        let has_history = begin > 0 && log.record_count > 0;
        if self.ledger == 0 && has_history {
            losses.push(format!(
                "the ledger had followed nothing, but the log begins at position {begin}: what became of messages before is forgotten, and so are their ids; the rest is read from the log again"
            ));
        }
        if self.definitions_were_blank && has_history {
            let records = log.record_count;
            let loss = format!(
                "definitions.redb is missing or empty, but the log begins at position {begin} and holds {records} records: the users, permissions, queues and bindings declared before are gone, and messages of queues that nobody knows would be deleted. Put definitions.redb back from a copy; or start with --accept-loss to go on with what the log still has"
            );
            if !accepts_loss {
                return Err(NodeError::Loss { text: loss });
            }
            losses.push(loss);
        }
        Ok(losses)
    }

    fn short_log(&self, segments: &[SegmentStat]) -> Option<String> {
        let has_records = |segment: &&SegmentStat| segment.end > segment.base;
        let end = segments.iter().filter(has_records).map(|segment| segment.end).max().unwrap_or(0);
        let known = self.position_min();
        (end < known).then(|| {
            let Self { definitions, ledger, .. } = self;
            let bytes = known - end;
            format!(
                "the log ends at position {end}, but the definitions had followed it to {definitions} and the ledger to {ledger}: its last {bytes} bytes or more are gone, and the messages and settlements in them; new ones begin at position {known}"
            )
        })
    }
}

fn missing_segment(missing: &Missing) -> String {
    let Missing { segment, base, end } = missing;
    let bytes = end - base;
    if base > segment {
        return format!(
            "the segment log/{segment:020}.log was cut: its last {bytes} bytes, at positions {base} to {end}, are gone, with the messages and settlements in them; messages whose settlements stood there come again"
        );
    }
    format!(
        "the segment log/{base:020}.log is missing: up to {bytes} bytes, at positions {base} to {end}, with the messages and settlements in them; messages whose settlements stood there come again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(record_count: u64, missing: Vec<Missing>) -> Recovery {
        Recovery { record_count, missing, ..Recovery::default() }
    }

    fn segment(base: u64, end: u64) -> SegmentStat {
        SegmentStat { base, end, is_active: false }
    }

    #[test]
    fn what_is_missing_is_told_with_numbers() {
        let check = |followed: Followed, log: Recovery, segments: &[SegmentStat], told: &[&str]| {
            let losses = followed.losses(&log, segments, false).expect("nothing more to lose");
            assert_eq!(losses.len(), told.len(), "{losses:?}");
            for (loss, words) in losses.iter().zip(told) {
                assert!(words.split('|').all(|word| loss.contains(word)), "{loss}");
            }
        };
        let followed =
            |definitions, ledger| Followed { definitions, ledger, ..Followed::default() };
        let whole = [segment(0, 500)];
        check(followed(0, 0), log(3, vec![]), &whole, &[]);
        check(followed(500, 500), log(3, vec![]), &whole, &[]);
        check(followed(700, 800), log(3, vec![]), &whole, &["500|700|800|300 bytes"]);
        check(followed(70, 80), log(0, vec![]), &[segment(80, 80)], &["position 0|70|80|80 bytes"]);
        check(followed(400, 0), log(3, vec![]), &[segment(300, 500)], &["ledger|300"]);
        let gone = |base| vec![Missing { segment: 100, base, end: 160 }];
        check(followed(400, 400), log(3, gone(100)), &whole, &["00100.log|60 bytes|100 to 160"]);
        check(
            followed(400, 400),
            log(3, gone(120)),
            &whole,
            &["00100.log|cut|40 bytes|120 to 160"],
        );
        let damaged = Recovery { is_manifest_damaged: true, ..Recovery::default() };
        check(followed(0, 0), damaged, &[], &["log/segments"]);
    }

    #[test]
    fn messages_of_queues_that_nobody_knows_are_not_deleted_unasked() {
        let blank = Followed { definitions_were_blank: true, ledger: 500, ..Followed::default() };
        let segments = [segment(300, 500)];
        let refused = blank.losses(&log(3, vec![]), &segments, false);
        let text = refused.expect_err("there is something to lose").to_string();
        assert!(text.contains("--accept-loss") && text.contains("300"), "{text}");
        let losses = blank.losses(&log(3, vec![]), &segments, true).expect("accepted");
        assert_eq!(losses.len(), 1);
        // The log still has all definitions that ever existed, or nothing is left to lose.
        for (log, segments) in [(log(3, vec![]), [segment(0, 500)]), (log(0, vec![]), segments)] {
            assert!(blank.losses(&log, &segments, false).is_ok());
        }
    }
}
