//! The list of runs, in a file that is replaced as a whole.
//!
//! Owns the file `manifest` and its format (see the crate's documentation). Invariants: a run is
//! durable before a manifest lists it, and is removed only after one that does not list it is
//! durable.

use std::io;

use crate::device::{Files, read_full};
use crate::lookup::RunStat;

const NAME: &str = "manifest";
const NEW_NAME: &str = "manifest.new";
const MAGIC: [u8; 8] = *b"wilcoman";
const VERSION: u32 = 1;

/// The runs of a lookup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The pages before this position are all in the runs.
    pub(crate) covered: u64,
    pub(crate) runs: Vec<RunStat>,
}

/// All runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// No run has this number or one above.
    pub(crate) next_number: u64,
    pub(crate) index: Listing,
    pub(crate) window: Listing,
}

impl Manifest {
    /// Reads the manifest; `None` if it is missing or damaged.
    pub(crate) fn load(files: &dyn Files) -> io::Result<Option<Self>> {
        let file = match files.open(NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // A few bytes per run; more is damage.
        const SIZE_MAX: u64 = 16 << 20;
        let mut bytes = vec![0; file.len()?.min(SIZE_MAX) as usize];
        let filled = read_full(&*file, &mut bytes, 0)?;
        Ok(Self::decode(&bytes[..filled]))
    }

    /// Replaces the previous manifest with this one, durably.
    pub(crate) fn store(&self, files: &dyn Files) -> io::Result<()> {
        match files.remove(NEW_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = files.create(NEW_NAME)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()?;
        files.rename(NEW_NAME, NAME)?;
        files.sync_directory()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.next_number.to_le_bytes());
        for listing in [&self.index, &self.window] {
            bytes.extend_from_slice(&listing.covered.to_le_bytes());
            bytes.extend_from_slice(&(listing.runs.len() as u64).to_le_bytes());
            for run in &listing.runs {
                for number in [run.number, run.entry_count, run.bytes] {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
            }
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, crc) = bytes.split_last_chunk::<4>()?;
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<8>()?;
        let is_ours = *magic == MAGIC
            && u64::from_le_bytes(*version) == u64::from(VERSION)
            && *crc == crc32c::crc32c(bytes).to_le_bytes();
        if !is_ours {
            return None;
        }
        let mut words = rest
            .chunks_exact(8)
            .map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        let next_number = words.next()?;
        let mut listing = || {
            let covered = words.next()?;
            let count = words.next()?;
            let mut runs = Vec::new();
            for _ in 0..count {
                let [number, entry_count, bytes] = [words.next()?, words.next()?, words.next()?];
                runs.push(RunStat { number, entry_count, bytes });
            }
            Some(Listing { covered, runs })
        };
        Some(Self { next_number, index: listing()?, window: listing()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::files;
    use segment_log::FaultyDisk;

    #[test]
    fn a_manifest_is_read_as_written_and_damage_is_seen() {
        let disk = FaultyDisk::new(1);
        let files = files(disk.clone());
        assert_eq!(Manifest::load(&*files).unwrap(), None);
        let stat = |number| RunStat { number, entry_count: 7, bytes: 9 };
        let manifest = Manifest {
            next_number: 5,
            index: Listing { covered: 3, runs: vec![stat(1), stat(2)] },
            window: Listing { covered: 4, runs: vec![stat(3)] },
        };
        for next_number in [5, 6] {
            let manifest = Manifest { next_number, ..manifest.clone() };
            manifest.store(&*files).unwrap();
            assert_eq!(Manifest::load(&*files).unwrap(), Some(manifest));
        }
        let len = disk.contents(NAME).unwrap().len() as u64;
        for offset in 0..len {
            disk.flip_byte(NAME, offset);
            assert_eq!(Manifest::load(&*files).unwrap(), None, "byte {offset}");
            Manifest { next_number: 5, ..manifest.clone() }.store(&*files).unwrap();
        }
    }
}
