//! A disk within a disk: all names begin with a prefix that is hidden from its user.
//!
//! Owns the translation of names. Never lists or touches a file without the prefix, so several
//! owners can share one directory, as long as no name of one begins with the prefix of another.

use std::io;

use segment_log::Disk;

/// A part of another disk: the files whose names begin with a prefix.
#[derive(Debug, Clone)]
pub struct Prefixed<D> {
    disk: D,
    prefix: String,
}

impl<D> Prefixed<D> {
    /// The files of `disk` whose names begin with `prefix`.
    pub fn new(disk: D, prefix: impl Into<String>) -> Self {
        Self { disk, prefix: prefix.into() }
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl<D: Disk> Disk for Prefixed<D> {
    type File = D::File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list()?;
        let own = |name: String| name.strip_prefix(&self.prefix).map(str::to_owned);
        Ok(names.into_iter().filter_map(own).collect())
    }

    fn create(&self, name: &str) -> io::Result<D::File> {
        self.disk.create(&self.name(name))
    }

    fn open(&self, name: &str) -> io::Result<D::File> {
        self.disk.open(&self.name(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(&self.name(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(&self.name(from), &self.name(to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[cfg(test)]
mod tests {
    use segment_log::FaultyDisk;

    use super::*;

    #[test]
    fn each_prefix_sees_its_own_names_only() {
        let disk = FaultyDisk::new(1);
        let (a, b) = (Prefixed::new(disk.clone(), "a-"), Prefixed::new(disk.clone(), "b-"));
        a.create("one").unwrap();
        b.create("one").unwrap();
        b.rename("one", "two").unwrap();
        disk.create("bare").unwrap();
        assert_eq!(a.list().unwrap(), ["one"]);
        assert_eq!(b.list().unwrap(), ["two"]);
        assert_eq!(disk.list().unwrap(), ["a-one", "b-two", "bare"]);
        b.remove("two").unwrap();
        assert!(b.open("two").is_err());
        assert!(a.open("one").is_ok());
    }
}
