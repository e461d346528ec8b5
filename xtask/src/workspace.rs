//! Where the workspace is and what it consists of, according to `cargo metadata`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::command;

/// The part of `cargo metadata` that the tasks use.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    /// The members, in cargo's order.
    pub(crate) packages: Vec<Package>,
    #[serde(rename = "workspace_root")]
    root: PathBuf,
    #[serde(rename = "target_directory")]
    target: PathBuf,
}

/// One crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name in Cargo.toml.
    pub(crate) name: String,
    /// The registries that it may be published to: `None` for any, none of them if empty.
    publish: Option<Vec<String>>,
    /// What is built of it.
    targets: Vec<Target>,
    /// All its dependencies, of every kind.
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(rename = "manifest_path")]
    manifest: PathBuf,
}

impl Package {
    /// What it is called within the project, as in `use`: the name without what keeps it apart from
    /// other people's in a registry.
    pub(crate) fn short_name(&self) -> &str {
        short(&self.name)
    }

    /// Whether it may be published.
    pub(crate) fn is_published(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    /// The name of its library, as in `use`.
    pub(crate) fn library(&self) -> Option<&str> {
        let library = |target: &&Target| target.kind.iter().any(|kind| kind == "lib");
        self.targets.iter().find(library).map(|target| target.name.as_str())
    }

    /// The directory of its Cargo.toml.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.manifest.parent()
    }
}

/// A library, program, test or example of a crate.
#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// One line of a crate's dependency tables.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The dependency's name in its own Cargo.toml.
    pub(crate) name: String,
    /// `None` for an ordinary dependency, otherwise `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Dependency {
    /// As [`Package::short_name`].
    pub(crate) fn short_name(&self) -> &str {
        short(&self.name)
    }
}

fn short(package: &str) -> &str {
    package.strip_prefix("wilco-").unwrap_or(package)
}

impl Workspace {
    /// Asks cargo. Fails if there is no workspace or no cargo.
    pub(crate) fn load() -> Result<Self> {
        let output = command::cargo()
            .args(["metadata", "--format-version=1", "--no-deps"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cargo metadata does not run")?;
        ensure!(output.status.success(), "cargo metadata failed");
        serde_json::from_slice(&output.stdout).context("cargo metadata answers something else")
    }

    /// The directory of the workspace's Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the tasks keep what they install, download and log.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.target.join("xtask")
    }
}
