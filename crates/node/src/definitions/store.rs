//! The definitions on disk: one redb file.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableError};
use segment_log::Disk;

use super::disk_backend::DiskBackend;
use super::tables::{
    APPLIED_POSITION, BINDINGS, EXCHANGES, FORMAT, META, NEXT_INCARNATION, NEXT_QUEUE_ID,
    PERMISSIONS, QUEUES, Tables, USERS, VHOST_INCARNATIONS, VHOSTS, parse,
};
use super::watched::Watched;
use super::{Change, DefinitionError, Definitions, StoredBinding};

/// The format this version reads and writes.
const FORMAT_VERSION: u64 = 1;

/// Only the owner may read password hashes.
const FILE_MODE: u32 = 0o600;

/// redb's page cache. The definitions are read once, at the start: this is for writing.
const CACHE_BYTES: usize = 8 << 20;

/// The bytes a finished redb file begins with. redb writes them last when it creates a file.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Opens the database; the flag must be set when a sync of it fails.
type Open = Box<dyn Fn(&Arc<AtomicBool>) -> Result<(Database, u64), DefinitionError> + Send + Sync>;

/// The definitions on disk. Only one handle at a time: a second one, in this process or another, is
/// refused with [`DefinitionError::InUse`].
pub struct DefinitionStore {
    /// `None` after a failure: redb then refuses everything until the file is opened again.
    database: Mutex<Option<Database>>,
    open_again: Open,
    sync_failed: Arc<AtomicBool>,
    is_closed: AtomicBool,
    name: String,
    applied_position: AtomicU64,
}

impl fmt::Debug for DefinitionStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DefinitionStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl DefinitionStore {
    /// Opens the store in the file `path`, creating it if it does not exist.
    ///
    /// # Errors
    /// [`DefinitionError::InUse`], [`DefinitionError::Damaged`], [`DefinitionError::Format`] or
    /// [`DefinitionError::Io`].
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, DefinitionError> {
        let path = path.as_ref().to_owned();
        let name = path.display().to_string();
        Self::new(name.clone(), move |sync_failed| {
            let io_error = |source| DefinitionError::Io { name: name.clone(), source };
            let file = open_or_create(&path).map_err(io_error)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(DefinitionError::InUse { name: name.clone() });
                }
                Err(TryLockError::Error(source)) => return Err(io_error(source)),
            }
            let backend =
                FileBackend::new(file).map_err(|error| DefinitionError::from_redb(&name, error))?;
            discard_unfinished(&backend).map_err(io_error)?;
            open(Watched::new(backend, sync_failed), &name)
        })
    }

    /// Opens the store in the file `name` of a disk, creating it if it does not exist. The owner of
    /// the disk ensures that it has only one user.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), without `InUse`.
    pub fn open_on_disk<D: Disk + Clone>(disk: &D, name: &str) -> Result<Self, DefinitionError> {
        let (disk, name) = (disk.clone(), name.to_owned());
        Self::new(name.clone(), move |sync_failed| {
            let io_error = |source| DefinitionError::Io { name: name.clone(), source };
            let backend = DiskBackend::open(&disk, &name).map_err(io_error)?;
            discard_unfinished(&backend).map_err(io_error)?;
            open(Watched::new(backend, sync_failed), &name)
        })
    }

    /// Opens the store on any storage redb can use. It cannot be opened again after a failure.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file).
    pub fn open_with_backend(backend: impl StorageBackend) -> Result<Self, DefinitionError> {
        let name = "in memory".to_owned();
        let backend = Mutex::new(Some(backend));
        Self::new(name.clone(), move |sync_failed| match backend.lock().take() {
            Some(backend) => open(Watched::new(backend, sync_failed), &name),
            None => Err(DefinitionError::from_redb(&name, redb::Error::PreviousIo)),
        })
    }

    fn new(
        name: String,
        open: impl Fn(&Arc<AtomicBool>) -> Result<(Database, u64), DefinitionError>
        + Send
        + Sync
        + 'static,
    ) -> Result<Self, DefinitionError> {
        let sync_failed = Arc::default();
        let (database, applied_position) = open(&sync_failed)?;
        Ok(Self {
            database: Mutex::new(Some(database)),
            open_again: Box::new(open),
            sync_failed,
            is_closed: AtomicBool::new(false),
            name,
            applied_position: AtomicU64::new(applied_position),
        })
    }

    /// Everything that is stored.
    ///
    /// # Errors
    /// [`DefinitionError::Damaged`] or [`DefinitionError::Io`].
    pub fn load(&self) -> Result<Definitions, DefinitionError> {
        self.with_database(read_all)
    }

    /// The log position after the last change in the store; 0 at first. Changes from there on must
    /// be applied again at the start.
    pub fn applied_position(&self) -> u64 {
        self.applied_position.load(Ordering::Acquire)
    }

    /// Applies changes, in order, in one transaction that is on disk when this returns.
    /// `applied_position` is the log position after the last of them.
    ///
    /// # Errors
    /// [`DefinitionError::Io`] or [`DefinitionError::Damaged`]: the same changes may be applied
    /// again later, for either none of them or all of them took effect.
    /// [`DefinitionError::Closed`].
    pub fn apply(&self, changes: &[Change], applied_position: u64) -> Result<(), DefinitionError> {
        self.with_database(|database| write(database, changes, applied_position))?;
        self.applied_position.store(applied_position, Ordering::Release);
        Ok(())
    }

    /// Lets go of the file, whoever still has this handle: another may be opened.
    pub fn close(&self) {
        let mut database = self.database.lock();
        self.is_closed.store(true, Ordering::Release);
        *database = None;
    }

    /// Works on the database, after opening it again if the last work failed for want of room.
    fn with_database<R>(
        &self,
        work: impl FnOnce(&Database) -> Result<R, redb::Error>,
    ) -> Result<R, DefinitionError> {
        let mut guard = self.database.lock();
        if self.is_closed.load(Ordering::Acquire) {
            return Err(DefinitionError::Closed { name: self.name.clone() });
        }
        let database = match guard.take() {
            Some(database) => database,
            None if self.sync_failed.load(Ordering::Acquire) => {
                return Err(DefinitionError::from_redb(&self.name, redb::Error::PreviousIo));
            }
            None => (self.open_again)(&self.sync_failed)?.0,
        };
        let result = work(&database).map_err(|error| DefinitionError::from_redb(&self.name, error));
        if result.is_ok() {
            *guard = Some(database);
        }
        result
    }
}

/// Opens the database and reads how far it has followed the log.
fn open(backend: impl StorageBackend, name: &str) -> Result<(Database, u64), DefinitionError> {
    let opened = Database::builder()
        .set_cache_size(CACHE_BYTES)
        // redb may panic on a damaged file, or serve altered contents, unless told to check all of
        // it first.
        .set_check_integrity_on_open(true)
        .create_with_backend(backend)
        .map_err(redb::Error::from)
        .and_then(|database| Ok((read_or_prepare(&database)?, database)));
    let ((format, applied_position), database) =
        opened.map_err(|error| DefinitionError::from_redb(name, error))?;
    if format != FORMAT_VERSION {
        let (name, supported) = (name.to_owned(), FORMAT_VERSION);
        return Err(DefinitionError::Format { name, found: format, supported });
    }
    Ok((database, applied_position))
}

/// Format and applied position of the store; an empty one is prepared first. A store with another
/// format is left as it is.
fn read_or_prepare(database: &Database) -> Result<(u64, u64), redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => {
            let value = |key| -> Result<u64, redb::Error> {
                Ok(meta.get(key)?.map_or(0, |value| value.value()))
            };
            return Ok((value(FORMAT)?, value(APPLIED_POSITION)?));
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let transaction = database.begin_write()?;
    Tables::open(&transaction)?.meta.insert(FORMAT, FORMAT_VERSION)?;
    transaction.commit()?;
    Ok((FORMAT_VERSION, 0))
}

fn write(database: &Database, changes: &[Change], position: u64) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut tables = Tables::open(&transaction)?;
        for change in changes {
            tables.apply(change)?;
        }
        tables.meta.insert(APPLIED_POSITION, position)?;
    }
    Ok(transaction.commit()?)
}

fn read_all(database: &Database) -> Result<Definitions, redb::Error> {
    let transaction = database.begin_read()?;
    let mut all = Definitions::default();
    for entry in transaction.open_table(VHOSTS)?.iter()? {
        all.vhosts.insert(entry?.0.value().to_owned(), 0);
    }
    match transaction.open_table(VHOST_INCARNATIONS) {
        Ok(incarnations) => {
            for entry in incarnations.iter()? {
                let (name, incarnation) = entry?;
                all.vhosts.insert(name.value().to_owned(), incarnation.value());
            }
        }
        // Nothing has been written since there are any.
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    for entry in transaction.open_table(USERS)?.iter()? {
        let (name, user) = entry?;
        all.users.insert(name.value().to_owned(), parse(user.value())?);
    }
    for entry in transaction.open_table(PERMISSIONS)?.iter()? {
        let (key, permissions) = entry?;
        all.permissions.insert(owned(key.value()), parse(permissions.value())?);
    }
    for entry in transaction.open_table(EXCHANGES)?.iter()? {
        let (key, exchange) = entry?;
        all.exchanges.insert(owned(key.value()), parse(exchange.value())?);
    }
    for entry in transaction.open_table(QUEUES)?.iter()? {
        let (key, queue) = entry?;
        all.queues.insert(owned(key.value()), parse(queue.value())?);
    }
    for entry in transaction.open_table(BINDINGS)?.iter()? {
        let key = entry?.0;
        let (vhost, destination_is_queue, destination, source, routing_key, arguments) =
            key.value();
        let binding = StoredBinding {
            destination_is_queue,
            destination: destination.to_owned(),
            source: source.to_owned(),
            routing_key: routing_key.to_owned(),
            arguments: arguments.to_vec(),
        };
        all.bindings.insert((vhost.to_owned(), binding));
    }
    let meta = transaction.open_table(META)?;
    let next = meta.get(NEXT_QUEUE_ID)?.map_or(0, |next| next.value());
    all.next_incarnation = meta.get(NEXT_INCARNATION)?.map_or(0, |next| next.value());
    all.next_queue_id = u32::try_from(next)
        .map_err(|_| redb::Error::Corrupted(format!("next queue id {next} is out of range")))?;
    Ok(all)
}

fn owned((vhost, name): (&str, &str)) -> (String, String) {
    (vhost.to_owned(), name.to_owned())
}

/// The file, created if it does not exist, in such a way that its name survives a crash.
fn open_or_create(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            // An earlier file may have been readable by others, and it holds password hashes. If it
            // belongs to another user, its directory has to protect it.
            let _ = file.set_permissions(Permissions::from_mode(FILE_MODE));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(FILE_MODE)
                .open(path)?;
            // Regardless of the umask.
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(file)
        }
        result => result,
    }
}

fn discard_unfinished(backend: &impl StorageBackend) -> io::Result<()> {
    let mut start = [0; MAGIC.len()];
    let length = backend.len()?;
    let present = start.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    backend.read(0, &mut start[..present])?;
    if length > 0 && is_unfinished(&start) { backend.set_len(0) } else { Ok(()) }
}

/// Whether a file that begins like this is one whose creation a crash cut short. redb syncs
/// everything else before it writes the magic number, and never accepts a file without it; such a
/// file never held a definition. A torn write may have left part of the number, followed by zeros.
fn is_unfinished(start: &[u8; MAGIC.len()]) -> bool {
    start != &MAGIC
        && start.iter().zip(&MAGIC).all(|(found, expected)| *found == 0 || found == expected)
}
