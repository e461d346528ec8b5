//! Writes a run.
//!
//! Owns a file that nobody knows of until it is complete and durable. Writes and syncs in small
//! steps, so that no single step takes long.

use std::io;
use std::sync::atomic::AtomicBool;

use segment_log::DiskFile;

use super::bloom::{Bloom, LINE_SIZE};
use super::entry::{Kind, value_of};
use super::run::{BLOCK_BYTES, BLOCK_SIZE, Footer, Run, RunStat, block_crc, file_name};
use crate::device::Files;

/// Bytes written at a time.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes after which the file is synced, so that the last sync is short.
const SYNC_BYTES: u64 = 4 << 20;

/// A run being written.
pub(super) struct RunWriter {
    kind: Kind,
    number: u64,
    file: Box<dyn DiskFile>,
    /// What is not yet written; its first byte goes to `offset`.
    buffer: Vec<u8>,
    offset: u64,
    synced: u64,
    /// Where the current block begins in `buffer`.
    block_at: usize,
    block_count: u64,
    entry_count: u64,
    fences: Vec<u64>,
    bloom: Bloom,
    min_value: u64,
    max_value: u64,
}

impl RunWriter {
    /// Begins a run of at most `entry_count_max` entries.
    pub(super) fn new(
        files: &dyn Files,
        kind: Kind,
        number: u64,
        entry_count_max: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            kind,
            number,
            file: files.create(&file_name(kind, number))?,
            buffer: Vec::with_capacity(WRITE_BYTES + BLOCK_SIZE),
            offset: 0,
            synced: 0,
            block_at: 0,
            block_count: 0,
            entry_count: 0,
            fences: Vec::new(),
            bloom: Bloom::new(entry_count_max),
            min_value: u64::MAX,
            max_value: 0,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entry_count == 0
    }

    /// Appends an entry, greater than the one before.
    pub(super) fn push(&mut self, entry: u128) -> io::Result<()> {
        if self.buffer.len() == self.block_at {
            self.fences.push((entry >> 64) as u64);
        }
        self.buffer.extend_from_slice(&entry.to_le_bytes());
        self.bloom.insert(entry);
        self.entry_count += 1;
        self.min_value = self.min_value.min(value_of(entry));
        self.max_value = self.max_value.max(value_of(entry));
        if self.buffer.len() - self.block_at == BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.buffer.resize(self.block_at + BLOCK_BYTES, 0);
        let crc = block_crc(self.block_count, &self.buffer[self.block_at..]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.buffer.resize(self.block_at + BLOCK_SIZE, 0);
        self.block_count += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        self.block_at = self.buffer.len();
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        if self.offset - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    /// Ends the run: it is durable now, except for its name.
    pub(super) fn finish(mut self) -> io::Result<Run> {
        if self.buffer.len() > self.block_at {
            self.end_block()?;
        }
        self.write()?;
        let mut crc = 0;
        for fences in self.fences.chunks(WRITE_BYTES / 8) {
            self.buffer.extend(fences.iter().flat_map(|fence| fence.to_le_bytes()));
            crc = crc32c::crc32c_append(crc, &self.buffer);
            self.file.write_at(&self.buffer, self.offset)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
        let line_count = self.bloom.line_count();
        for first in (0..line_count).step_by(WRITE_BYTES / LINE_SIZE) {
            let lines = first..line_count.min(first + WRITE_BYTES / LINE_SIZE);
            self.buffer.extend(lines.flat_map(|line| self.bloom.line_bytes(line)));
            crc = crc32c::crc32c_append(crc, &self.buffer);
            self.write()?;
        }
        let footer = Footer {
            kind: self.kind,
            entry_count: self.entry_count,
            min_value: self.min_value,
            max_value: self.max_value,
            line_count: line_count as u64,
            crc,
        };
        self.buffer.extend_from_slice(&footer.encode());
        self.write()?;
        self.file.sync_data()?;
        self.fences.shrink_to_fit();
        let (number, entry_count) = (self.number, self.entry_count);
        Ok(Run {
            stat: RunStat { number, entry_count, bytes: self.offset },
            file: self.file,
            fences: self.fences,
            bloom: self.bloom,
            min_value: self.min_value,
            max_value: self.max_value,
            is_damaged: AtomicBool::new(false),
        })
    }
}
