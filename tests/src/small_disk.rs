//! A file system of a few megabytes, on which a disk can be full; mounting it needs root.

use crate::skip;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A tmpfs, mounted as long as this lives.
pub struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, after naming the skipped test, if mounting is not allowed.
    pub fn mount(test: &str, megabytes: u32) -> Option<SmallDisk> {
        if crate::broker::is_external() {
            skip(test, "needs to own the broker's process");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk { directory }),
            Ok(output) => {
                skip(test, String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                skip(test, &format!("mount: {error}"));
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes space away from the broker.
    pub fn filler(&self, megabytes: usize) -> PathBuf {
        let path = self.path().join("filler");
        // Meant to reach the end of the disk.
        let _ = fs::write(&path, vec![1; megabytes << 20]);
        path
    }

    /// How many megabytes are free.
    pub fn free_mb(&self) -> u64 {
        let mut command = Command::new("df");
        command.args(["--output=avail", "--block-size=1000000"]).arg(self.path());
        let output = command.output().expect("df runs");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("a number")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the broker of a failed test may still be using it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
