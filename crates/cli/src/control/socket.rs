//! Where the control socket is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const NAME: &str = "control.sock";

/// The longest path a Unix socket address holds, its final NUL not counted.
const PATH_BYTES_MAX: usize = 107;

/// The socket's path in a data directory.
pub(super) fn path_in(data: &Path) -> PathBuf {
    data.join(NAME)
}

/// Calls `use_path` with a path to the socket that fits into an address: if the real one is too
/// long, one through the open directory.
pub(super) fn with_path<T>(
    data: &Path,
    use_path: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let path = path_in(data);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return use_path(&path);
    }
    let directory = File::open(data)?;
    use_path(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(NAME))
}
