//! A simulated disk in memory that fails the way disks do, driven by a seed.
//!
//! Owns, for every file, what a reader sees now (live), what is sure to survive (durable), and the
//! writes in between. A crash keeps the durable image and any part of the writes since, torn at any
//! byte; a change of names that was not yet synced may be lost. Never touches a real file.
//! Invariant: the same seed and the same calls give the same disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::disk::{Disk, DiskFile};

/// The disk; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`FaultyDisk`]; dead after a crash, like the process that held it.
#[derive(Debug)]
pub struct FaultyFile {
    state: Arc<Mutex<State>>,
    id: usize,
    generation: u64,
}

#[derive(Debug, Default)]
struct State {
    random: u64,
    files: Vec<FileState>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the directory was last synced.
    name_changes: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    sync_count: u64,
    /// The sync, counted from the beginning, at which the machine stops.
    crash_at_sync: Option<u64>,
    fails_next_sync: bool,
    is_out_of_files: bool,
    /// The machine has stopped: everything fails until the crash.
    is_down: bool,
    /// Crashes so far; handles from an earlier generation are dead.
    generation: u64,
}

#[derive(Debug, Default)]
struct FileState {
    live: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    kind: ChangeKind,
    /// Its sync failed: it may still reach the disk, but no later sync guarantees it.
    is_doomed: bool,
}

#[derive(Debug)]
enum ChangeKind {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(String, usize),
    Remove(String),
    Rename(String, String),
}

impl FaultyDisk {
    /// An empty disk whose faults follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = State { random: seed ^ 0x6A09_E667_F3BC_C909, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Power off and on: back to the durable images, plus whichever later writes happened to reach
    /// the disk. Handles from before are dead; the disk works again.
    pub fn crash(&self) {
        let mut state = lock(&self.state);
        state.crash();
    }

    /// The `n`th sync from now (1 is the next one; syncs of the directory count too) fails, and so
    /// does everything after it until [`crash`](Self::crash).
    pub fn set_crash_at_sync(&self, n: u64) {
        let mut state = lock(&self.state);
        state.crash_at_sync = Some(state.sync_count + n);
    }

    /// Limits the total bytes of all files; a write beyond the limit fails with `StorageFull` after
    /// writing a part.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        lock(&self.state).capacity_bytes = capacity_bytes;
    }

    /// The next sync of a file fails, once. What it should have made durable is never sure to be,
    /// even if a later sync succeeds: that is how kernels behave.
    pub fn fail_next_sync(&self) {
        lock(&self.state).fails_next_sync = true;
    }

    /// While `true`, no file can be opened or created and the directory cannot be listed
    /// (`EMFILE`); open files keep working. A crash ends it, since a new process has descriptors.
    pub fn set_out_of_files(&self, is_out_of_files: bool) {
        lock(&self.state).is_out_of_files = is_out_of_files;
    }

    /// Flips one bit of the byte at `offset` of a file, on the disk and in memory alike. Returns
    /// whether there is such a byte.
    pub fn flip_byte(&self, name: &str, offset: u64) -> bool {
        let mut state = lock(&self.state);
        let bit = 1 << state.below(8);
        let Some(&id) = state.names.get(name) else { return false };
        let file = &mut state.files[id];
        let Some(byte) = file.live.get_mut(offset as usize) else { return false };
        *byte ^= bit;
        if let Some(byte) = file.durable.get_mut(offset as usize) {
            *byte ^= bit;
        }
        true
    }

    /// Syncs so far, of files and of the directory.
    pub fn sync_count(&self) -> u64 {
        lock(&self.state).sync_count
    }

    /// What a file holds now.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        state.names.get(name).map(|id| state.files[*id].live.clone())
    }

    /// Puts a file on the disk, durably, replacing any file of that name.
    pub fn put(&self, name: &str, contents: &[u8]) {
        let mut state = lock(&self.state);
        let id = state.files.len();
        let (live, durable) = (contents.to_vec(), contents.to_vec());
        state.files.push(FileState { live, durable, changes: Vec::new() });
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.up()?;
        state.take_descriptor()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.up()?;
        state.take_descriptor()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.files.len();
        state.files.push(FileState::default());
        state.names.insert(name.to_owned(), id);
        state.name_changes.push(NameChange::Create(name.to_owned(), id));
        Ok(self.handle(id, state.generation))
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let state = self.up()?;
        state.take_descriptor()?;
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(id, state.generation))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.up()?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.name_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.up()?;
        let id = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), id);
        state.name_changes.push(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.up()?;
        state.count_sync()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.up()?.free_bytes())
    }
}

impl FaultyDisk {
    fn up(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        if state.is_down { Err(down()) } else { Ok(state) }
    }

    fn handle(&self, id: usize, generation: u64) -> FaultyFile {
        FaultyFile { state: Arc::clone(&self.state), id, generation }
    }
}

impl FaultyFile {
    fn up(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        let is_dead = state.is_down || state.generation != self.generation;
        if is_dead { Err(down()) } else { Ok(state) }
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.up()?;
        let free = usize::try_from(state.free_bytes()).unwrap_or(usize::MAX);
        let offset = offset as usize;
        let live_len = state.files[self.id].live.len();
        // Bytes that fit without growing the file, plus what there is room for.
        let fits = live_len.saturating_add(free).saturating_sub(offset).min(buf.len());
        let kept = if fits < buf.len() { state.below(fits as u64 + 1) as usize } else { fits };
        let file = &mut state.files[self.id];
        if kept > 0 {
            let kind = ChangeKind::Write { offset, bytes: buf[..kept].to_vec() };
            kind.apply(&mut file.live, 0..kept);
            file.changes.push(Change { kind, is_doomed: false });
        }
        if kept < buf.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.up()?;
        let live = &state.files[self.id].live;
        let rest = live.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.up()?;
        state.count_sync()?;
        let is_failing = std::mem::take(&mut state.fails_next_sync);
        let file = &mut state.files[self.id];
        if is_failing {
            file.changes.iter_mut().for_each(|change| change.is_doomed = true);
            return Err(io::Error::other("injected sync failure"));
        }
        for change in file.changes.extract_if(.., |change| !change.is_doomed) {
            change.kind.apply_all(&mut file.durable);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.up()?;
        let grown = len.saturating_sub(state.files[self.id].live.len() as u64);
        if grown > state.free_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.id];
        file.live.resize(len as usize, 0);
        let kind = ChangeKind::SetLen(len as usize);
        file.changes.push(Change { kind, is_doomed: false });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.up()?.files[self.id].live.len() as u64)
    }
}

impl ChangeKind {
    /// Applies a part of the bytes; a change of length is applied whole.
    fn apply(&self, image: &mut Vec<u8>, part: std::ops::Range<usize>) {
        match self {
            Self::SetLen(len) => image.resize(*len, 0),
            Self::Write { .. } if part.is_empty() => {}
            Self::Write { offset, bytes } => {
                let (start, end) = (offset + part.start, offset + part.end);
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[start..end].copy_from_slice(&bytes[part]);
            }
        }
    }

    fn apply_all(&self, image: &mut Vec<u8>) {
        self.apply(image, 0..self.len());
    }

    fn len(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::SetLen(_) => 0,
        }
    }
}

impl State {
    /// The next number of the seed's sequence (splitmix64), below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn free_bytes(&self) -> u64 {
        let Some(capacity) = self.capacity_bytes else { return u64::MAX / 2 };
        let used: usize = self.names.values().map(|id| self.files[*id].live.len()).sum();
        capacity.saturating_sub(used as u64)
    }

    fn take_descriptor(&self) -> io::Result<()> {
        if self.is_out_of_files { Err(Errno::MFILE.into()) } else { Ok(()) }
    }

    fn count_sync(&mut self) -> io::Result<()> {
        self.sync_count += 1;
        if self.crash_at_sync.is_some_and(|at| self.sync_count >= at) {
            self.is_down = true;
            return Err(down());
        }
        Ok(())
    }

    fn crash(&mut self) {
        self.names = std::mem::take(&mut self.durable_names);
        for change in std::mem::take(&mut self.name_changes) {
            if self.below(2) == 0 {
                continue;
            }
            match change {
                NameChange::Create(name, id) => {
                    self.names.insert(name, id);
                }
                NameChange::Remove(name) => {
                    self.names.remove(&name);
                }
                NameChange::Rename(from, to) => {
                    if let Some(id) = self.names.remove(&from) {
                        self.names.insert(to, id);
                    }
                }
            }
        }
        self.durable_names = self.names.clone();
        for id in 0..self.files.len() {
            self.crash_file(id);
        }
        self.crash_at_sync = None;
        self.fails_next_sync = false;
        self.is_out_of_files = false;
        self.is_down = false;
        self.generation += 1;
    }

    /// Decides which of a file's unsynced changes reached the disk.
    fn crash_file(&mut self, id: usize) {
        let changes = std::mem::take(&mut self.files[id].changes);
        let mut image = std::mem::take(&mut self.files[id].durable);
        // Nothing, everything, a prefix torn at some byte, or any parts of any of them in any
        // order.
        let style = self.below(4);
        let reached = match style {
            0 => 0,
            1 => changes.len(),
            _ => self.below(changes.len() as u64 + 1) as usize,
        };
        for (index, change) in changes.iter().enumerate().take(reached) {
            let len = change.kind.len();
            let part = match style {
                3 => {
                    let (a, b) = (self.below(len as u64 + 1), self.below(len as u64 + 1));
                    a.min(b) as usize..a.max(b) as usize
                }
                2 if index + 1 == reached => 0..self.below(len as u64 + 1) as usize,
                _ => 0..len,
            };
            change.kind.apply(&mut image, part);
        }
        self.files[id].live = image.clone();
        self.files[id].durable = image;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn down() -> io::Error {
    io::Error::other("the machine is down")
}
