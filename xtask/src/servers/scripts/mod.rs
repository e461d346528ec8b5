//! The launch scripts, and writing them where a server is prepared.
//!
//! `run` is the same for all servers; what it runs in its namespaces, `inside`, differs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

const RUN: &str = include_str!("run.sh");
/// For every RabbitMQ: it finds out whether there is a root for it.
pub(super) const RABBITMQ: &str = include_str!("rabbitmq.sh");
/// For PostgreSQL.
pub(super) const POSTGRESQL: &str = include_str!("postgresql.sh");
/// For every Kafka.
pub(super) const KAFKA: &str = concat!(include_str!("java.sh"), include_str!("kafka.sh"));
/// For Artemis.
pub(super) const ARTEMIS: &str = concat!(include_str!("java.sh"), include_str!("artemis.sh"));
/// For every ActiveMQ Classic.
pub(super) const ACTIVEMQ: &str = concat!(include_str!("java.sh"), include_str!("activemq.sh"));

/// Writes both scripts and returns the path of `run`.
pub(super) fn write(directory: &Path, inside: &str) -> Result<PathBuf> {
    replace(&directory.join("inside"), inside)?;
    let run = directory.join("run");
    replace(&run, RUN)?;
    Ok(run)
}

/// A shell reads its script as it goes, so one that runs keeps the old file.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
}
