//! redb's storage on a file of a [`segment_log::Disk`], so that the disk that carries the log, even
//! a simulated one, carries the definitions too.
//!
//! Takes no lock: the owner of the disk does.

use std::fmt;
use std::io;

use redb::StorageBackend;
use segment_log::{Disk, DiskFile};

/// One file of a disk, as redb's storage.
pub(super) struct DiskBackend<F> {
    file: F,
    name: String,
}

impl<F: DiskFile> DiskBackend<F> {
    /// Opens the file, creating it (durably) where there is none.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, name: &str) -> io::Result<Self> {
        let file = match disk.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(name)?;
                disk.sync_directory()?;
                file
            }
            Err(error) => return Err(error),
        };
        Ok(Self { file, name: name.to_owned() })
    }
}

impl<F: DiskFile> StorageBackend for DiskBackend<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], offset + done as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}

impl<F> fmt::Debug for DiskBackend<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DiskBackend").field("name", &self.name).finish_non_exhaustive()
    }
}
