//! A release of Debian in a directory, made by debootstrap.
//!
//! A root is made once. The file `ready` beside it says what it was made as, and is written last: a
//! root without it, or with another one, is made again. debootstrap mounts proc and sys in the root
//! and runs the packages' scripts, so it has namespaces of its own and ends when this program does:
//! were it killed, neither mounts nor processes would be left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{apt, command};

const DEBOOTSTRAP: &str = "/usr/sbin/debootstrap";
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";
/// For a release that is newer than debootstrap: the one that is always the newest.
const NEWEST: &str = "sid";
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The root of the release `suite` with `package`, below `directory`. Made if need be, which takes
/// some 400 MB and a minute; what debootstrap says is in `scratch`.
pub(super) fn root(
    suite: &str,
    package: &str,
    directory: &Path,
    scratch: &Path,
) -> Result<PathBuf> {
    let root = directory.join("root");
    let ready = directory.join("ready");
    let recipe = format!("{suite} with {package}\n");
    if fs::read_to_string(&ready).is_ok_and(|made| made == recipe) {
        return Ok(root);
    }
    ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root");
    apt::ensure_installed("debootstrap", "debootstrap", DEBOOTSTRAP, scratch)?;
    if ready.exists() {
        fs::remove_file(&ready)?;
    }
    remove(&root)?;
    println!("making a root of Debian {suite} with {package}");
    bootstrap(suite, package, &root, &scratch.join(format!("debootstrap-{suite}.log")))?;
    // debootstrap leaves this out, and Erlang needs it.
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    // What was downloaded is a third of it all.
    remove(&root.join("var/cache/apt/archives"))?;
    fs::write(&ready, recipe)?;
    Ok(root)
}

fn bootstrap(suite: &str, package: &str, root: &Path, log: &Path) -> Result<()> {
    let known = Path::new(SCRIPTS).join(suite).exists();
    let mut bootstrap = Command::new("setpriv");
    bootstrap
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args([DEBOOTSTRAP, "--variant=minbase"])
        .arg(format!("--include={package}"))
        .args([suite.as_ref(), root.as_os_str()])
        .args([apt::mirror()?.as_str(), if known { suite } else { NEWEST }]);
    let finished = command::run(&mut bootstrap, log, LIMIT)?;
    if !finished.succeeded() {
        let (ending, line) = (finished.ending(), finished.last_line());
        bail!("debootstrap failed ({ending}): {line}; all of it is in {}", log.display());
    }
    Ok(())
}

/// Removes a directory and all in it, if it is there; but nothing that is mounted there.
fn remove(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let directory = directory.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts").context("/proc is not mounted")?;
    if let Some(mount) = mounted_below(&mounts, &directory) {
        bail!("{mount} is mounted, and its content would be removed: umount it first");
    }
    fs::remove_dir_all(&directory)
        .with_context(|| format!("{} cannot be removed", directory.display()))
}

fn mounted_below(mounts: &str, directory: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| Some(line.split(' ').nth(1)?.replace(r"\040", " ")))
        .find(|mount| Path::new(mount).starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_below_a_directory_is_found() {
        let mounts = "proc /proc proc rw 0 0\ndev /a/root/dev devtmpfs rw 0 0\nproc /b\\040c/proc proc rw 0 0\n";
        let below = |directory| mounted_below(mounts, Path::new(directory));
        assert_eq!(below("/a/root").as_deref(), Some("/a/root/dev"));
        assert_eq!(below("/a/root/dev").as_deref(), Some("/a/root/dev"));
        assert_eq!(below("/a/roo"), None);
        assert_eq!(below("/a/root/etc"), None);
        assert_eq!(below("/b c").as_deref(), Some("/b c/proc"));
    }
}
