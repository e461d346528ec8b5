//! Debian's packages: what is installed, and installing what is missing, with apt-get.
//!
//! Never starts the service of a package that it installs.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::command;

const INSTALL: &str = include_str!("apt-install.sh");
/// More than the script allows its own steps.
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Installs `package` unless `file`, which is part of it, is there. `service` is the name under
/// which it would be started. The output goes to `apt.log` in `scratch`.
pub(crate) fn ensure_installed(
    package: &str,
    service: &str,
    file: &str,
    scratch: &Path,
) -> Result<()> {
    if Path::new(file).exists() {
        return Ok(());
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "{package} is not installed, and to install it needs root: apt-get install {package}"
    );
    println!("installing {package} with apt-get");
    let log = scratch.join("apt.log");
    let mut install = Command::new("sh");
    install.args(["-c", INSTALL, "install", package, service]);
    let finished = command::run(&mut install, &log, INSTALL_LIMIT)?;
    ensure!(
        finished.succeeded() && Path::new(file).exists(),
        "{package} cannot be installed ({}): {}; all of it is in {}",
        finished.ending(),
        finished.last_line(),
        log.display()
    );
    Ok(())
}

/// The version of an installed package; `root` is where that Debian is.
pub(crate) fn version(package: &str, root: &Path) -> Result<String> {
    let output = Command::new("dpkg-query")
        .arg("--admindir")
        .arg(root.join("var/lib/dpkg"))
        .args(["--show", "--showformat=${Version}", package])
        .stderr(Stdio::null())
        .output()
        .context("dpkg-query does not run; the servers come from packages of Debian")?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let known = output.status.success() && !version.is_empty();
    ensure!(known, "{package} is no package of the Debian in {}", root.display());
    Ok(version)
}

/// Where this machine's apt gets its release of Debian from.
pub(crate) fn mirror() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)"])
        .arg("Created-By: Packages")
        .stderr(Stdio::null())
        .output()
        .context("apt-get does not run")?;
    main_archive(&String::from_utf8_lossy(&output.stdout))
        .context("apt has no list of a release of Debian; try apt-get update")
}

/// Updates, fixes and backports are archives of their own, with a dash in their names.
fn main_archive(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (origin, codename, address) = (fields.next()?, fields.next()?, fields.next()?);
        (origin == "Debian" && !codename.contains('-')).then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_that_of_the_release_itself() {
        let targets = "Other trixie http://other.example/\n\
             Debian bookworm-security http://security.example/\n\
             Debian bookworm http://main.example/debian/\n\
             Debian trixie http://second.example/debian/\n";
        assert_eq!(main_archive(targets).as_deref(), Some("http://main.example/debian/"));
        assert_eq!(main_archive("Debian bookworm-updates http://x.example/\n"), None);
    }
}
