//! The disk behind types of its own, so that the ledger does not carry the disk's type about.
//!
//! Owns nothing but the boxes: the log's writing end, its reading end, and the other files.

use std::io;
use std::sync::Arc;

use segment_log::{Batch, Disk, DiskFile, Log, LogError, Reader, SegmentStat};

/// The log's writing side.
pub(crate) trait Device: Send {
    fn next_position(&self) -> u64;
    fn segments(&self) -> Vec<SegmentStat>;
    fn write(&mut self, batch: &Batch) -> Result<(), LogError>;
    fn sync(&mut self) -> Result<(), LogError>;
    fn roll(&mut self) -> Result<(), LogError>;
    fn delete_segment(&mut self, base: u64) -> Result<(), LogError>;
    fn reader(&self) -> Box<dyn ReadDevice>;
}

/// The log's reading side; everybody's.
pub(crate) trait ReadDevice: Send + Sync {
    fn read(&self, position: u64, into: &mut Vec<u8>) -> Result<(), LogError>;
    fn read_range(&self, position: u64, bytes: usize, into: &mut Vec<u8>) -> Result<(), LogError>;
}

/// The other files of the disk.
pub(crate) trait Files: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn sync_directory(&self) -> io::Result<()>;
}

/// The other files of a disk.
pub(crate) fn files<D: Disk>(disk: D) -> Arc<dyn Files> {
    Arc::new(Boxed(disk))
}

struct Boxed<D>(D);

impl<D: Disk> Files for Boxed<D> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(self.0.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(self.0.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.0.sync_directory()
    }
}

impl<D: Disk> Device for Log<D> {
    fn next_position(&self) -> u64 {
        Log::next_position(self)
    }

    fn segments(&self) -> Vec<SegmentStat> {
        Log::segments(self)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), LogError> {
        Log::write(self, batch)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Log::sync(self)
    }

    fn roll(&mut self) -> Result<(), LogError> {
        Log::roll(self)
    }

    fn delete_segment(&mut self, base: u64) -> Result<(), LogError> {
        Log::delete_segment(self, base)
    }

    fn reader(&self) -> Box<dyn ReadDevice> {
        Box::new(Log::reader(self))
    }
}

impl<D: Disk> ReadDevice for Reader<D> {
    fn read(&self, position: u64, into: &mut Vec<u8>) -> Result<(), LogError> {
        Reader::read(self, position, into).map(drop)
    }

    fn read_range(&self, position: u64, bytes: usize, into: &mut Vec<u8>) -> Result<(), LogError> {
        Reader::read_range(self, position, bytes, into)
    }
}

/// Fills `buffer` from `offset` on as far as the file goes; answers how many bytes that were.
pub(crate) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
