//! The disk a log lives on: one flat directory of files.
//!
//! Owns the two traits and [`RealDisk`], the directory of the operating system. Never decides what
//! is written when. Every disk is assumed to behave like this: what a returned `sync_data` covers
//! survives a crash; what it does not cover may survive in any part; a file's name survives once
//! `sync_directory` has returned.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whoever can read the files can read everybody's messages, so only the owner may.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// An open file of this disk.
    type File: DiskFile;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file; fails with `AlreadyExists` if that name is taken.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Removes a file; open handles keep working.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing any file that has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the creation, removal and renaming of files durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file, read and written at explicit offsets by any thread.
pub trait DiskFile: Send + Sync + 'static {
    /// Writes all of `buf` at `offset`, growing the file if needed. After an error, any part of it
    /// may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Reads what there is at `offset`, at most `buf.len()` bytes; returns 0 only at the end of the
    /// file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Returns once contents and length are durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file, or grows it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room for the first `len` bytes, which read as zeros, and makes the file that long.
    /// `false` if the disk cannot do that without writing them.
    fn allocate(&self, len: u64) -> io::Result<bool> {
        let _ = len;
        Ok(false)
    }
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory of the operating system: `pread`, `pwrite`, `fdatasync`.
///
/// Only the owner may use the directory (mode 0700) and its files (mode 0600), whatever the umask
/// and whatever their modes were before. Where the file system has no modes, or the files belong to
/// somebody else, they stay as they are.
#[derive(Debug, Clone)]
pub struct RealDisk {
    path: PathBuf,
    /// Kept open, so that syncing it needs no new descriptor.
    directory: Arc<File>,
}

impl RealDisk {
    /// Uses the directory, creating it (and its parents) durably if it does not exist.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let path = directory.into();
        make_directory(&path)?;
        let directory = File::open(&path)?;
        restrict(&directory, DIRECTORY_MODE)?;
        Ok(Self { path, directory: Arc::new(directory) })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.path
    }
}

/// Creates a missing directory, parents first, and makes each durable in its parent.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    // By name: an odd umask may have left a directory that cannot be opened.
    fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
    File::open(parent)?.sync_all()
}

/// Denies the file or directory to everybody but its owner.
fn restrict(file: &File, mode: u32) -> io::Result<()> {
    if file.metadata()?.mode() & 0o777 == mode {
        return Ok(());
    }
    match file.set_permissions(Permissions::from_mode(mode)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        set => set,
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let path = self.path.join(name);
        let file = options.open(&path)?;
        if let Err(error) = restrict(&file, FILE_MODE) {
            // A failed creation leaves nothing behind.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(RealFile(file))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        restrict(&file, FILE_MODE)?;
        Ok(RealFile(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file of [`RealDisk`].
#[derive(Debug)]
pub struct RealFile(File);

impl DiskFile for RealFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
