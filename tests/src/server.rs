//! Other people's servers, as `cargo xtask servers` has prepared them.
//!
//! Their launch scripts are in the directory that `WILCO_TEST_SERVERS` names, else where that command puts
//! them: `NAME/run DIRECTORY PORT` runs one server in the foreground, with all it has in the directory.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::broker::free_port;
use crate::skip;

/// How long a server may take to start, on a machine that does much else.
const START: Duration = Duration::from_secs(120);

/// A running server, of the test's own.
pub struct Server {
    script: PathBuf,
    directory: TempDir,
    address: SocketAddr,
    /// The network namespace in which it runs, if it has one of its own.
    namespace: Option<String>,
    process: Option<Child>,
}

fn scripts() -> PathBuf {
    match std::env::var_os("WILCO_TEST_SERVERS") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/xtask/servers"),
    }
}

impl Server {
    /// Starts a server of this name. `None`, after naming the skipped test, where it is not prepared.
    pub fn start(test: &str, name: &str) -> Option<Self> {
        Self::start_with(test, name, |_| {})
    }

    /// The same, with files that `prepare` puts into its directory: a RabbitMQ reads `rabbitmq.conf` and
    /// `enabled_plugins` there, and knows the directory as `/srv`.
    pub fn start_with(test: &str, name: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self::start_in(test, name, None, address, prepare)
    }

    /// The same in a network namespace, at this address.
    pub(crate) fn start_in(
        test: &str,
        name: &str,
        namespace: Option<String>,
        address: SocketAddr,
        prepare: impl FnOnce(&Path),
    ) -> Option<Self> {
        let script = scripts().join(name).join("run");
        if !script.exists() {
            skip(test, &format!("{name} is not prepared; see `cargo xtask servers`"));
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path());
        let mut server = Self { script, directory, address, namespace, process: None };
        server.launch();
        Some(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it at once, and starts it again with what it had on disk.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Kills it at once, if it runs.
    pub fn kill(&mut self) {
        if self.process.is_some() {
            self.signal("KILL");
        }
        if let Some(mut process) = self.process.take() {
            process.wait().expect("it ends");
        }
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.directory.path().join("pid")).expect("its pid");
        let sent = Command::new("kill").args(["-s", name, pid.trim()]).status().expect("kill");
        assert!(sent.success(), "it runs");
    }

    /// Starts it again with what it has on disk.
    pub fn launch(&mut self) {
        let mut command = match &self.namespace {
            None => Command::new(&self.script),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.script);
                command
            }
        };
        command.arg(self.directory.path()).arg(self.address.port().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().expect("its script runs");
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = process.try_wait().expect("a process");
            assert!(
                ended.is_none(),
                "{}: it ended with {ended:?}: {}",
                self.script.display(),
                self.log()
            );
            assert!(began.elapsed() < START, "{}: it does not listen", self.script.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output.log")).unwrap_or_default()
    }
}

/// Its script passes the signal on, and ends with the server.
impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
    }
}
