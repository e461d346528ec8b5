//! A disk in memory, for what need not survive its process.
//!
//! Owns the bytes of every file; a removed file's are freed with its last handle. Never fails, as long
//! as there is memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// What [`MemoryDisk::free_bytes`] says: nobody knows how much memory there will be.
const FREE_BYTES: u64 = u64::MAX / 4;

/// The disk; clones are handles to the same one.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<String, Arc<Contents>>>>,
}

type Contents = Mutex<Vec<u8>>;

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile(Arc<Contents>);

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Contents>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no file {name}"))
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut files = self.files();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::<Contents>::default();
        files.insert(name.to_owned(), Arc::clone(&contents));
        Ok(MemoryFile(contents))
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        self.files().get(name).cloned().map(MemoryFile).ok_or_else(|| not_found(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| not_found(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let contents = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), contents);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(FREE_BYTES)
    }
}

impl MemoryFile {
    fn contents(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull.into())
}

impl DiskFile for MemoryFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut contents = self.contents();
        let start = place(offset)?;
        let end = start.checked_add(buf.len()).ok_or(io::ErrorKind::StorageFull)?;
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[start..end].copy_from_slice(buf);
        Ok(())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = self.contents();
        let there = contents.get(place(offset)?..).unwrap_or_default();
        let count = there.len().min(buf.len());
        buf[..count].copy_from_slice(&there[..count]);
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.contents().resize(place(len)?, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.contents().len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Log, Options};

    #[test]
    fn a_log_in_memory_is_found_again_and_gives_room_back() {
        let disk = MemoryDisk::new();
        let options = Options { segment_bytes_max: 4096, ..Options::default() };
        let (mut log, _) = Log::open(disk.clone(), options.clone(), &mut |_| {}).expect("opens");
        for _ in 0..100 {
            let mut batch = Batch::new(log.next_position());
            batch.append(1, 0, &[&[7; 100]]);
            log.write(&batch).expect("there is room");
            log.sync().expect("it never fails");
        }
        let segments = log.segments();
        assert!(segments.len() > 2);
        log.delete_segment(segments[0].base).expect("it can go");
        drop(log);
        let mut count = 0;
        let opened = Log::open(disk, options, &mut |_| count += 1).expect("opens");
        assert!(opened.1.missing.is_empty() && (50..100).contains(&count), "{count}");
    }

    #[test]
    fn files_behave_as_on_any_disk() {
        let disk = MemoryDisk::new();
        let file = disk.create("a").expect("new");
        assert_eq!(disk.create("a").expect_err("it is there").kind(), io::ErrorKind::AlreadyExists);
        file.write_at(b"xy", 3).expect("there is room");
        let mut buffer = [9; 4];
        assert_eq!(file.read_at(&mut buffer, 1).expect("there"), 4);
        assert_eq!(buffer, [0, 0, b'x', b'y']);
        assert_eq!(file.read_at(&mut buffer, 9).expect("behind the end"), 0);
        disk.rename("a", "b").expect("there");
        assert_eq!(
            disk.open("a").expect_err("it has another name").kind(),
            io::ErrorKind::NotFound
        );
        file.set_len(4).expect("there is room");
        assert_eq!(disk.open("b").expect("there").len().expect("known"), 4);
        disk.remove("b").expect("there");
        assert_eq!(file.len().expect("open handles keep working"), 4);
        assert_eq!(disk.list().expect("none"), Vec::<String>::new());
    }
}
