//! The brokers: each is started on a port and in an empty directory of its own, and stopped when
//! dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::servers::ensure_rabbitmq_installed;

const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A broker to be measured.
pub(super) struct Peer {
    name: String,
    uri: String,
    /// Root of the process tree that is measured.
    pid: Option<u32>,
    /// The generator's option for round trips.
    tracked: &'static str,
    /// Present if it was started here.
    own: Option<Own>,
}

/// The broker tells what became of a message; otherwise the worker has to.
const BY_BROKER: &str = "tracked";
const BY_WORKER: &str = "tracked=reply";

struct Own {
    child: Child,
    launch: Launch,
    address: SocketAddr,
    /// A file with the id of the process to stop, if that is not the child.
    pid_file: Option<PathBuf>,
}

/// How to start it, and start it again if need be.
struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
}

impl Peer {
    /// wilco with an empty store.
    pub(super) fn wilco(binary: &Path, scratch: &Path) -> Result<Self> {
        let data = empty_directory(&scratch.join("wilco-data"))?;
        let address = free_address()?;
        let arguments = ["serve", "--data", &data, "--amqp", &address.to_string()];
        let launch = Launch {
            program: binary.to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            log: scratch.join("wilco.log"),
        };
        Self::start("wilco", launch, address, None, BY_BROKER)
    }

    /// Debian's RabbitMQ as a private node; installed with apt if missing.
    pub(super) fn rabbitmq(scratch: &Path) -> Result<Self> {
        let program = ensure_rabbitmq_installed(scratch)?;
        let home = scratch.join("rabbitmq");
        let directory = empty_directory(&home)?;
        let address = free_address()?;
        let pid_file = home.join("pid");
        let environment = [
            ("HOME", directory.clone()),
            ("RABBITMQ_NODENAME", format!("wilco-bench-{}@localhost", std::process::id())),
            ("RABBITMQ_NODE_IP_ADDRESS", address.ip().to_string()),
            ("RABBITMQ_NODE_PORT", address.port().to_string()),
            ("RABBITMQ_DIST_PORT", free_address()?.port().to_string()),
            ("RABBITMQ_MNESIA_BASE", format!("{directory}/mnesia")),
            ("RABBITMQ_LOG_BASE", format!("{directory}/log")),
            ("RABBITMQ_PID_FILE", pid_file.display().to_string()),
            ("RABBITMQ_CONF_ENV_FILE", format!("{directory}/none")),
            ("RABBITMQ_CONFIG_FILE", format!("{directory}/none")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{directory}/plugins")),
        ];
        let launch = Launch {
            program: program.to_owned(),
            arguments: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            log: scratch.join("rabbitmq.log"),
        };
        Self::start("RabbitMQ", launch, address, Some(pid_file), BY_WORKER)
    }

    /// A broker that somebody else runs.
    pub(super) fn running(uri: &str, pid: Option<u32>) -> Self {
        let name = uri.rsplit('@').next().unwrap_or(uri).trim_start_matches("amqp://");
        let (name, uri) = (name.to_owned(), uri.to_owned());
        Self { name, uri, pid, tracked: BY_WORKER, own: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// The port, if the URI has one.
    pub(super) fn port(&self) -> Option<String> {
        let (_, rest) = self.uri.rsplit_once(':')?;
        Some(rest.split('/').next()?.to_owned())
    }

    /// The option of `wilco bench`, without its dashes, for round trips on this broker: with
    /// outcomes if the broker has any, otherwise with replies from workers.
    pub(super) fn tracked(&self) -> &'static str {
        self.tracked
    }

    /// The process to measure; its descendants count, too.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether it was started here.
    pub(super) fn can_restart(&self) -> bool {
        self.own.is_some()
    }

    /// Stops it with `signal`, starts it again, and returns how long it took from the start until
    /// it listened.
    pub(super) fn restart(&mut self, signal: Signal) -> Result<Duration> {
        let own = self.own.as_mut().context("only a broker started here can be restarted")?;
        own.stop(signal);
        let started = Instant::now();
        own.child = own.launch.start()?;
        own.wait_until_it_listens()?;
        self.pid = Some(own.child.id());
        Ok(started.elapsed())
    }

    fn start(
        name: &str,
        launch: Launch,
        address: SocketAddr,
        pid_file: Option<PathBuf>,
        tracked: &'static str,
    ) -> Result<Self> {
        let child = launch.start().with_context(|| format!("{name} does not start"))?;
        let mut own = Own { child, launch, address, pid_file };
        own.wait_until_it_listens().with_context(|| format!("{name} does not start"))?;
        Ok(Self {
            name: name.to_owned(),
            uri: format!("amqp://guest:guest@{address}/%2f"),
            pid: Some(own.child.id()),
            tracked,
            own: Some(own),
        })
    }
}

impl Launch {
    fn start(&self) -> Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(command.spawn()?)
    }
}

impl Own {
    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}), see {}", self.launch.log.display());
            }
            if Instant::now() > deadline {
                bail!("it does not listen, see {}", self.launch.log.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Tells it to stop, and kills it if it does not stop in time.
    fn stop(&mut self, signal: Signal) {
        let from_file = self.pid_file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let pid = from_file
            .and_then(|text| text.trim().parse().ok())
            .or_else(|| i32::try_from(self.child.id()).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.stop(Signal::TERM);
    }
}

fn empty_directory(path: &Path) -> Result<String> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)?;
    Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
