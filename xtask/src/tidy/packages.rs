//! What packages are called: what is published is `wilco`, the library, or `wilco-NAME`, whose library
//! is `NAME`.
//!
//! In a registry the names of packages are everybody's; within the project the short ones are enough.

use super::Finding;
use crate::workspace::Workspace;

pub(super) const RULE: &str = "package-names";

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let published = workspace.packages.iter().filter(|package| package.is_published());
    let problems = published.filter_map(|package| problem(&package.name, package.library()));
    problems.map(|problem| Finding::failure(RULE, problem)).collect()
}

/// What is wrong with the names of a package that can be published, and of its library.
fn problem(package: &str, library: Option<&str>) -> Option<String> {
    let short = match package {
        "wilco" => "wilco",
        _ => match package.strip_prefix("wilco-") {
            Some(short) => short,
            None => return Some(format!("{package} can be published, but is not called wilco-*")),
        },
    };
    let expected = short.replace('-', "_");
    let named_else = library.filter(|library| *library != expected)?;
    Some(format!("{package}: its library is called {named_else}, not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn names_with_the_prefix_pass() {
        assert_eq!(problem("wilco", Some("wilco")), None);
        assert_eq!(problem("wilco-segment-log", Some("segment_log")), None);
        assert_eq!(problem("wilco-cli", None), None);
    }

    #[test]
    fn name_without_the_prefix_or_another_library_fails() {
        assert!(
            problem("broker", Some("broker")).is_some_and(|it| it.contains("not called wilco-*"))
        );
        assert!(problem("wilco-broker", Some("wilco_broker")).is_some());
    }
}
