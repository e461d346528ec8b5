//! Servers from jars that Maven fetches, and a Java to run them.
//!
//! What is fetched is in `libs`. The file `ready` beside it says what was fetched, and is written
//! last: without it, or with another one, all is fetched again. Maven knows its registries and keeps
//! its repository as its user has it; it works in `fetch`, where it finds no other project.
//!
//! A server that has just been fetched is run once, with a directory that has an empty `keep`: its
//! launch script puts there what saves time at every other start, and it becomes `kept`.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{apt, command};

const LIMIT: Duration = Duration::from_secs(10 * 60);
/// For the first start, on a machine that does much else.
const START: Duration = Duration::from_secs(2 * 60);
const POLL: Duration = Duration::from_millis(20);
/// Pinned, or else it is whichever Maven's own version brings.
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// What is fetched.
#[derive(Clone, Copy)]
pub(super) enum Artifacts {
    /// Jars, each `GROUP:NAME:VERSION`, and all that they need to run. The first one's version is
    /// the server's.
    Jars(&'static [&'static str]),
    /// An archive that has the server in one directory, which becomes `libs`:
    /// `GROUP:NAME:VERSION:tar.gz:CLASSIFIER`.
    Archive(&'static str),
}

impl Artifacts {
    fn version(self) -> &'static str {
        let first = match self {
            Self::Jars(jars) => jars.first().copied().unwrap_or_default(),
            Self::Archive(archive) => archive,
        };
        first.split(':').nth(2).unwrap_or_default()
    }

    /// What `ready` says.
    fn recipe(self) -> String {
        match self {
            Self::Jars(jars) => jars.iter().map(|jar| format!("{jar}\n")).collect(),
            Self::Archive(archive) => format!("{archive}\n"),
        }
    }
}

/// Fetches it into `directory`, unless it is there, and returns the version. What Maven says is in
/// `scratch`.
pub(super) fn fetched(
    name: &str,
    artifacts: Artifacts,
    directory: &Path,
    scratch: &Path,
) -> Result<&'static str> {
    // The package is whichever Java this Debian has; bookworm's is 17, the oldest that will do.
    apt::ensure_installed("default-jre-headless", "java", "/usr/bin/java", scratch)?;
    let ready = directory.join("ready");
    if fs::read_to_string(&ready).is_ok_and(|fetched| fetched == artifacts.recipe()) {
        return Ok(artifacts.version());
    }
    apt::ensure_installed("maven", "maven", "/usr/bin/mvn", scratch)?;
    println!("fetching {name} with Maven");
    if ready.exists() {
        fs::remove_file(&ready)?;
    }
    for old in ["fetch", "libs", "kept"].map(|old| directory.join(old)) {
        if old.exists() {
            fs::remove_dir_all(&old)
                .with_context(|| format!("{} cannot be removed", old.display()))?;
        }
    }
    let fetch = directory.join("fetch");
    fs::create_dir(&fetch)?;
    let log = |program| scratch.join(format!("{program}-{name}.log"));
    let mut maven = Command::new("mvn");
    maven.current_dir(&fetch).args(["--batch-mode", "--quiet", "--strict-checksums"]);
    match artifacts {
        Artifacts::Jars(jars) => {
            fs::write(fetch.join("pom.xml"), project(jars))?;
            maven.arg(format!("{PLUGIN}:copy-dependencies"));
            maven.args(["-DincludeScope=runtime", "-DoutputDirectory=jars"]);
            step(&mut maven, &log("mvn"))?;
            fs::rename(fetch.join("jars"), directory.join("libs"))?;
        }
        Artifacts::Archive(archive) => {
            maven.arg(format!("{PLUGIN}:copy")).arg(format!("-Dartifact={archive}"));
            maven.args(["-DoutputDirectory=.", "-Dmdep.stripVersion=true"]);
            step(&mut maven, &log("mvn"))?;
            let file = fs::read_dir(&fetch)?.next().context("Maven fetched nothing")??.path();
            fs::create_dir(directory.join("libs"))?;
            let mut tar = Command::new("tar");
            tar.arg("--extract").arg("--file").arg(file).arg("--directory");
            tar.arg(directory.join("libs")).arg("--strip-components=1");
            step(&mut tar, &log("tar"))?;
        }
    }
    fs::remove_dir_all(&fetch)?;
    fs::write(&ready, artifacts.recipe())?;
    Ok(artifacts.version())
}

/// A project for Maven that needs these jars and nothing else.
fn project(jars: &[&str]) -> String {
    let mut dependencies = String::new();
    for jar in jars {
        let mut fields = jar.split(':');
        for tag in ["groupId", "artifactId", "version"] {
            let open = if tag == "groupId" { "<dependency>" } else { "" };
            let close = if tag == "version" { "</dependency>\n" } else { "" };
            let field = fields.next().unwrap_or_default();
            dependencies.push_str(&format!("{open}<{tag}>{field}</{tag}>{close}"));
        }
    }
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n\
         <modelVersion>4.0.0</modelVersion>\n\
         <groupId>wilco</groupId><artifactId>server</artifactId><version>0</version>\n\
         <dependencies>\n{dependencies}</dependencies>\n\
         </project>\n"
    )
}

fn step(program: &mut Command, log: &Path) -> Result<()> {
    let finished = command::run(program, log, LIMIT)?;
    if finished.succeeded() {
        return Ok(());
    }
    // Of Maven's errors the first one says the most.
    let error = finished.output.lines().find(|line| line.contains("[ERROR]"));
    let line = error.unwrap_or_else(|| finished.last_line());
    let name = program.get_program().display();
    bail!("{name} failed ({}): {line}; all of it is in {}", finished.ending(), log.display());
}

/// Runs the server once, unless that was done, for what its launch script keeps.
pub(super) fn run_once(run: &Path, directory: &Path) -> Result<()> {
    let kept = directory.join("kept");
    if kept.exists() {
        return Ok(());
    }
    let first = directory.join("first");
    if first.exists() {
        fs::remove_dir_all(&first)?;
    }
    fs::create_dir_all(first.join("keep"))?;
    // Free now, and nobody's business for the moment that it takes.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    // Were this program killed, so would the server be.
    let mut server = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(run)
        .arg(&first)
        .arg(port.to_string())
        .stdin(Stdio::null())
        .spawn()
        .context("setpriv does not run")?;
    let started = wait_until_it_listens(&mut server, port);
    if let Some(pid) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
        // One that has ended need not be told.
        let _ = kill_process(pid, Signal::TERM);
    }
    server.wait()?;
    started.with_context(|| format!("see {}", first.join("output.log").display()))?;
    fs::rename(first.join("keep"), kept)?;
    fs::remove_dir_all(&first)?;
    Ok(())
}

fn wait_until_it_listens(server: &mut Child, port: u16) -> Result<()> {
    let start = Instant::now();
    while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
        ensure!(server.try_wait()?.is_none(), "it ended when first started");
        ensure!(start.elapsed() < START, "it does not listen when first started");
        std::thread::sleep(POLL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_that_of_the_first_artifact() {
        assert_eq!(Artifacts::Jars(&["a:b:1.2", "c:d:3"]).version(), "1.2");
        assert_eq!(Artifacts::Archive("a:b:2.56.0:tar.gz:bin").version(), "2.56.0");
    }

    #[test]
    fn project_needs_each_jar() {
        let project = project(&["a.b:c:1.2", "d:e:3"]);
        let dependency = "<dependency><groupId>a.b</groupId><artifactId>c</artifactId>\
                          <version>1.2</version></dependency>\n";
        assert!(project.contains(dependency), "{project}");
        assert_eq!(project.matches("<dependency>").count(), 2);
    }
}
