//! `cargo xtask servers`: real servers for the end-to-end tests.
//!
//! Each is prepared once under `target/xtask/servers/NAME`; tests start as many of it as they like,
//! side by side, with the script `run` there:
//!
//! - `run DIR PORT` is one server in the foreground, on 127.0.0.1:PORT, with all its data and logs in
//!   DIR, which it makes if need be.
//! - DIR/pid is the process to signal, as long as the server runs. SIGTERM stops it cleanly,
//!   SIGKILL kills it at once; either way nothing of it is left running once `run` has ended.
//!   SIGTERM to `run` is passed on, SIGKILL to `run` kills the server. Before the server accepts
//!   connections, only `run` is sure to be heard: Erlang loses a SIGTERM that comes while it starts.
//! - Started again with the same DIR, it has its data; until the last process of an earlier one is
//!   gone, it waits.
//! - RabbitMQ knows guest with the password guest on `/`, and has no plugins. PostgreSQL is
//!   `postgres://postgres@127.0.0.1:PORT/postgres`.
//!
//! Invariants: nothing is mounted outside the namespaces of a server or of a preparation, so
//! removing target removes only what is in it. No service of the system is started. One that cannot
//! be prepared is reported by name and keeps no other from being prepared.

mod debian;
mod postgresql;
mod rabbitmq;
mod scripts;

pub(crate) use self::rabbitmq::ensure_installed as ensure_rabbitmq_installed;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;

/// Which servers.
#[derive(Default, clap::Args)]
pub(crate) struct ServersArgs {
    /// Prepares only these; without a name, all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// How a server is had.
#[derive(Clone, Copy)]
enum Kind {
    /// Of the release of Debian that this machine runs.
    InstalledRabbitmq,
    /// Of another release of Debian, by its code name, in a root of its own.
    RabbitmqOf(&'static str),
    Postgresql,
}

/// Every server: its name, which ends in the beginning of its version for RabbitMQ.
const SERVERS: [(&str, Kind); 4] = [
    ("rabbitmq-3.10", Kind::InstalledRabbitmq),
    ("rabbitmq-4.0", Kind::RabbitmqOf("trixie")),
    ("rabbitmq-4.3", Kind::RabbitmqOf("forky")),
    ("postgresql", Kind::Postgresql),
];

/// A server that can be started.
struct Prepared {
    version: String,
    /// The launch script.
    run: PathBuf,
}

/// Prepares the servers and prints a line for each. Returns whether all that were asked for by name
/// can be had.
pub(crate) fn run(arguments: &ServersArgs) -> Result<bool> {
    for name in &arguments.names {
        let known = SERVERS.map(|(known, _)| known);
        ensure!(known.contains(&name.as_str()), "no server `{name}`, only {}", known.join(", "));
    }
    let home = Workspace::load()?.scratch().join("servers");
    fs::create_dir_all(&home)?;
    // Two that prepare at once would undo each other's work. Free again when this process ends.
    let lock = File::create(home.join("lock"))?;
    lock.lock().with_context(|| format!("cannot lock {}", home.display()))?;
    let mut missing_count = 0;
    for (name, kind) in SERVERS {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|wanted| wanted == name) {
            continue;
        }
        match prepare(name, kind, &home) {
            Ok(Prepared { version, run }) => println!("{name} {version} {}", run.display()),
            Err(error) => {
                missing_count += 1;
                println!("{name} cannot be had: {error:#}");
            }
        }
    }
    Ok(arguments.names.is_empty() || missing_count == 0)
}

fn prepare(name: &str, kind: Kind, home: &Path) -> Result<Prepared> {
    let directory = home.join(name);
    fs::create_dir_all(&directory)?;
    let (version, inside) = match kind {
        Kind::InstalledRabbitmq => (rabbitmq::installed(name, home)?, scripts::RABBITMQ),
        Kind::RabbitmqOf(suite) => {
            (rabbitmq::in_own_root(name, suite, &directory, home)?, scripts::RABBITMQ)
        }
        Kind::Postgresql => (postgresql::installed(home)?, scripts::POSTGRESQL),
    };
    let run = scripts::write(&directory, inside)?;
    Ok(Prepared { version, run })
}
