//! The disk behind trait objects, so that the ledger need not be generic over it.
//!
//! Owns nothing but these objects: the log's writing side, its reading side, and the other files.

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

/// The log's reading side, for every thread.
pub(crate) trait ReadDevice: Send + Sync {
    fn read(&self, position: u64, into: &mut Vec<u8>) -> Result<(), LogError>;
    fn read_range(&self, position: u64, bytes: usize, into: &mut Vec<u8>) -> Result<(), LogError>;
}

/// The files besides the log.
pub(crate) trait Files: Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn sync_directory(&self) -> io::Result<()>;
}

/// The files on a disk besides the log.
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

/// Fills `buffer` from `offset` on, as far as the file goes; returns the number of bytes read.
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
