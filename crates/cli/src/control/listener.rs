//! The server's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use node::Node;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::protocol::REQUEST_BYTES_MAX;
use super::{Request, Response, execute, socket};

/// Requests served at a time; more wait in the socket's queue.
const CONNECTION_COUNT_MAX: usize = 8;

/// How long a connection may stay silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The listening control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens in the data directory. The caller holds the store, so an existing socket is one that
    /// a crash left behind.
    pub(crate) fn bind(data: &Path) -> io::Result<Self> {
        let path = socket::path_in(data);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Until its mode is right, the directory keeps others away. (Changing the umask would
        // change it for all threads.)
        let socket = socket::with_path(data, |path| {
            let socket = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(socket)
        })?;
        Ok(Self { socket, path })
    }

    /// Serves requests until it is dropped.
    pub(crate) async fn run(self, node: Arc<Node>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTION_COUNT_MAX {
                connections.join_next().await;
            }
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, node.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // If it stays behind, it does no harm: the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers line by line until the other side hangs up, goes silent, or sends something that is not
/// a request.
async fn serve(stream: UnixStream, node: Arc<Node>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(REQUEST_BYTES_MAX);
        match timeout(IDLE_TIMEOUT, bounded.read_until(b'\n', &mut line)).await {
            Ok(Ok(count)) if count > 0 => {}
            _ => return,
        }
        let response = answer(&line, node.clone()).await;
        let is_error = matches!(response, Response::Error(_));
        let Ok(mut text) = serde_json::to_vec(&response) else { return };
        text.push(b'\n');
        let written = timeout(IDLE_TIMEOUT, writer.write_all(&text)).await;
        // After an error, the rest of an overlong line would be taken for the next request.
        if is_error || !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer(line: &[u8], node: Arc<Node>) -> Response {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Response::Error(format!("the request is not understood: {error}")),
    };
    // A change waits for the disk, a password for its hash.
    let done = tokio::task::spawn_blocking(move || execute(&node, request)).await;
    done.unwrap_or_else(|_| Response::Error("the request failed inside the server".to_owned()))
}
