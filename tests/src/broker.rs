//! The broker under test: one real process with its own directory and port.
//!
//! Invariants: a process is signalled only by its own id, and none outlives its [`Broker`]. Its
//! output is kept, and shown when the test that used it fails.

use crate::{Client, PATIENCE, http, http::Answer, raw::Raw, skip};
use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, LazyLock, Mutex, Weak, mpsc},
    time::{Duration, Instant},
};

/// A broker, running or stopped, and its data directory.
pub struct Broker {
    process: Option<Process>,
    address: String,
    external: Option<String>,
    data: PathBuf,
    arguments: Vec<String>,
    /// What a shell does before it becomes the broker: `umask 000`, `ulimit -n 250`.
    surroundings: String,
    output: Arc<Mutex<String>>,
    directory: tempfile::TempDir,
}

struct Process {
    child: Child,
    readers: Vec<std::thread::JoinHandle<()>>,
}

/// One test's use of a broker: shows the broker's output if the test panics.
pub struct Session(Arc<Broker>);

/// The broker shared by the tests of one file; started by the first, killed after the last.
pub fn shared() -> Session {
    static SHARED: LazyLock<Mutex<Weak<Broker>>> = LazyLock::new(|| Mutex::new(Weak::new()));
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(broker) = shared.upgrade() {
        return Session(broker);
    }
    let broker = Arc::new(Broker::external().unwrap_or_else(|| Broker::launch(None, &[])));
    *shared = Arc::downgrade(&broker);
    Session(broker)
}

impl Session {
    /// A broker of the test's own where other tests would share one, with further arguments.
    pub fn own(arguments: &[&str]) -> Session {
        Session(Arc::new(Broker::launch(None, arguments)))
    }
}

impl std::ops::Deref for Session {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.0
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.show_output();
        }
    }
}

impl Broker {
    /// A broker of the test's own. `None`, after naming the skipped test, when the tests run
    /// against another broker.
    pub fn own(test: &str) -> Option<Broker> {
        Self::own_with(test, None, &[])
    }

    /// As [`Broker::own`], with further arguments and a data directory made by the test.
    pub fn own_with(test: &str, data: Option<&Path>, arguments: &[&str]) -> Option<Broker> {
        if external_uri().is_some() {
            skip(test, "needs to own the broker's process");
            return None;
        }
        Some(Self::launch(data, arguments))
    }

    /// As [`Broker::own_with`], with a process environment set by the shell commands in
    /// `surroundings`.
    pub fn own_under(test: &str, surroundings: &str, arguments: &[&str]) -> Option<Broker> {
        if external_uri().is_some() {
            skip(test, "needs to own the broker's process");
            return None;
        }
        let mut broker = Self::stopped(None, arguments);
        surroundings.clone_into(&mut broker.surroundings);
        broker.start();
        Some(broker)
    }

    fn external() -> Option<Broker> {
        let uri = external_uri()?;
        let address = uri.rsplit('@').next()?.split('/').next()?.to_owned();
        let directory = tempfile::tempdir().expect("a temporary directory");
        Some(Broker {
            process: None,
            address,
            external: Some(uri),
            data: directory.path().to_owned(),
            arguments: Vec::new(),
            surroundings: String::new(),
            output: Arc::default(),
            directory,
        })
    }

    fn launch(data: Option<&Path>, arguments: &[&str]) -> Broker {
        let mut broker = Self::stopped(data, arguments);
        broker.start();
        broker
    }

    fn stopped(data: Option<&Path>, arguments: &[&str]) -> Broker {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = data.map_or_else(|| directory.path().join("data"), Path::to_owned);
        Broker {
            process: None,
            address: format!("127.0.0.1:{}", free_port()),
            external: None,
            data,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            surroundings: String::new(),
            output: Arc::default(),
            directory,
        }
    }

    /// Starts the process and waits for the line that says it is ready.
    pub fn start(&mut self) {
        let ready = self.spawn(&[]);
        // Both readers hang up when the process ends, so an early exit is noticed at once.
        if ready.recv_timeout(PATIENCE).is_err() {
            self.kill_nine();
            panic!("the broker did not get ready:\n{}", self.output());
        }
    }

    /// As [`Broker::start`] with further arguments, when the process may refuse to start; returns
    /// whether it got ready.
    pub fn try_start(&mut self, further: &[&str]) -> bool {
        let is_ready = self.spawn(further).recv_timeout(PATIENCE).is_ok();
        if !is_ready {
            self.kill_nine();
        }
        is_ready
    }

    /// Starts the process and kills it after a while, ready or not.
    pub fn start_and_kill_after(&mut self, while_: Duration) {
        self.spawn(&[]);
        std::thread::sleep(while_);
        self.kill_nine();
    }

    fn spawn(&mut self, further: &[&str]) -> mpsc::Receiver<()> {
        assert!(self.process.is_none(), "already running");
        let mut child = wilco_under(&self.surroundings)
            .current_dir(self.directory.path())
            .arg("serve")
            .args(["--amqp", &self.address, "--http", "127.0.0.1:0"])
            .arg("--data")
            .arg(&self.data)
            .args(&self.arguments)
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker's binary starts");
        let (ready, is_ready) = mpsc::channel();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(collect(stdout, self.output.clone(), Some(ready.clone())));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(collect(stderr, self.output.clone(), Some(ready)));
        }
        self.process = Some(Process { child, readers });
        is_ready
    }

    /// `kill -9`: nothing is flushed.
    pub fn kill_nine(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Fails only if the process is already gone, which is what we want.
            let _ = process.child.kill();
            let _ = process.child.wait();
            process.join();
        }
    }

    /// SIGTERM, then waits for the end of the process.
    pub fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Sends SIGTERM and returns at once.
    pub fn terminate(&self) {
        let id = self.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(status.success(), "the broker was not running");
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the broker runs");
        let start = Instant::now();
        loop {
            if let Some(status) = process.child.try_wait().expect("the broker can be waited for") {
                process.join();
                return status;
            }
            if start.elapsed() > PATIENCE {
                let _ = process.child.kill();
                let _ = process.child.wait();
                process.join();
                panic!("the broker did not stop:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9` if it is running, then a start on the same directory and port.
    pub fn restart(&mut self) {
        self.kill_nine();
        self.start();
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the broker runs").child.id()
    }

    /// MiB of memory that the process uses now.
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("the process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok());
        kib.expect("a size") / 1024
    }

    /// `host:port` of the AMQP listener.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The AMQP URI of the default virtual host as guest.
    pub fn uri(&self) -> String {
        self.external.clone().unwrap_or_else(|| format!("amqp://guest:guest@{}/%2f", self.address))
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Runs a command of wilco on the data directory, whether or not the broker is running.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = wilco();
        command.args(arguments).arg("--data").arg(&self.data);
        command.output().expect("the command runs")
    }

    /// As [`Broker::run`], for a command that must succeed.
    #[track_caller]
    pub fn manage(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
    }

    /// Sends an HTTP request as guest.
    #[track_caller]
    pub fn http(&self, method: &str, path: &str) -> Answer {
        http::ask(&self.http_address(), method, path)
    }

    /// `host:port` of the HTTP listener, as printed by the current process.
    pub fn http_address(&self) -> String {
        let mut address = None;
        crate::eventually("the broker says where it serves HTTP", || {
            let output = self.output();
            let (_, latest) = output.rsplit_once("amqp://").unwrap_or_default();
            let url = latest.split_once("http://").and_then(|(_, url)| url.split_once('\n'));
            address = url.map(|(url, _)| url.trim().trim_end_matches('/').to_owned());
            address.is_some()
        });
        address.expect("an address")
    }

    /// A lapin connection with one channel.
    pub fn client(&self) -> Client {
        Client::connect(&self.uri())
    }

    /// A raw connection, open on the default virtual host, with channel 1 open.
    pub fn raw(&self) -> Raw {
        let mut raw = Raw::connect(&self.address);
        raw.handshake();
        raw.open_channel(1);
        raw
    }

    /// Whether this is a RabbitMQ before version 4; if so, says that `test` is skipped for lack of
    /// `feature`.
    pub fn lacks(&self, test: &str, feature: &str) -> bool {
        if self.external.is_none() {
            return false;
        }
        let old = Raw::connect(&self.address).server_version().starts_with("3.");
        if old {
            skip(test, &format!("RabbitMQ 3 lacks {feature}"));
        }
        old
    }

    fn show_output(&self) {
        eprintln!("--- output of the broker ---\n{}--- end of output ---", self.output());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill_nine();
        if std::thread::panicking() {
            self.show_output();
        }
    }
}

impl Process {
    fn join(self) {
        for reader in self.readers {
            // A reader does not panic with anything that a test should see.
            let _ = reader.join();
        }
    }
}

/// Keeps a stream's lines and reports the line that announces the AMQP URL.
fn collect(
    stream: impl Read + Send + 'static,
    output: Arc<Mutex<String>>,
    mut ready: Option<mpsc::Sender<()>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let announces = line.contains("amqp://");
            let mut output = output.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            output.push_str(&line);
            output.push('\n');
            drop(output);
            if announces && let Some(ready) = ready.take() {
                // Nobody is waiting any more when the line comes a second time.
                let _ = ready.send(());
            }
        }
    })
}

fn external_uri() -> Option<String> {
    std::env::var("WILCO_TEST_AMQP").ok().filter(|uri| !uri.is_empty())
}

/// Whether the tests run against another broker than wilco.
pub fn is_external() -> bool {
    external_uri().is_some()
}

/// A port that was free a moment ago, and none of those that the kernel gives to whoever connects: that could
/// take it before a server does.
pub fn free_port() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    loop {
        let random = RandomState::new().hash_one(std::process::id());
        let port = 20_000 + (random % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A command of the binary, independent of the tests' environment.
pub fn wilco() -> Command {
    wilco_under("")
}

/// The same after shell commands that set what a process inherits.
fn wilco_under(surroundings: &str) -> Command {
    let mut command = if surroundings.is_empty() {
        Command::new(binary())
    } else {
        // `exec`: the process keeps its id, by which it is signalled.
        let script = format!("{surroundings} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg(binary());
        shell
    };
    for variable in
        ["WILCO_DATA", "WILCO_AMQP", "WILCO_HTTP", "WILCO_CONFIG", "WILCO_LOG", "WILCO_URL"]
    {
        command.env_remove(variable);
    }
    command
}

/// The broker's binary: `WILCO_BIN`, or `wilco` beside this test, built if it is not there.
pub fn binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(path) = std::env::var_os("WILCO_BIN") {
            return path.into();
        }
        let test = std::env::current_exe().expect("the test's own path");
        // <target>/<profile>/deps/<test>
        let profile = test.parent().and_then(Path::parent).expect("a profile directory");
        let binary = profile.join("wilco");
        if !binary.exists() {
            let target = profile.parent().expect("a target directory");
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "-p", "wilco-cli", "--target-dir"]).arg(target);
            cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            if profile.ends_with("release") {
                cargo.arg("--release");
            }
            let status = cargo.status().expect("cargo runs");
            assert!(status.success() && binary.exists(), "the broker does not build");
        }
        binary
    });
    &BINARY
}
