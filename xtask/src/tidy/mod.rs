//! `cargo xtask tidy`: the house rules that no compiler checks.
//!
//! Each rule is a function from what it examines to its findings. None changes a file. What clippy
//! can check (`unwrap`, printing, missing documentation) is left to clippy.

mod arrows;
mod circles;
mod namers;
mod packages;
mod source;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;

/// One finding of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether it fails the run; otherwise it is only printed.
    pub(crate) fatal: bool,
    /// The rule's short name.
    pub(crate) rule: &'static str,
    /// Where, and what is wrong there.
    pub(crate) text: String,
}

impl Finding {
    fn failure(rule: &'static str, text: impl Into<String>) -> Self {
        Self { fatal: true, rule, text: text.into() }
    }

    fn warning(rule: &'static str, text: impl Into<String>) -> Self {
        Self { fatal: false, rule, text: text.into() }
    }
}

/// The names of all rules.
pub(crate) const RULES: [&str; 9] = [
    arrows::RULE,
    circles::RULE,
    namers::RULE,
    packages::RULE,
    source::LENGTH,
    source::MODULE_DOCS,
    source::GETTER_NAMES,
    source::FILE_NAMES,
    source::MACHINE_PATHS,
];

/// Prints the findings; returns whether none is fatal.
pub(crate) fn run() -> Result<bool> {
    let findings = findings(&Workspace::load()?)?;
    print(&findings);
    Ok(!findings.iter().any(|finding| finding.fatal))
}

/// Prints findings, a line each.
pub(crate) fn print(findings: &[Finding]) {
    for Finding { fatal, rule, text } in findings {
        println!("{} ({rule}): {text}", if *fatal { "error" } else { "warning" });
    }
}

/// The findings of all rules. Prints what else they report.
pub(crate) fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let root = workspace.root();
    let mut findings = arrows::check(workspace);
    findings.extend(packages::check(workspace));
    let mut texts = BTreeMap::new();
    for path in files(root)? {
        // A file that is not text has no lines to check; deleted ones are skipped.
        if let Ok(text) = fs::read_to_string(root.join(&path)) {
            findings.extend(source::check(&path, &text));
            findings.extend(namers::check(&path, &text));
            texts.insert(path, text);
        }
    }
    let circles = circles::check(&workspace.packages, root, &texts);
    for line in circles.lines {
        println!("{line}");
    }
    findings.extend(circles.findings);
    Ok(findings)
}

/// Every file of the project, relative to its root: what git tracks or would track.
fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git does not run")?;
    ensure!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}
