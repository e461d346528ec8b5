//! A file created before it is needed, so that using it takes no descriptor and hardly any room.
//!
//! Owns the name that the file has until it is used. What is in the file counts only once it has
//! been renamed. Invariant: whatever a crash or an error leaves under the name is written over as a
//! whole before it is used.

use std::io;

use crate::disk::{Disk, DiskFile};
use crate::error::{Action, LogError};

/// The spare file, if there is one at the moment.
pub(crate) struct Spare<F> {
    name: &'static str,
    file: Option<F>,
}

impl<F: DiskFile> Spare<F> {
    /// No file yet.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, file: None }
    }

    /// Creates the file if there is none, with room for `len` bytes if the disk has it.
    pub(crate) fn prepare<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        len: usize,
    ) -> Result<(), LogError> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = match disk.create(self.name) {
            // A crash left it. If it were replaced, another crash might bring the old one back just
            // before it is renamed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.open(self.name).map_err(self.failed(Action::Open))?
            }
            created => created.map_err(self.failed(Action::Create))?,
        };
        // The descriptor is worth having even if there is no room; filling it will tell.
        match file.write_at(&vec![0; len], 0).map_err(self.failed(Action::Write)) {
            Err(error) if !error.is_temporary() => return Err(error),
            _ => {}
        }
        self.file = Some(file);
        Ok(())
    }

    /// Makes the file hold exactly `contents`, durably. It can be filled again until it is renamed.
    pub(crate) fn fill<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        contents: &[u8],
    ) -> Result<(), LogError> {
        self.prepare(disk, contents.len())?;
        let Some(file) = &self.file else { return Ok(()) };
        file.write_at(contents, 0).map_err(self.failed(Action::Write))?;
        file.set_len(contents.len() as u64).map_err(self.failed(Action::Cut))?;
        file.sync_data().map_err(self.failed(Action::Sync))
    }

    /// Gives the filled file its final name, durably, and returns it.
    pub(crate) fn rename<D: Disk<File = F>>(&mut self, disk: &D, to: &str) -> Result<F, LogError> {
        let Some(file) = self.file.take() else {
            return Err(LogError::Misuse("a spare file is renamed before it is filled"));
        };
        if let Err(error) = disk.rename(self.name, to) {
            self.file = Some(file);
            return Err(LogError::from_io(Action::Rename, to, error));
        }
        disk.sync_directory()
            .map_err(|error| LogError::from_io(Action::SyncDirectory, to, error))?;
        Ok(file)
    }

    fn failed(&self, action: Action) -> impl Fn(io::Error) -> LogError + use<F> {
        let name = self.name;
        move |error| LogError::from_io(action, name, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultyDisk;

    #[test]
    fn what_is_left_under_the_name_is_not_used() {
        let disk = FaultyDisk::new(1);
        disk.put("spare", b"left by a crash, and longer than what comes");
        let mut spare = Spare::new("spare");
        spare.prepare(&disk, 4).expect("is made anew");
        spare.fill(&disk, b"longer").expect("is filled");
        spare.fill(&disk, b"short").expect("is filled again");
        spare.rename(&disk, "named").expect("is renamed");
        disk.crash();
        assert_eq!(disk.contents("named").as_deref(), Some(&b"short"[..]));
        assert_eq!(disk.list().expect("up"), ["named"]);
    }

    #[test]
    fn one_that_is_prepared_needs_neither_room_nor_a_descriptor() {
        let disk = FaultyDisk::new(1);
        let mut spare = Spare::new("spare");
        spare.prepare(&disk, 5).expect("there is room");
        disk.set_capacity_bytes(Some(0));
        disk.set_out_of_files(true);
        spare.fill(&disk, b"short").expect("is filled");
        spare.rename(&disk, "named").expect("is renamed");
        assert!(matches!(spare.fill(&disk, b"short"), Err(LogError::OutOfFiles)));
        disk.set_out_of_files(false);
        assert!(matches!(spare.fill(&disk, b"short"), Err(LogError::DiskFull)));
        disk.set_capacity_bytes(None);
        spare.fill(&disk, b"short").expect("there is room again");
    }
}
