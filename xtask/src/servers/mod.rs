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
//! - Kafka is one node, whose controller is at 127.0.0.2:PORT. DIR/server.properties, if it is there,
//!   comes after its settings: three nodes need there at least their `node.id`, their
//!   `controller.quorum.voters` and the replication of topics. One that was killed is let in again
//!   after two seconds.
//! - Artemis speaks AMQP and STOMP at the one port; ActiveMQ Classic has STOMP at 127.0.0.2:PORT. Both
//!   let anybody in. To Artemis, what AMQP names without the capability `queue` is a topic.
//!
//! Invariants: nothing is mounted outside the namespaces of a server or of a preparation, so
//! removing target removes only what is in it. No service of the system is started. One that cannot
//! be prepared is reported by name and keeps no other from being prepared.

mod debian;
mod maven;
mod postgresql;
mod rabbitmq;
mod scripts;

pub(crate) use self::rabbitmq::ensure_installed as ensure_rabbitmq_installed;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use self::maven::Artifacts::{self, Archive, Jars};
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
    /// From what Maven fetches, with its launch script.
    FromMaven(Artifacts, &'static str),
}

/// Every server: its name, which ends in the beginning of its version, but for PostgreSQL.
const SERVERS: [(&str, Kind); 9] = [
    ("rabbitmq-3.10", Kind::InstalledRabbitmq),
    ("rabbitmq-4.0", Kind::RabbitmqOf("trixie")),
    ("rabbitmq-4.3", Kind::RabbitmqOf("forky")),
    ("postgresql", Kind::Postgresql),
    ("kafka-4.4", Kind::FromMaven(Jars(&KAFKA_4_4), scripts::KAFKA)),
    ("kafka-3.9", Kind::FromMaven(Jars(&KAFKA_3_9), scripts::KAFKA)),
    ("artemis-2.56", Kind::FromMaven(Archive(ARTEMIS), scripts::ARTEMIS)),
    ("activemq-6.3", Kind::FromMaven(Jars(&ACTIVEMQ_6_3), scripts::ACTIVEMQ)),
    ("activemq-5.18", Kind::FromMaven(Jars(&ACTIVEMQ_5_18), scripts::ACTIVEMQ)),
];

// Without slf4j-simple, none of them would say anything.
const KAFKA_4_4: [&str; 2] = ["org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-simple:1.7.36"];
const KAFKA_3_9: [&str; 2] = ["org.apache.kafka:kafka_2.13:3.9.2", "org.slf4j:slf4j-simple:1.7.36"];
const ARTEMIS: &str = "org.apache.artemis:apache-artemis:2.56.0:tar.gz:bin";
const ACTIVEMQ_6_3: [&str; 6] = [
    "org.apache.activemq:activemq-broker:6.3.1",
    "org.apache.activemq:activemq-kahadb-store:6.3.1",
    "org.apache.activemq:activemq-amqp:6.3.1",
    "org.apache.activemq:activemq-stomp:6.3.1",
    "org.apache.activemq:activemq-console:6.3.1",
    "org.slf4j:slf4j-simple:2.0.17",
];
/// Of the newest version that all of them have.
const ACTIVEMQ_5_18: [&str; 6] = [
    "org.apache.activemq:activemq-broker:5.18.4",
    "org.apache.activemq:activemq-kahadb-store:5.18.4",
    "org.apache.activemq:activemq-amqp:5.18.4",
    "org.apache.activemq:activemq-stomp:5.18.4",
    "org.apache.activemq:activemq-console:5.18.4",
    "org.slf4j:slf4j-simple:2.0.17",
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
        Kind::FromMaven(artifacts, inside) => {
            (maven::fetched(name, artifacts, &directory, home)?.to_owned(), inside)
        }
    };
    let run = scripts::write(&directory, inside)?;
    if let Kind::FromMaven(..) = kind {
        maven::run_once(&run, &directory)?;
    }
    Ok(Prepared { version, run })
}
