//! The log behind a type of its own, so that the node does not carry the disk's type about.

use segment_log::{Batch, Disk, Log, LogError, Reader, RecordRef};

/// The writing side; the committer's.
pub(crate) trait Device: Send {
    fn next_position(&self) -> u64;
    fn active_base(&self) -> u64;
    fn write(&mut self, batch: &Batch) -> Result<(), LogError>;
    fn sync(&mut self) -> Result<(), LogError>;
    fn delete_segment(&mut self, base: u64) -> Result<(), LogError>;
    fn reader(&self) -> Box<dyn ReadDevice>;
}

/// The reading side; everybody's.
pub(crate) trait ReadDevice: Send + Sync {
    fn read_range(&self, position: u64, bytes: usize, into: &mut Vec<u8>) -> Result<(), LogError>;
    fn scan_segment(&self, base: u64, visit: &mut dyn FnMut(RecordRef<'_>))
    -> Result<(), LogError>;
    fn free_bytes(&self) -> std::io::Result<u64>;
}

struct LogReader<D: Disk> {
    reader: Reader<D>,
    disk: D,
}

impl<D: Disk + Clone> Device for Log<D> {
    fn next_position(&self) -> u64 {
        Log::next_position(self)
    }

    fn active_base(&self) -> u64 {
        self.segments().last().map_or(0, |segment| segment.base)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), LogError> {
        Log::write(self, batch)
    }

    fn sync(&mut self) -> Result<(), LogError> {
        Log::sync(self)
    }

    fn delete_segment(&mut self, base: u64) -> Result<(), LogError> {
        Log::delete_segment(self, base)
    }

    fn reader(&self) -> Box<dyn ReadDevice> {
        Box::new(LogReader { reader: Log::reader(self), disk: self.disk().clone() })
    }
}

impl<D: Disk> ReadDevice for LogReader<D> {
    fn read_range(&self, position: u64, bytes: usize, into: &mut Vec<u8>) -> Result<(), LogError> {
        self.reader.read_range(position, bytes, into)
    }

    fn scan_segment(
        &self,
        base: u64,
        visit: &mut dyn FnMut(RecordRef<'_>),
    ) -> Result<(), LogError> {
        self.reader.scan_segment(base, visit)
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }
}
