//! A run: sorted entries in a file that never changes.
//!
//! Owns the format of the file (see the crate's documentation) and the lookup of a key in it: the
//! filter and the first key of every block are in memory, so a key that is in the run costs one
//! read of 4 KiB, and one that is not usually costs none. Never writes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use segment_log::DiskFile;

use super::bloom::{Bloom, LINE_SIZE};
use super::entry::{Kind, VALUE_MASK, value_of};
use crate::device::{Files, read_full};

/// Bytes of a block.
pub(super) const BLOCK_SIZE: usize = 4096;
/// Entries in a block; 16 bytes each.
pub(super) const BLOCK_ENTRIES: usize = 255;
/// Bytes of a block that hold entries; the checksum follows.
pub(super) const BLOCK_BYTES: usize = BLOCK_ENTRIES * 16;
pub(super) const FOOTER_SIZE: usize = 64;
const MAGIC: [u8; 8] = *b"wilcorun";
const VERSION: u32 = 1;

/// A run as the manifest lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunStat {
    /// Names its file.
    pub(crate) number: u64,
    pub(crate) entry_count: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

/// The file name of a run.
pub(crate) fn file_name(kind: Kind, number: u64) -> String {
    format!("{}-{number:010}.run", kind.name())
}

/// The number in a run's file name.
pub(crate) fn parse_file_name(kind: Kind, name: &str) -> Option<u64> {
    let number = name.strip_prefix(kind.name())?.strip_prefix('-')?.strip_suffix(".run")?;
    number.parse().ok().filter(|number| file_name(kind, *number) == name)
}

/// A run.
pub(crate) struct Run {
    pub(super) stat: RunStat,
    pub(super) file: Box<dyn DiskFile>,
    /// The upper 64 bits of each block's first entry.
    pub(super) fences: Vec<u64>,
    pub(super) bloom: Bloom,
    pub(super) min_value: u64,
    pub(super) max_value: u64,
    /// Whether a block was found damaged.
    pub(super) is_damaged: AtomicBool,
}

/// What the end of the file says.
pub(super) struct Footer {
    pub(super) kind: Kind,
    pub(super) entry_count: u64,
    pub(super) min_value: u64,
    pub(super) max_value: u64,
    pub(super) line_count: u64,
    /// The checksum of fences and filter.
    pub(super) crc: u32,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; FOOTER_SIZE] {
        let mut bytes = [0; FOOTER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.entry_count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.min_value.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.max_value.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.line_count.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; FOOTER_SIZE], kind: Kind) -> Option<Self> {
        let word = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
        };
        let is_ours = word(8) == u64::from(VERSION) | (kind as u64) << 32;
        (is_ours && Self::is_intact(bytes)).then(|| Self {
            kind,
            entry_count: word(16),
            min_value: word(24),
            max_value: word(32),
            line_count: word(40),
            crc: word(56) as u32,
        })
    }

    /// Whether it is the footer of a run, of whatever kind and version.
    fn is_intact(bytes: &[u8; FOOTER_SIZE]) -> bool {
        bytes[..8] == MAGIC && bytes[60..] == crc32c::crc32c(&bytes[..60]).to_le_bytes()
    }

    /// Bytes of the file; `None` if there can be no such file.
    fn file_bytes(&self) -> Option<u64> {
        let blocks = self.entry_count.div_ceil(BLOCK_ENTRIES as u64);
        let index = self.line_count.checked_mul(LINE_SIZE as u64)?;
        blocks
            .checked_mul(BLOCK_SIZE as u64 + 8)?
            .checked_add(index)?
            .checked_add(FOOTER_SIZE as u64)
    }
}

/// Why a run cannot be opened.
#[derive(Debug)]
pub(crate) enum RunError {
    /// It is missing or damaged: its entries must be recovered from elsewhere.
    Lost,
    Io(io::Error),
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Lost } else { Self::Io(error) }
    }
}

/// The checksum of a block's entries, its number included.
pub(super) fn block_crc(number: u64, entries: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), entries)
}

impl Run {
    /// Opens a run. A damaged filter is rebuilt from the entries.
    pub(crate) fn open(
        files: &dyn Files,
        kind: Kind,
        number: u64,
        listed: Option<RunStat>,
    ) -> Result<Self, RunError> {
        let file = files.open(&file_name(kind, number))?;
        let bytes = file.len()?;
        let mut footer = [0; FOOTER_SIZE];
        let Some(footer_at) = bytes.checked_sub(FOOTER_SIZE as u64) else {
            return Err(RunError::Lost);
        };
        read_full(&*file, &mut footer, footer_at)?;
        let is_other = Footer::decode(&footer, kind).is_none() && Footer::is_intact(&footer);
        let footer = Footer::decode(&footer, kind)
            .filter(|footer| footer.file_bytes() == Some(bytes) && footer.entry_count > 0);
        let entry_count = match (&footer, listed) {
            (Some(footer), None) => footer.entry_count,
            (Some(footer), Some(listed)) if footer.entry_count == listed.entry_count => {
                listed.entry_count
            }
            // Damaged. A run whose values mean something else is none of ours.
            (None, Some(listed)) if listed.bytes == bytes && !is_other => listed.entry_count,
            _ => return Err(RunError::Lost),
        };
        let mut run = Self {
            stat: RunStat { number, entry_count, bytes },
            file,
            fences: Vec::new(),
            bloom: Bloom::of_lines(1),
            min_value: 0,
            max_value: u64::MAX,
            is_damaged: AtomicBool::new(false),
        };
        match footer {
            Some(footer) if run.load(&footer)? => {
                (run.min_value, run.max_value) = (footer.min_value, footer.max_value);
            }
            _ => {
                tracing::warn!(number, "the filter of a run of the ledger is damaged; made anew");
                run.rebuild()?;
            }
        }
        Ok(run)
    }

    /// Reads fences and filter; `false` if they are damaged.
    fn load(&mut self, footer: &Footer) -> io::Result<bool> {
        const CHUNK_BYTES: usize = 64 << 10;
        let block_count = self.block_count();
        self.fences = Vec::with_capacity(block_count as usize);
        self.bloom = Bloom::of_lines(footer.line_count as usize);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut crc = 0;
        let mut offset = block_count * BLOCK_SIZE as u64;
        let mut read = |len: u64, take: &mut dyn FnMut(&[u8])| -> io::Result<bool> {
            let end = offset + len;
            while offset < end {
                let len = (end - offset).min(CHUNK_BYTES as u64) as usize;
                if read_full(&*self.file, &mut buffer[..len], offset)? < len {
                    return Ok(false);
                }
                crc = crc32c::crc32c_append(crc, &buffer[..len]);
                take(&buffer[..len]);
                offset += len as u64;
            }
            Ok(true)
        };
        let fences = &mut self.fences;
        let has_fences = read(block_count * 8, &mut |bytes| {
            fences.extend(bytes.chunks_exact(8).map(|bytes| {
                bytes.iter().rev().fold(0, |fence, byte| fence << 8 | u64::from(*byte))
            }));
        })?;
        let (bloom, mut line) = (&mut self.bloom, 0);
        let has_bloom = read(footer.line_count * LINE_SIZE as u64, &mut |bytes| {
            for bytes in bytes.chunks_exact(LINE_SIZE) {
                bloom.set_line(line, bytes);
                line += 1;
            }
        })?;
        Ok(has_fences && has_bloom && crc == footer.crc)
    }

    fn rebuild(&mut self) -> Result<(), RunError> {
        self.fences.clear();
        self.bloom = Bloom::new(self.stat.entry_count);
        (self.min_value, self.max_value) = (u64::MAX, 0);
        let mut block = [0; BLOCK_SIZE];
        for number in 0..self.block_count() {
            let Some(entries) = self.block(number, &mut block)? else { return Err(RunError::Lost) };
            for (index, entry) in entries.enumerate() {
                if index == 0 {
                    self.fences.push((entry >> 64) as u64);
                }
                self.bloom.insert(entry);
                self.min_value = self.min_value.min(value_of(entry));
                self.max_value = self.max_value.max(value_of(entry));
            }
        }
        Ok(())
    }

    pub(super) fn block_count(&self) -> u64 {
        self.stat.entry_count.div_ceil(BLOCK_ENTRIES as u64)
    }

    /// Entries of a block.
    pub(super) fn block_len(&self, number: u64) -> usize {
        let before = number * BLOCK_ENTRIES as u64;
        self.stat.entry_count.saturating_sub(before).min(BLOCK_ENTRIES as u64) as usize
    }

    /// Reads a block; `None` if it is damaged.
    fn block<'b>(
        &self,
        number: u64,
        block: &'b mut [u8; BLOCK_SIZE],
    ) -> io::Result<Option<impl ExactSizeIterator<Item = u128> + use<'b>>> {
        let filled = read_full(&*self.file, block, number * BLOCK_SIZE as u64)?;
        let len = self.block_len(number);
        if filled < BLOCK_SIZE || !is_intact(number, block) {
            self.note_damage(number);
            return Ok(None);
        }
        Ok(Some(entries(&block[..len * 16])))
    }

    /// Logs damage, once per run.
    pub(super) fn note_damage(&self, block: u64) {
        if !self.is_damaged.swap(true, Ordering::Relaxed) {
            let number = self.stat.number;
            tracing::warn!(number, block, "a run of the ledger is damaged");
        }
    }

    pub(super) fn may_contain(&self, key: u128) -> bool {
        self.bloom.may_contain(key)
    }

    /// Calls `tell` with the values of a key. Entries in a damaged block are left out.
    pub(super) fn values(&self, key: u128, tell: &mut dyn FnMut(u64)) -> io::Result<()> {
        let key = key & !VALUE_MASK;
        let fence = (key >> 64) as u64;
        // Entries of the key may begin at the end of the block before the first one that starts
        // with it.
        let start = self.fences.partition_point(|other| *other < fence).saturating_sub(1);
        let mut block = [0; BLOCK_SIZE];
        for number in start..self.fences.len() {
            if number > start && self.fences[number] > fence {
                break;
            }
            let Some(entries) = self.block(number as u64, &mut block)? else { continue };
            let entries = entries.skip_while(|entry| *entry < key);
            entries
                .take_while(|entry| entry & !VALUE_MASK == key)
                .for_each(|entry| tell(value_of(entry)));
        }
        Ok(())
    }
}

/// Whether a block's checksum holds.
pub(super) fn is_intact(number: u64, block: &[u8]) -> bool {
    let crc = block_crc(number, &block[..BLOCK_BYTES]);
    block[BLOCK_BYTES..BLOCK_BYTES + 4] == crc.to_le_bytes()
}

/// The entries in bytes.
pub(super) fn entries(bytes: &[u8]) -> impl ExactSizeIterator<Item = u128> + use<'_> {
    bytes.chunks_exact(16).map(|bytes| {
        let mut entry = [0; 16];
        entry.copy_from_slice(bytes);
        u128::from_le_bytes(entry)
    })
}
