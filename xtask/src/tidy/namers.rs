//! Which folders may name a crate: where a crate sits behind a port, the rest must not bypass it.
//!
//! Owns the table. Examines the sources of the library or binary, not the tests beside them, and
//! takes a word before `::` for a crate's name unless it is in the middle of a path.

use super::Finding;

pub(super) const RULE: &str = "namers";

/// Under this folder, only these paths may name this crate.
const TABLE: [(&str, &str, &[&str]); 4] = [
    ("crates/management/src/", "node", &["over_node/"]),
    ("crates/management/src/", "broker", &["over_node/"]),
    ("crates/management/src/", "amqp", &["over_node/"]),
    ("crates/management/src/", "ledger", &["over_node/", "ports/event.rs"]),
];

/// The findings in one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, name, allowed) in TABLE {
        let Some(rest) = path.strip_prefix(folder).filter(|rest| rest.ends_with(".rs")) else {
            continue;
        };
        if allowed.iter().any(|allowed| rest.starts_with(allowed)) {
            continue;
        }
        let allowed = allowed.join(", ");
        for line in text.lines().map(str::trim).filter(|line| names(line, name)) {
            let text = format!("{path}: only {allowed} of {folder} may name `{name}`: `{line}`");
            findings.push(Finding::failure(RULE, text));
        }
    }
    findings
}

/// Whether a line of code names a crate.
fn names(line: &str, name: &str) -> bool {
    let line = line.trim();
    if line.starts_with("//") {
        return false;
    }
    let imported = line.strip_prefix("use ").and_then(|rest| rest.strip_prefix(name));
    if imported.is_some_and(|rest| rest.starts_with(';') || rest.starts_with(" as ")) {
        return true;
    }
    let root = format!("{name}::");
    line.match_indices(&root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && !is_middle(&line[..at])
    })
}

/// Whether what follows is in the middle of a path: in `crate::node::` it is a module. A leading
/// `::` does not count.
fn is_middle(before: &str) -> bool {
    let path = before.strip_suffix("::").and_then(|path| path.chars().next_back());
    path.is_some_and(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_by_the_root_of_a_path() {
        let check = |line: &str, expected| assert_eq!(names(line, "node"), expected, "{line}");
        check("use node::Node;", true);
        check("    node: Arc<node::Node>,", true);
        check("let it = ::node::Node::open();", true);
        check("use node;", true);
        check("use node as broker;", true);
        check("use crate::over_node::OverNode;", false);
        check("use crate::node::Node;", false);
        check("let node = self.node.clone();", false);
        check("// as node::Node does", false);
        check("/// See [`node::Node`].", false);
    }

    #[test]
    fn only_the_listed_folders_may() {
        let line = "use node::Node;\n";
        assert!(check("crates/management/src/over_node/mod.rs", line).is_empty());
        assert!(check("crates/management/tests/common/mod.rs", line).is_empty());
        assert!(check("crates/cli/src/serve.rs", line).is_empty());
        assert_eq!(check("crates/management/src/v1/messages.rs", line).len(), 1);
        let ledger = "use ledger::What;\n";
        assert!(check("crates/management/src/ports/event.rs", ledger).is_empty());
        assert_eq!(check("crates/management/src/ports/messages.rs", ledger).len(), 1);
    }
}
