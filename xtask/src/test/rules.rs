//! The part `tidy`: the house rules, one test for each.

use anyhow::Result;

use super::{Context, Needs, Part, Tally};
use crate::tidy;

/// Runs all rules.
pub(crate) struct Tidy;

impl Part for Tidy {
    fn name(&self) -> &'static str {
        "tidy"
    }

    fn about(&self) -> &'static str {
        "the house rules: dependency arrows, circles, file lengths, module docs, names"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        let findings = tidy::findings(&context.workspace)?;
        tidy::print(&findings);
        let mut tally = Tally::default();
        for rule in tidy::RULES {
            let broken = findings.iter().filter(|f| f.fatal && f.rule == rule).count();
            match broken {
                0 => tally.note_passed(),
                _ => tally.note_failed(rule, format!("{broken} findings")),
            }
        }
        Ok(tally)
    }
}
