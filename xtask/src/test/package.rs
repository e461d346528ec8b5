//! The part `package`: what would be published builds by itself, has its licences, and the library
//! pulls in no broker unless it is asked to.
//!
//! Nothing is uploaded. What is built is in the target directory, beside everything else.

use std::{collections::BTreeSet, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{Context, Needs, Part, Tally, print_output};
use crate::command;

const LIMIT: Duration = Duration::from_secs(30 * 60);
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
/// The package of the library.
const LIBRARY: &str = "wilco";
/// What makes a broker: nobody who only talks to one should have to build it.
const BROKER: [&str; 6] = [
    "wilco-broker",
    "wilco-ledger",
    "wilco-management",
    "wilco-node",
    "wilco-segment-log",
    "wilco-server",
];

/// Packages the workspace and looks at the packages.
pub(crate) struct Packages;

impl Part for Packages {
    fn name(&self) -> &'static str {
        "package"
    }

    fn about(&self) -> &'static str {
        "what can be published: builds by itself, has its licences; the library without a broker"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        let mut tally = Tally::default();
        note(&mut tally, "library without a broker", library(context)?);
        note(&mut tally, "licences", licences(context)?);
        note(&mut tally, "cargo package", package(context)?);
        Ok(tally)
    }
}

/// A test failed if there is a reason.
fn note(tally: &mut Tally, test: &str, reason: Option<String>) {
    match reason {
        None => tally.note_passed(),
        Some(reason) => tally.note_failed(test, reason),
    }
}

/// Packages everything and builds each package from what is in it.
fn package(context: &Context) -> Result<Option<String>> {
    let mut cargo = cargo(context);
    cargo.args(["package", "--workspace", "--allow-dirty"]);
    // Nothing of it is run. Profiles are in no package, so the workspace's says nothing here.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
    let log = context.log("package");
    let finished = command::run(&mut cargo, &log, LIMIT)?;
    if finished.succeeded() {
        return Ok(None);
    }
    print_output(&finished.output, &log);
    let error = finished.output.lines().find(|line| line.starts_with("error"));
    Ok(Some(format!("{}: {}", finished.ending(), error.unwrap_or(finished.last_line()))))
}

/// Says which package lacks a licence: each is distributed alone.
fn licences(context: &Context) -> Result<Option<String>> {
    let mut lacking = Vec::new();
    for package in context.workspace.packages.iter().filter(|package| package.is_published()) {
        let mut cargo = cargo(context);
        cargo.args(["package", "--list", "--allow-dirty", "--package", &package.name]);
        let files = output(&mut cargo)?;
        let files: BTreeSet<_> = files.lines().collect();
        for licence in LICENCES.iter().filter(|licence| !files.contains(*licence)) {
            lacking.push(format!("{} has no {licence}", package.name));
        }
    }
    let remedy = "a link to the one at the root is missing, or `include` leaves it out";
    Ok((!lacking.is_empty()).then(|| format!("{}: {remedy}", lacking.join(", "))))
}

/// Says which parts of a broker the library pulls in with the features it has by default.
fn library(context: &Context) -> Result<Option<String>> {
    for name in BROKER {
        let known = context.workspace.packages.iter().any(|package| package.name == name);
        ensure!(known, "there is no package {name}: its name has to change here, too");
    }
    let mut cargo = cargo(context);
    cargo.args(["tree", "--package", LIBRARY, "--edges", "no-dev"]);
    cargo.args(["--prefix", "none", "--format", "{p}"]);
    let used = used_of(&output(&mut cargo)?, &BROKER)?;
    let reason = || format!("without features, {LIBRARY} pulls in {}", used.join(", "));
    Ok((!used.is_empty()).then(reason))
}

/// Which of `packages` are in what `cargo tree` prints, a package a line: `NAME vVERSION ...`.
fn used_of(tree: &str, packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let named: BTreeSet<_> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(named.contains(LIBRARY), "cargo tree does not show {LIBRARY}");
    Ok(packages.iter().copied().filter(|package| named.contains(package)).collect())
}

fn cargo(context: &Context) -> Command {
    let mut cargo = command::cargo();
    cargo.current_dir(context.workspace.root());
    cargo
}

/// What a command prints to standard output; what it says besides is told if it fails.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cargo does not run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{}", output.status, said.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_in_the_tree_is_found() {
        let tree =
            "wilco v0.1.0 (crates/client)\nwilco-node v0.1.0\nwilco-nodes v1.0.0\nserde v1.0.2\n";
        assert_eq!(used_of(tree, &BROKER).unwrap(), ["wilco-node"]);
    }

    #[test]
    fn tree_without_the_library_says_nothing() {
        assert!(used_of("", &BROKER).is_err());
    }
}
