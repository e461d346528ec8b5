//! Which crate may use which: the list is in ARCHITECTURE.md, and what cargo reports must match it.
//!
//! The list is the fenced block after the line `<!-- tidy: arrows -->`, one crate a line:
//! `node → broker, ledger, segment-log`, or `amqp → nothing`. Crates have the names of `use` there,
//! not those of their packages. Development dependencies are not restricted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::Finding;
use crate::workspace::Workspace;

pub(super) const RULE: &str = "arrows";
const PAGE: &str = "ARCHITECTURE.md";
const MARK: &str = "<!-- tidy: arrows -->";

type Arrows = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let page = fs::read_to_string(workspace.root().join(PAGE)).unwrap_or_default();
    match parse(&page) {
        Ok(listed) => compare(&listed, &used(workspace)),
        Err(problem) => vec![Finding::failure(RULE, format!("{PAGE}: {problem}"))],
    }
}

fn parse(page: &str) -> Result<Arrows, String> {
    let mut lines = page.lines().skip_while(|line| line.trim() != MARK).skip(1);
    let fence = lines.find(|line| !line.trim().is_empty());
    if !fence.is_some_and(|line| line.starts_with("```")) {
        return Err(format!("no fenced block after a line `{MARK}`"));
    }
    let mut arrows = Arrows::new();
    for line in lines.take_while(|line| !line.starts_with("```")) {
        if line.trim().is_empty() {
            continue;
        }
        let (from, to) = line
            .split_once('→')
            .or_else(|| line.split_once("->"))
            .ok_or_else(|| format!("`{line}` is no arrow"))?;
        let to = to.split(',').map(str::trim).filter(|to| !matches!(*to, "" | "nothing"));
        let to: BTreeSet<_> = to.map(str::to_owned).collect();
        for from in from.split(',') {
            arrows.entry(from.trim().to_owned()).or_default().extend(to.iter().cloned());
        }
    }
    Ok(arrows)
}

fn used(workspace: &Workspace) -> Arrows {
    let members: BTreeSet<_> = workspace.packages.iter().map(|p| p.name.as_str()).collect();
    let arrows = workspace.packages.iter().map(|package| {
        let to = package.dependencies.iter();
        let to = to.filter(|d| d.kind.as_deref() != Some("dev"));
        let to = to.filter(|d| members.contains(d.name.as_str()));
        let to = to.map(|d| d.short_name().to_owned());
        (package.short_name().to_owned(), to.collect())
    });
    arrows.collect()
}

fn compare(listed: &Arrows, used: &Arrows) -> Vec<Finding> {
    let mut findings = Vec::new();
    let none = BTreeSet::new();
    for (from, to) in used {
        for to in to.difference(listed.get(from).unwrap_or(&none)) {
            let text = format!("{from} → {to} is not listed in {PAGE}");
            findings.push(Finding::failure(RULE, text));
        }
    }
    for (from, to) in listed {
        for to in to.difference(used.get(from).unwrap_or(&none)) {
            let text = format!("{from} → {to} is listed in {PAGE}, but nothing uses it");
            findings.push(Finding::warning(RULE, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(arrows: &str) -> String {
        format!("# Architecture\n\n```\nnot → this\n```\n\n{MARK}\n\n```text\n{arrows}\n```\n")
    }

    fn check(listed: &str, used: &str) -> Vec<(bool, String)> {
        let findings = compare(&parse(&page(listed)).unwrap(), &parse(&page(used)).unwrap());
        findings.into_iter().map(|finding| (finding.fatal, finding.text)).collect()
    }

    #[test]
    fn arrows_that_are_listed_pass() {
        assert!(check("amqp → nothing\nnode → amqp, broker", "node → broker, amqp").is_empty());
        assert!(check("server, management -> node", "server → node\nmanagement → node").is_empty());
    }

    #[test]
    fn arrow_that_is_not_listed_fails() {
        let findings = check("node → broker", "node → broker\nbroker → node");
        assert_eq!(findings, [(true, "broker → node is not listed in ARCHITECTURE.md".to_owned())]);
    }

    #[test]
    fn arrow_that_nothing_uses_is_only_a_warning() {
        let findings = check("node → broker, ledger", "node → broker");
        assert_eq!(findings.len(), 1);
        assert!(!findings[0].0);
    }

    #[test]
    fn page_without_a_list_is_an_error() {
        assert!(parse("# Architecture\n").is_err());
        assert!(parse(&format!("{MARK}\nno fence\n")).is_err());
        assert!(parse(&page("node and broker")).is_err());
    }
}
