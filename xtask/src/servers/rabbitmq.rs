//! RabbitMQ from packages of Debian: of the release that runs here, and of later ones, each in a root
//! of its own.

use std::path::Path;

use anyhow::{Result, ensure};

use super::debian;
use crate::apt;

const PACKAGE: &str = "rabbitmq-server";
/// The script that does not insist on the system's user and paths.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Installs Debian's package if it is missing, without starting it, and returns the path of its
/// script that starts a node as the environment says.
pub(crate) fn ensure_installed(scratch: &Path) -> Result<&'static Path> {
    apt::ensure_installed(PACKAGE, PACKAGE, SCRIPT, scratch)?;
    Ok(Path::new(SCRIPT))
}

/// The version of the package that is installed here; the server's name says which it must be.
pub(super) fn installed(name: &str, scratch: &Path) -> Result<String> {
    ensure_installed(scratch)?;
    checked(name, apt::version(PACKAGE, Path::new("/"))?, "this machine")
}

/// Makes a root with the package of the release `suite`, unless it is there, and returns the version.
pub(super) fn in_own_root(
    name: &str,
    suite: &str,
    directory: &Path,
    scratch: &Path,
) -> Result<String> {
    let root = debian::root(suite, PACKAGE, directory, scratch)?;
    checked(name, apt::version(PACKAGE, &root)?, suite)
}

/// Tests rely on a server's name: a release of Debian that has moved on has another server.
fn checked(name: &str, version: String, release: &str) -> Result<String> {
    let wanted = name.rsplit_once('-').map_or(name, |(_, wanted)| wanted);
    let rest = version.strip_prefix(wanted);
    let right = rest.is_some_and(|rest| rest.starts_with(['.', '-']));
    ensure!(right, "the RabbitMQ of {release} is {version}");
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_passed_off() {
        let check = |name, version: &str| checked(name, version.to_owned(), "forky").is_ok();
        assert!(check("rabbitmq-3.10", "3.10.8-1.1+deb12u1"));
        assert!(check("rabbitmq-4.3", "4.3.6-1"));
        assert!(!check("rabbitmq-4.3", "4.30.1-1"));
        assert!(!check("rabbitmq-4.0", "4.1.0-1"));
    }
}
