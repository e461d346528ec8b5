//! No circles between the folders of a crate: uses go one way only.
//!
//! A folder is a directory below `src`; each file directly in `src` counts as one, too, except
//! `lib.rs` and `main.rs`, which see everything. A circle among folders fails. Within a folder,
//! files may need each other; there the largest circle is only reported.

mod code;
mod graph;
mod modules;
mod token;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::Path};

use super::Finding;
use crate::workspace::Package;
use graph::Circle;
use modules::Modules;

pub(super) const RULE: &str = "circles";

/// What the rule says about a workspace.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) findings: Vec<Finding>,
    /// For each crate, the largest circle within one of its folders.
    pub(super) lines: Vec<String>,
}

/// Checks each crate. `files` are all files of the workspace, by their paths below its root.
pub(super) fn check(
    packages: &[Package],
    root: &Path,
    files: &BTreeMap<String, String>,
) -> Checked {
    let mut checked = Checked::default();
    for package in packages {
        let below_root = package.directory().and_then(|at| at.strip_prefix(root).ok());
        let Some(directory) = below_root.and_then(|at| at.to_str()) else { continue };
        let source = format!("{directory}/src/");
        let own = files.iter().filter_map(|(path, text)| {
            let path = path.strip_prefix(&source)?;
            Some((path, text.as_str()))
        });
        check_crate(package.short_name(), &Modules::read(own), &mut checked);
    }
    checked
}

fn check_crate(name: &str, modules: &Modules, checked: &mut Checked) {
    let mut graphs = modules.graphs();
    let between = graphs.remove(&Vec::new()).unwrap_or_default().largest_circle();
    if let Some(circle) = between {
        let text = format!("{name}: {}", tell(&circle, "folders"));
        checked.findings.push(Finding::failure(RULE, text));
    }
    let within =
        graphs.iter().filter_map(|(folder, graph)| Some((folder, graph.largest_circle()?)));
    let largest = within.reduce(|a, b| if b.1.members.len() > a.1.members.len() { b } else { a });
    checked.lines.push(match largest {
        Some((folder, circle)) => {
            format!("{name}: {}: {}", folder.join("/"), tell(&circle, "modules"))
        }
        None => format!("{name}: no circle"),
    });
}

/// `3 modules in a circle: a → b → a; with c`.
fn tell(Circle { members, round }: &Circle, what: &str) -> String {
    let others: Vec<_> = members.iter().filter(|name| !round.contains(name)).cloned().collect();
    let way = round.join(" → ");
    let with =
        if others.is_empty() { String::new() } else { format!("; with {}", others.join(", ")) };
    format!("{} {what} in a circle: {way}{with}", members.len())
}
