//! From an opened store to a living node: the lock on the directory, the definitions, the queues.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use broker::queue::Restored;
use broker::{BrokerError, QueueId};
use segment_log::{Disk, Quarantine, RealDisk, Recovery, Reserve};

use crate::NodeError;
use crate::definitions::{Definitions, convert};
use crate::engine::Engine;
use crate::options::StoreOptions;
use crate::registry::{LiveQueue, Vhost};

/// Modes of the store's directories and files: only the owner has access, whatever the umask.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What was found in the store at the start.
#[derive(Debug, Clone, Default)]
pub struct RecoverySummary {
    /// Messages in durable queues.
    pub message_count: u64,
    /// Durable queues.
    pub queue_count: usize,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// What was wrong, in one clear line each; already logged.
    pub warnings: Vec<String>,
}

/// Claims the directory for this process, and closes it to other users of the machine: it holds
/// messages, password hashes and secrets. The lock ends with the file handle, so also with a crash.
pub(crate) fn lock_directory(directory: &Path) -> Result<File, NodeError> {
    let shown = directory.display();
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(NodeError::disk(format!("create {shown}")))?;
    close_to_others(directory)?;
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(NodeError::disk(format!("open {shown}/lock")))?;
    // Whoever can open the file can lock it.
    set_mode(&path, FILE_MODE);
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(NodeError::StoreInUse { path: shown.to_string() }),
        Err(TryLockError::Error(error)) => Err(NodeError::disk(format!("lock {shown}"))(error)),
    }
}

/// Closes a directory of our own; one that is open to everybody (`/tmp`) is not ours to close.
fn close_to_others(directory: &Path) -> Result<(), NodeError> {
    const FOR_EVERYBODY: u32 = 0o1002;
    let shown = directory.display();
    let found = std::fs::metadata(directory).map_err(NodeError::disk(format!("open {shown}")))?;
    if found.permissions().mode() & FOR_EVERYBODY == FOR_EVERYBODY {
        return Err(NodeError::SharedDirectory { path: shown.to_string() });
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own && found.uid() != 0 {
        let uid = found.uid();
        tracing::warn!(
            "{shown} belongs to another user of the machine (uid {uid}), who can read and change the store; give it to the user that wilco runs as (uid {own})"
        );
    }
    set_mode(directory, DIRECTORY_MODE);
    Ok(())
}

/// If the file belongs to another user, or the file system has no modes, that is logged and
/// tolerated.
fn set_mode(path: &Path, mode: u32) {
    let set = std::fs::metadata(path).and_then(|found| match found.permissions().mode() & 0o777 {
        found if found == mode => Ok(()),
        _ => std::fs::set_permissions(path, Permissions::from_mode(mode)),
    });
    if let Err(error) = set {
        let shown = path.display();
        tracing::warn!("{shown} cannot be closed to other users of the machine: {error}");
    }
}

/// Gives up the disk's reserve if a start might lack the room it needs.
pub(crate) fn free_reserve_if_full(disk: &RealDisk, options: &StoreOptions) {
    /// How much the definitions, the ledger and the webhooks may write before anything is consumed.
    const START_BYTES: u64 = 32 << 20;
    let is_full = disk.free_bytes().is_ok_and(|free| free < START_BYTES);
    let mut reserve = Reserve::open(disk.clone(), options.disk_free_bytes_min);
    if is_full {
        match reserve.release() {
            Ok(true) => tracing::warn!("the disk is full; its reserve is used for the start"),
            Ok(false) => {}
            Err(error) => tracing::error!("the reserve of the disk cannot be removed: {error}"),
        }
    }
}

/// Counts what recovery found and logs what was wrong.
pub(crate) fn summarize(
    log: &Recovery,
    losses: Vec<String>,
    queues: &HashMap<QueueId, Vec<Restored>>,
    definitions: &Definitions,
) -> RecoverySummary {
    losses.iter().for_each(|loss| tracing::error!("{loss}"));
    let mut warnings = Vec::new();
    if let Some(tail) = &log.torn_tail {
        let (position, bytes) = (tail.position, tail.bytes);
        warnings.push(format!(
            "the log ended in {bytes} unfinished bytes at position {position}, never confirmed; they are cut off"
        ));
    }
    warnings.extend(log.quarantined.iter().filter(|q| !q.is_known).map(|quarantine| {
        let Quarantine { position, bytes, damage, file, .. } = quarantine;
        let kept = file.as_deref().unwrap_or("the segment itself");
        format!("{bytes} bytes at position {position} are damaged ({damage:?}); they are kept in {kept}, everything else was read")
    }));
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    warnings.splice(..0, losses);
    RecoverySummary {
        message_count: queues.values().map(|messages| messages.len() as u64).sum(),
        queue_count: definitions.queues.len(),
        log_bytes: log.bytes,
        warnings,
    }
}

/// Brings virtual hosts, topology and messages to life.
pub(crate) fn restore(
    engine: &Engine,
    definitions: &Definitions,
    mut messages: HashMap<QueueId, Vec<Restored>>,
) {
    for (name, incarnation) in &definitions.vhosts {
        let vhost = Arc::new(Vhost::new(name, *incarnation));
        engine.registry.vhosts.write().insert(name.clone(), Arc::clone(&vhost));
        restore_topology(&vhost, definitions, engine.now_ms(), &mut messages);
        let queues: Vec<_> = vhost.state.read().queues.values().cloned().collect();
        for queue in queues {
            let deadline_ms = queue.state.lock().core.next_deadline_ms();
            deadline_ms.into_iter().for_each(|at_ms| engine.schedule(&queue, at_ms));
        }
    }
}

fn restore_topology(
    vhost: &Arc<Vhost>,
    definitions: &Definitions,
    now_ms: u64,
    messages: &mut HashMap<QueueId, Vec<Restored>>,
) {
    let mut state = vhost.state.write();
    let state = &mut *state;
    let of_vhost = |of: &str| of == &*vhost.name;
    for ((of, _), stored) in definitions.exchanges.iter().filter(|((of, _), _)| of_vhost(of)) {
        let restored =
            convert::exchange(stored).map(|definition| state.topology.restore_exchange(definition));
        note(of, "exchange", &stored.name, restored);
    }
    for ((of, _), stored) in definitions.queues.iter().filter(|((of, _), _)| of_vhost(of)) {
        let restored = convert::queue(stored).map(|definition| {
            let mut live = LiveQueue::new(&definition, vhost, now_ms);
            let core = &mut live.state.get_mut().core;
            messages.remove(&live.id).iter().flatten().for_each(|message| core.restore(message));
            state.queues.insert(live.id, Arc::new(live));
            state.topology.restore_queue(definition)
        });
        note(of, "queue", &stored.name, restored);
    }
    for (of, stored) in definitions.bindings.iter().filter(|(of, _)| of_vhost(of)) {
        let restored =
            convert::binding(stored).map(|definition| state.topology.restore_binding(definition));
        note(of, "binding to", &stored.destination, restored);
    }
}

/// What cannot be restored is left out with a warning: the rest matters more.
fn note(vhost: &str, kind: &str, name: &str, restored: Option<Result<(), BrokerError>>) {
    match restored {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!("{kind} '{name}' of '{vhost}' is left out: {error}"),
        None => tracing::warn!("{kind} '{name}' of '{vhost}' is left out: it cannot be read"),
    }
}
