//! Which messages of a partition are done, for a group that can only say "all before this one": what is done
//! behind the first that is not is kept beside that, in the text which Kafka stores with a committed offset.
//!
//! Pure. The text also has how often each unfinished message was begun: whoever takes the partition over after a
//! crash neither works again on what is done, nor for ever on what ends its worker.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// What Kafka stores at most, unless configured otherwise (`offset.metadata.max.bytes`).
const TEXT_BYTES_MAX: usize = 4000;
/// How the text begins; another version's is not read.
const VERSION: &str = "wilco1";

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// So often.
    Begun(u32),
    Done,
}

/// What is to be done with a message that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handed {
    /// It was begun before so often.
    Work { attempts_before: u32 },
    /// It is done.
    Known,
}

/// The messages of one partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// Those that were handed out, from the first on that is not done.
    marks: BTreeMap<i64, Mark>,
    /// Behind the last that was handed out.
    end: i64,
    /// What whoever had the partition before has left: runs of first, behind the last, mark.
    earlier: Vec<(i64, i64, Mark)>,
}

impl Offsets {
    /// Begins where somebody else has ended.
    pub(super) fn new(committed: i64, text: &str) -> Self {
        let earlier = parse(committed, text).unwrap_or_default();
        Self { marks: BTreeMap::new(), end: committed, earlier }
    }

    fn earlier(&self, offset: i64) -> Option<Mark> {
        let at = self.earlier.partition_point(|(first, ..)| *first <= offset);
        let run = at.checked_sub(1).map(|at| self.earlier[at]);
        run.filter(|(_, behind, _)| offset < *behind).map(|(.., mark)| mark)
    }

    /// Whether somebody has begun a message who had the partition before, and not finished it.
    pub(super) fn was_begun(&self, offset: i64) -> bool {
        matches!(self.earlier(offset), Some(Mark::Begun(_)))
    }

    /// A message is about to be handed out.
    pub(super) fn begin(&mut self, offset: i64) -> Handed {
        self.end = self.end.max(offset + 1);
        match self.earlier(offset) {
            Some(Mark::Done) => {
                self.marks.insert(offset, Mark::Done);
                self.forget();
                Handed::Known
            }
            before => {
                let attempts_before = match before {
                    Some(Mark::Begun(count)) => count,
                    _ => 0,
                };
                self.marks.insert(offset, Mark::Begun(attempts_before.saturating_add(1)));
                Handed::Work { attempts_before }
            }
        }
    }

    /// It is done.
    pub(super) fn finish(&mut self, offset: i64) {
        if let Some(mark) = self.marks.get_mut(&offset) {
            *mark = Mark::Done;
        }
        self.forget();
    }

    /// It was not even begun: whoever gets it next does not count this.
    pub(super) fn give_back(&mut self, offset: i64) {
        if let Some(Mark::Begun(count)) = self.marks.get_mut(&offset) {
            *count = count.saturating_sub(1);
        }
    }

    fn forget(&mut self) {
        while let Some(first) = self.marks.first_entry()
            && *first.get() == Mark::Done
        {
            first.remove();
        }
    }

    /// All before this one are done.
    pub(super) fn committed(&self) -> i64 {
        self.marks.first_key_value().map_or(self.end, |(offset, _)| *offset)
    }

    /// The same, once these are done as well.
    pub(super) fn committed_with(&self, done: &HashSet<i64>) -> i64 {
        let is_open =
            |(offset, mark): &(&i64, &Mark)| **mark != Mark::Done && !done.contains(offset);
        self.marks.iter().find(is_open).map_or(self.end, |(offset, _)| *offset)
    }

    /// What is to be stored with that, if anything; of very much, what is farther behind is left out.
    pub(super) fn text(&self) -> Option<String> {
        let mut text = VERSION.to_owned();
        let base = self.committed();
        let mut runs: Vec<(i64, i64, Mark)> = Vec::new();
        for (offset, mark) in &self.marks {
            match runs.last_mut() {
                Some((_, behind, last)) if *behind == *offset && last == mark => *behind += 1,
                _ => runs.push((*offset, *offset + 1, *mark)),
            }
        }
        // Those that wait for their turn are of an earlier owner's knowledge still.
        let ahead = self.earlier.iter().filter(|(_, behind, _)| *behind > self.end);
        runs.extend(ahead.map(|(first, behind, mark)| ((*first).max(self.end), *behind, *mark)));
        for (first, behind, mark) in runs {
            let length = text.len();
            let (first, count) = (first - base, behind - first);
            let written = match mark {
                Mark::Begun(0) => Ok(()),
                Mark::Begun(attempts) => write!(text, ";{first}+{count}={attempts}"),
                Mark::Done => write!(text, ";{first}+{count}"),
            };
            if written.is_err() || text.len() > TEXT_BYTES_MAX {
                text.truncate(length);
                break;
            }
        }
        (text.len() > VERSION.len()).then_some(text)
    }
}

/// `None`: somebody else has written it.
fn parse(base: i64, text: &str) -> Option<Vec<(i64, i64, Mark)>> {
    let rest = text.strip_prefix(VERSION)?;
    let mut runs = Vec::new();
    let mut behind_last = 0;
    for run in rest.split(';').skip(1) {
        let (run, mark) = match run.split_once('=') {
            Some((run, attempts)) => (run, Mark::Begun(attempts.parse().ok()?)),
            None => (run, Mark::Done),
        };
        let (first, count) = run.split_once('+')?;
        let (first, count): (i64, i64) = (first.parse().ok()?, count.parse().ok()?);
        if first < behind_last || count < 1 {
            return None;
        }
        behind_last = first.checked_add(count)?;
        runs.push((base.checked_add(first)?, base.checked_add(behind_last)?, mark));
    }
    Some(runs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Begin,
        Finish(proptest::sample::Index),
        GiveBack(proptest::sample::Index),
        /// Of offsets there are gaps: transactions end with a record of their own.
        Skip(u8),
        /// Another one takes over.
        Crash,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Begin),
            5 => any::<proptest::sample::Index>().prop_map(Step::Finish),
            1 => any::<proptest::sample::Index>().prop_map(Step::GiveBack),
            1 => (1..4_u8).prop_map(Step::Skip),
            1 => Just(Step::Crash),
        ]
    }

    proptest! {
        /// Against sets: what is done stays done and is not worked on again, and each beginning counts.
        #[test]
        fn nothing_that_is_done_is_begun_again(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut done, mut begun) = (BTreeSet::new(), BTreeMap::<i64, u32>::new());
            let (mut held, mut next, mut end) = (BTreeSet::new(), 10_i64, 10_i64);
            let mut offsets = Offsets::new(10, "");
            for step in steps {
                match step {
                    Step::Begin => {
                        let offset = next;
                        next += 1;
                        end = end.max(next);
                        match offsets.begin(offset) {
                            Handed::Known => prop_assert!(done.contains(&offset)),
                            Handed::Work { attempts_before } => {
                                prop_assert!(!done.contains(&offset));
                                let count = begun.entry(offset).or_default();
                                prop_assert_eq!(attempts_before, *count);
                                *count += 1;
                                held.insert(offset);
                            }
                        }
                    }
                    Step::Finish(which) if !held.is_empty() => {
                        let offset = *which.get(&held.iter().collect::<Vec<_>>());
                        let offset = *offset;
                        held.remove(&offset);
                        done.insert(offset);
                        let expected = offsets.committed_with(&HashSet::from([offset]));
                        offsets.finish(offset);
                        prop_assert_eq!(offsets.committed(), expected);
                    }
                    Step::GiveBack(which) if !held.is_empty() => {
                        let offset = **which.get(&held.iter().collect::<Vec<_>>());
                        held.remove(&offset);
                        *begun.entry(offset).or_default() -= 1;
                        offsets.give_back(offset);
                    }
                    Step::Skip(count) if next == end => {
                        next += i64::from(count);
                        end = next;
                    }
                    Step::Crash => {
                        let (committed, text) = (offsets.committed(), offsets.text());
                        offsets = Offsets::new(committed, &text.unwrap_or_default());
                        held.clear();
                        next = committed;
                    }
                    _ => {}
                }
                let committed = offsets.committed();
                prop_assert!(begun.keys().filter(|it| **it < committed).all(|it| done.contains(it)));
            }
        }

        #[test]
        fn what_others_have_written_is_no_harm(text in ".{0,60}", base in any::<i64>()) {
            let text = format!("{VERSION}{text}");
            let mut offsets = Offsets::new(base.min(i64::MAX - 2), &text);
            offsets.begin(base.min(i64::MAX - 2));
            offsets.text();
        }
    }

    #[test]
    fn the_text_is_short_and_the_nearest_are_in_it() {
        let mut offsets = Offsets::new(0, "");
        for offset in 0..20_000 {
            offsets.begin(offset);
            if offset % 2 == 1 {
                offsets.finish(offset);
            }
        }
        let text = offsets.text().expect("much is begun");
        assert!(text.len() <= TEXT_BYTES_MAX);
        let mut later = Offsets::new(offsets.committed(), &text);
        let handed: Vec<_> = (0..100).map(|offset| later.begin(offset)).collect();
        let expected = [Handed::Work { attempts_before: 1 }, Handed::Known].repeat(50);
        assert_eq!(handed, expected);
    }
}
