//! The log behind a trait, so that the node need not be generic over the disk.

use segment_log::{Batch, Disk, Log, LogError, Reader, RecordRef, Reserve};

/// The writing side; it belongs to the committer.
pub(crate) trait Device: Send {
    fn next_position(&self) -> u64;
    fn active_base(&self) -> u64;
    fn write(&mut self, batch: &Batch) -> Result<(), LogError>;
    fn sync(&mut self) -> Result<(), LogError>;
    fn delete_segments(&mut self, bases: &[u64]) -> Result<(), LogError>;
    /// Closes the current segment and begins another.
    fn roll(&mut self) -> Result<(), LogError>;
    /// Whether a segment exists.
    fn has_segment(&self, base: u64) -> bool;
    fn reader(&self) -> Box<dyn ReadDevice>;
}

/// The reading side; shared by all.
pub(crate) trait ReadDevice: Send + Sync {
    fn read_range(&self, position: u64, bytes: usize, into: &mut Vec<u8>) -> Result<(), LogError>;
    fn scan_segment(&self, base: u64, visit: &mut dyn FnMut(RecordRef<'_>))
    -> Result<(), LogError>;
    fn free_bytes(&self) -> std::io::Result<u64>;
}

/// The space that is reserved for emergencies.
pub(crate) trait ReserveDevice: Send {
    fn is_held(&self) -> bool;
    fn release(&mut self) -> std::io::Result<bool>;
    fn restore(&mut self) -> std::io::Result<bool>;
}

impl<D: Disk> ReserveDevice for Reserve<D> {
    fn is_held(&self) -> bool {
        Reserve::is_held(self)
    }

    fn release(&mut self) -> std::io::Result<bool> {
        Reserve::release(self)
    }

    fn restore(&mut self) -> std::io::Result<bool> {
        Reserve::restore(self)
    }
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

    fn delete_segments(&mut self, bases: &[u64]) -> Result<(), LogError> {
        Log::delete_segments(self, bases)
    }

    fn roll(&mut self) -> Result<(), LogError> {
        Log::roll(self)
    }

    fn has_segment(&self, base: u64) -> bool {
        self.segments().iter().any(|segment| segment.base == base)
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
