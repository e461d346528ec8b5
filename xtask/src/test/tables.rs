//! The parts `go` and `java`: a table of behaviours, seen through RabbitMQ's Go and Java clients.
//!
//! Each is a program of the project's own, in tests/go/table and tests/java. It is built here, takes
//! the broker's port, and prints `ok NAME` or `FAIL NAME: what was seen` for each row. The clients
//! are fetched into target/xtask, at the versions in go.mod and pom.xml and with the digests in
//! go.sum and jars.sha256; if they are there already, no registry is asked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{Context, Needs, Part, Tally, broker::Broker, print_output, remove};
use crate::command;
use crate::workspace::Workspace;

const SET_UP_LIMIT: Duration = Duration::from_secs(10 * 60);
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// What go.mod asks for.
const GO_VERSION: (u32, u32) = (1, 22);
/// What pom.xml asks for.
const JAVA_VERSION: (u32, u32) = (17, 0);

const GO_TABLE: &str = "tests/go/table";

/// One program.
pub(crate) struct Table {
    name: &'static str,
    about: &'static str,
    /// Fetches what the program is built with. The error is the reason why that is impossible here.
    set_up: fn(&Context) -> Result<()>,
    /// Builds the program; it still lacks its argument.
    build: fn(&Context) -> Result<Command>,
}

/// All programs, in the order in which they run.
pub(crate) fn tables() -> Vec<Table> {
    vec![
        Table {
            name: "go",
            about: "a table of behaviours through RabbitMQ's Go client",
            set_up: set_up_go,
            build: build_go,
        },
        Table {
            name: "java",
            about: "a table of behaviours through RabbitMQ's Java client",
            set_up: set_up_java,
            build: build_java,
        },
    ]
}

impl Part for Table {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn needs(&self) -> Needs {
        Needs::Binary
    }

    fn mostly_waits(&self) -> bool {
        true
    }

    fn run(&self, context: &Context) -> Result<Tally> {
        if let Err(reason) = (self.set_up)(context) {
            return Ok(Tally::skip(self.name, format!("{reason:#}")));
        }
        let mut program = (self.build)(context)?;
        let Some(broker) = self.broker(context)? else {
            let reason = "needs guest's `/` on this machine, and WILCO_TEST_AMQP names another";
            return Ok(Tally::skip(self.name, reason));
        };
        let log = context.log(self.name);
        let finished = command::run(program.arg(broker.port().to_string()), &log, LIMIT)?;
        let mut tally = count(&finished.output);
        if !finished.succeeded() {
            print_output(&finished.output, &log);
            if tally.failed.is_empty() {
                tally.note_failed("table", finished.ending());
            }
        } else if tally.passed_count == 0 {
            tally.note_failed("table", "it printed no row");
        }
        Ok(tally)
    }
}

impl Table {
    /// The broker to look at: the one given, if the program can reach it, or else a new wilco.
    fn broker(&self, context: &Context) -> Result<Option<Broker>> {
        if let Some(url) = &context.against {
            return Ok(Broker::running(url));
        }
        let binary = context.binary.as_deref().context("wilco has not been built")?;
        let directory = context.workspace.scratch().join(self.name).join("broker");
        let log = context.log(&format!("{}-broker", self.name));
        Broker::start(binary, &directory, &log).map(Some)
    }
}

fn set_up_go(context: &Context) -> Result<()> {
    let is_there = has_version("go", &["env", "GOVERSION"], GO_VERSION);
    ensure!(is_there, "Go of {}.{} or later is not installed", GO_VERSION.0, GO_VERSION.1);
    step(context, "go-modules", go(&context.workspace, GO_TABLE).args(["mod", "download"]))
}

fn build_go(context: &Context) -> Result<Command> {
    let program = context.workspace.scratch().join("go/table");
    step(
        context,
        "go-build",
        go(&context.workspace, GO_TABLE).args(["build", "-o"]).arg(&program).arg("."),
    )?;
    Ok(Command::new(program))
}

/// The command `go` for a module of the project, keeping everything in target/xtask.
pub(crate) fn go(workspace: &Workspace, module: &str) -> Command {
    let scratch = workspace.scratch().join("go");
    let mut go = Command::new("go");
    go.current_dir(workspace.root().join(module))
        .env("GOMODCACHE", scratch.join("modules"))
        .env("GOCACHE", scratch.join("cache"))
        // Files that can be deleted, unlike by default; and nothing is asked of git.
        .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
        // Neither another toolchain nor a C compiler.
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0");
    go
}

fn set_up_java(context: &Context) -> Result<()> {
    let is_there = has_version("javac", &["-version"], JAVA_VERSION);
    ensure!(is_there, "a JDK of {} or later is not installed", JAVA_VERSION.0);
    let jars = jars(&context.workspace);
    if are_jars_listed(context, &jars)? {
        return Ok(());
    }
    remove(&jars)?;
    let repository = context.workspace.scratch().join("java/repository");
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--quiet", "--strict-checksums", "--file"])
        .arg(java_sources(context).join("pom.xml"))
        .arg(format!("-Dmaven.repo.local={}", repository.display()))
        .arg("org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", jars.display()));
    step(context, "maven", &mut maven)?;
    ensure!(are_jars_listed(context, &jars)?, "what Maven fetched is not what jars.sha256 lists");
    Ok(())
}

/// Whether the jars are there and have the digests in jars.sha256.
fn are_jars_listed(context: &Context, jars: &Path) -> Result<bool> {
    if !jars.is_dir() {
        return Ok(false);
    }
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict"]).arg(java_sources(context).join("jars.sha256"));
    let log = context.log("java-jars");
    Ok(command::run(check.current_dir(jars), &log, SET_UP_LIMIT)?.succeeded())
}

fn build_java(context: &Context) -> Result<Command> {
    let sources = java_sources(context);
    let classes = context.workspace.scratch().join("java/classes");
    // The star is the Java tools' own: all jars in that directory.
    let jars = jars(&context.workspace).join("*");
    // A class whose source is gone must not stay.
    remove(&classes)?;
    let mut javac = Command::new("javac");
    javac.args(["--release", &JAVA_VERSION.0.to_string(), "-encoding", "UTF-8", "-d"]);
    javac.arg(&classes).arg("-cp").arg(&jars);
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "java") {
            javac.arg(path);
        }
    }
    step(context, "javac", &mut javac)?;
    let mut java = Command::new("java");
    java.arg("-cp").arg(std::env::join_paths([classes, jars])?).arg("Table");
    Ok(java)
}

fn java_sources(context: &Context) -> PathBuf {
    context.workspace.root().join("tests/java")
}

/// Where RabbitMQ's Java client is, once it has been fetched.
pub(crate) fn jars(workspace: &Workspace) -> PathBuf {
    workspace.scratch().join("java/jars")
}

/// Runs one step on the way to a program; the error has the reason in one line.
fn step(context: &Context, name: &str, command: &mut Command) -> Result<()> {
    let finished = command::run(command, &context.log(name), SET_UP_LIMIT)?;
    let complaint = complaint(&finished.output).unwrap_or(finished.last_line());
    ensure!(finished.succeeded(), "{name}: {}: {complaint}", finished.ending());
    Ok(())
}

/// The first line that Maven or javac call an error: more of them say less and less.
fn complaint(output: &str) -> Option<&str> {
    let line = output.lines().find(|line| line.contains("[ERROR]") || line.contains(": error:"))?;
    // Without the codes for colours that Maven may begin with.
    Some(line.find("[ERROR]").map_or(line, |at| &line[at..]))
}

/// Whether a program is installed, at this version or a later one.
fn has_version(program: &str, arguments: &[&str], wanted: (u32, u32)) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| {
        output.status.success()
            && version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|had| had >= wanted)
    })
}

/// The first two numbers of a version: `go1.26.8`, `javac 17.0.15`, `javac 26`.
fn version(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text[start..].split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

/// Counts the rows; what else a program prints is of no interest here.
fn count(output: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines() {
        if line.starts_with("ok ") {
            tally.note_passed();
        } else if let Some(row) = line.strip_prefix("FAIL ") {
            let (name, seen) = row.split_once(": ").unwrap_or((row, ""));
            tally.note_failed(name, seen);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_counts_and_names() {
        let tally = count(
            "ok a_row\n\
             [main] WARN com.rabbitmq.client - ok then\n\
             FAIL b_row: refused with: 406\n\
             ok c_row\n",
        );
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 0 skipped");
        assert_eq!(tally.failed[0].to_string(), "b_row: refused with: 406");
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("javac 17.0.15\n"), Some((17, 0)));
        assert_eq!(version("javac 26\n"), Some((26, 0)));
        assert_eq!(version("javac 1.8.0_392\n"), Some((1, 8)));
        assert_eq!(version("\n"), None);
    }

    #[test]
    fn reason_is_the_first_complaint() {
        let output = "[INFO] scanning\n\u{1b}[0m[ERROR] no such artifact\n[ERROR] [Help 1] more\n";
        assert_eq!(complaint(output), Some("[ERROR] no such artifact"));
        assert_eq!(complaint("go: no network\n"), None);
    }
}
