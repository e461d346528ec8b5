//! Disk space kept for emergencies: a file that is removed when nothing else helps.
//!
//! Owns the files `reserve` and `reserve.part`. Never decides when there is an emergency.
//! Invariants: a file called `reserve` of the right length really has its space: allocated where
//! the file system can do that, otherwise with every byte written; giving it up needs neither space
//! nor a descriptor.

use std::io;

use crate::disk::{Disk, DiskFile};

const NAME: &str = "reserve";
const PART: &str = "reserve.part";
const CHUNK_BYTES: usize = 1 << 20;

/// A file that takes up space until the space is needed.
///
/// A broker whose messages fill the disk must still write their settlements, but those queue behind
/// a batch that does not fit, so the disk would never become free. The reserve is the way out.
pub struct Reserve<D: Disk> {
    disk: D,
    bytes: u64,
    is_held: bool,
}

impl<D: Disk> Reserve<D> {
    /// Checks whether there is a reserve of `bytes`; creates none.
    pub fn open(disk: D, bytes: u64) -> Self {
        let len = disk.open(NAME).and_then(|file| file.len());
        // A reserve that cannot be checked is not relied on, but can still be released.
        let is_held = bytes > 0 && len.is_ok_and(|len| len == bytes);
        Self { disk, bytes, is_held }
    }

    /// Whether there is something to release, as far as is known.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Removes the reserve, whatever its size, so that its space can be used. Returns whether there
    /// was one. Works on a full disk and without a descriptor.
    ///
    /// # Errors
    /// Those of the disk; the call can be repeated.
    pub fn release(&mut self) -> io::Result<bool> {
        // Not synced: if a crash brings it back, it is a reserve again and does no harm.
        remove(&self.disk, PART)?;
        let was_there = remove(&self.disk, NAME)?;
        self.is_held = false;
        Ok(was_there)
    }

    /// Creates the reserve if there is none and the disk has at least twice its size free. Returns
    /// whether there is one now. Takes as long as writing that many bytes if the file system cannot
    /// allocate them.
    ///
    /// # Errors
    /// Those of the disk, including a full disk and a want of descriptors. What was written is
    /// removed again, and the call can be repeated.
    pub fn restore(&mut self) -> io::Result<bool> {
        if self.is_held || self.bytes == 0 {
            return Ok(self.is_held);
        }
        if self.disk.free_bytes()? < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        if let Err(error) = self.make() {
            // The error that matters is the first.
            let _ = remove(&self.disk, PART);
            return Err(error);
        }
        self.is_held = true;
        Ok(true)
    }

    fn make(&self) -> io::Result<()> {
        remove(&self.disk, PART)?;
        let file = self.disk.create(PART)?;
        let mut noise = Noise(self.bytes);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut offset = if file.allocate(self.bytes)? { self.bytes } else { 0 };
        while offset < self.bytes {
            let len = (self.bytes - offset).min(CHUNK_BYTES as u64) as usize;
            noise.fill(&mut chunk);
            file.write_at(&chunk[..len], offset)?;
            offset += len as u64;
        }
        file.sync_data()?;
        self.disk.rename(PART, NAME)?;
        self.disk.sync_directory()
    }
}

/// Returns whether there was a file of this name.
fn remove<D: Disk>(disk: &D, name: &str) -> io::Result<bool> {
    match disk.remove(name) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Bytes that no file system can compress or deduplicate (splitmix64).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, chunk: &mut [u8]) {
        for bytes in chunk.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            bytes.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FaultyDisk, Log, Options};

    const BYTES: u64 = 3 << 20;

    #[test]
    fn a_reserve_is_made_where_there_is_room_for_two_and_found_again() {
        let disk = FaultyDisk::new(1);
        let mut reserve = Reserve::open(disk.clone(), BYTES);
        disk.set_capacity_bytes(Some(2 * BYTES - 1));
        assert!(!reserve.restore().expect("no error"));
        assert_eq!(disk.list().expect("up"), Vec::<String>::new());
        disk.set_capacity_bytes(Some(2 * BYTES));
        assert!(reserve.restore().expect("there is room") && reserve.is_held());
        disk.crash();
        let contents = disk.contents(NAME).expect("is durable");
        assert_eq!(contents.len() as u64, BYTES);
        let chunks: std::collections::BTreeSet<_> = contents.chunks(4096).collect();
        assert_eq!(chunks.len(), contents.len() / 4096, "no two blocks are the same");
        assert!(Reserve::open(disk.clone(), BYTES).is_held());
        // A reserve of another size does not count, but can be released or replaced.
        let mut other = Reserve::open(disk.clone(), BYTES / 2);
        assert!(!other.is_held());
        disk.set_capacity_bytes(None);
        assert!(other.restore().expect("there is room"));
        assert_eq!(disk.contents(NAME).map(|contents| contents.len() as u64), Some(BYTES / 2));
        assert!(other.release().expect("is removed") && !other.is_held());
        assert!(!other.release().expect("nothing to remove"));
    }

    #[test]
    fn it_is_released_on_a_full_disk_and_without_a_descriptor() {
        let disk = FaultyDisk::new(1);
        assert!(Reserve::open(disk.clone(), BYTES).restore().expect("there is room"));
        disk.set_capacity_bytes(Some(0));
        disk.set_out_of_files(true);
        let mut reserve = Reserve::open(disk.clone(), BYTES);
        assert!(!reserve.is_held(), "it could not be looked at");
        assert!(reserve.release().expect("removed all the same"));
        assert!(disk.contents(NAME).is_none());
    }

    #[test]
    fn one_that_fails_half_way_leaves_nothing_behind() {
        let disk = FaultyDisk::new(1);
        let mut reserve = Reserve::open(disk.clone(), BYTES);
        disk.set_out_of_files(true);
        assert!(reserve.restore().is_err());
        disk.set_out_of_files(false);
        disk.fail_next_sync();
        assert!(reserve.restore().is_err() && !reserve.is_held());
        assert_eq!(disk.list().expect("up"), Vec::<String>::new());
        for at in 1..3 {
            disk.set_crash_at_sync(at);
            assert!(reserve.restore().is_err());
            disk.crash();
            reserve = Reserve::open(disk.clone(), BYTES);
            let whole = disk.contents(NAME).is_some_and(|found| found.len() as u64 == BYTES);
            assert_eq!(reserve.is_held(), whole);
            // A log in the same directory is not disturbed by what is left.
            Log::open(disk.clone(), Options::default(), &mut |_| {}).expect("opens");
            assert!(reserve.restore().expect("works again"));
            assert!(reserve.release().expect("is removed"));
        }
    }
}
