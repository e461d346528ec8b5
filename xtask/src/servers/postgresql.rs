//! PostgreSQL 15 from Debian's package. Each server has a cluster of its own, which its launch script
//! makes; the system's cluster is left alone.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::apt;

const PACKAGE: &str = "postgresql-15";
const SERVICE: &str = "postgresql";
const PROGRAM: &str = "/usr/lib/postgresql/15/bin/postgres";

/// Installs the package if it is missing, without starting it, and returns its version.
pub(super) fn installed(scratch: &Path) -> Result<String> {
    let is_root = rustix::process::geteuid().is_root();
    ensure!(is_root, "its launch script needs root, to become the user postgres");
    apt::ensure_installed(PACKAGE, SERVICE, PROGRAM, scratch)?;
    apt::version(PACKAGE, Path::new("/"))
}
