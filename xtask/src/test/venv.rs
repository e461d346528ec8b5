//! The Python virtual environment and the foreign suites' sources, both under target/xtask.
//!
//! Versions and hashes are in tests/python: requirements.txt for what is installed, requirements-built.txt
//! for what has to be built for that and may be missing, suites.txt for the source packages whose tests
//! are run. A copy of the list, kept beside what was made from it,
//! tells whether that is still current.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, remove};
use crate::command;

const LIMIT: Duration = Duration::from_secs(10 * 60);

/// A virtual environment with what tests/python/requirements.txt lists.
pub(crate) struct Venv {
    python: PathBuf,
}

impl Venv {
    /// Creates or reuses it, and the suites' sources. The error is the reason why the Python tests
    /// cannot run here.
    pub(crate) fn ready(context: &Context) -> Result<Self, String> {
        let venv = Self { python: context.workspace.scratch().join("venv/bin/python") };
        let made = venv.install(context).and_then(|()| venv.download(context));
        made.map(|()| venv).map_err(|error| format!("{error:#}"))
    }

    /// The environment's interpreter.
    pub(crate) fn python(&self) -> Command {
        Command::new(&self.python)
    }

    /// The unpacked source of a package in tests/python/suites.txt.
    pub(crate) fn source(&self, context: &Context, package: &str) -> Result<PathBuf> {
        let list = fs::read_to_string(python_tests(context).join("suites.txt"))?;
        Ok(suites(context).join(source_name(&list, package)?))
    }

    fn install(&self, context: &Context) -> Result<()> {
        let directory = context.workspace.scratch().join("venv");
        let requirements = python_tests(context).join("requirements.txt");
        if is_current(&directory, &requirements) && self.python.exists() {
            return Ok(());
        }
        let system = system_python()?;
        remove(&directory)?;
        let log = context.log("venv");
        run(Command::new(system).args(["-m", "venv"]).arg(&directory), &log)?;
        let install = |list: &Path| {
            run(self.pip().args(["install", "--require-hashes", "-r"]).arg(list), &log)
        };
        install(&requirements)?;
        // The tests that need it say that it is missing.
        if let Err(error) = install(&python_tests(context).join("requirements-built.txt")) {
            println!("python-qpid-proton cannot be built: {error:#}");
        }
        mark_current(&directory, &requirements)
    }

    fn download(&self, context: &Context) -> Result<()> {
        let directory = suites(context);
        let list = python_tests(context).join("suites.txt");
        if is_current(&directory, &list) {
            return Ok(());
        }
        remove(&directory)?;
        fs::create_dir_all(&directory)?;
        let log = context.log("suites");
        let mut download = self.pip();
        download.args(["download", "--no-deps", "--no-binary=:all:", "--require-hashes"]);
        run(download.arg("--dest").arg(&directory).arg("-r").arg(&list), &log)?;
        for entry in fs::read_dir(&directory)? {
            let archive = entry?.path();
            run(Command::new("tar").arg("-C").arg(&directory).arg("-xzf").arg(archive), &log)?;
        }
        mark_current(&directory, &list)
    }

    fn pip(&self) -> Command {
        let mut pip = self.python();
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]);
        pip
    }
}

/// Where wilco's Python tests are.
pub(crate) fn python_tests(context: &Context) -> PathBuf {
    context.workspace.root().join("tests/python")
}

fn suites(context: &Context) -> PathBuf {
    context.workspace.scratch().join("suites")
}

/// A Python that is new enough for the client packages and has the module that creates
/// environments.
fn system_python() -> Result<&'static str> {
    for python in ["python3", "python3.13", "python3.12", "python3.11"] {
        let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
        let output = Command::new(python).args(["-c", check]).output();
        if output.is_ok_and(|output| output.status.success()) {
            return Ok(python);
        }
    }
    bail!("no python3 of 3.11 or later with venv and pip (Debian: python3-venv)")
}

/// `amqp==5.4.2 --hash=...` becomes `amqp-5.4.2`, the directory inside the source package.
fn source_name(list: &str, package: &str) -> Result<String> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next()?.split_once("=="))
        .find(|(name, _)| *name == package)
        .map(|(name, version)| format!("{name}-{version}"))
        .with_context(|| format!("suites.txt does not list {package}"))
}

fn is_current(directory: &Path, list: &Path) -> bool {
    fs::read(directory.join("made-from.txt"))
        .is_ok_and(|made_from| fs::read(list).is_ok_and(|list| list == made_from))
}

fn mark_current(directory: &Path, list: &Path) -> Result<()> {
    fs::copy(list, directory.join("made-from.txt"))?;
    Ok(())
}

fn run(command: &mut Command, log: &Path) -> Result<()> {
    let finished = command::run(command, log, LIMIT)?;
    ensure!(finished.succeeded(), "{}: {}", finished.ending(), finished.last_line());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_directory_follows_from_the_pinned_version() {
        let list = "# comment\namqpstorm==3.1.4 --hash=sha256:aa\namqp==5.4.2 --hash=sha256:bb\n";
        assert_eq!(source_name(list, "amqp").unwrap(), "amqp-5.4.2");
        assert!(source_name(list, "kombu").is_err());
    }
}
