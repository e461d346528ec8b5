//! `wilco serve`: opens the node, listens, announces that, and stops cleanly when told to.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use listener::{Admission, OpenFiles};
use management::Management;
use node::{Node, auth};
use server::Server;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Durability, HttpAddress};
use crate::failure::Failure;
use crate::{control, output, queries};

/// The exit code of a process that was ended by an interrupt.
const EXIT_INTERRUPTED: i32 = 130;

/// How long to wait at the end for work that is still under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Files that are open besides connections and those the store reports: standard streams, epoll and
/// the like, two databases, locks, listening sockets, the control socket with its connections, a
/// few of the ledger's while it merges.
const OTHER_FILES: usize = 40;

/// Runs the broker until SIGINT or SIGTERM.
pub(crate) fn run(config: &Config) -> Result<(), Failure> {
    crate::log::to_stderr(&config.log.filter)?;
    let open_files = OpenFiles::raise();
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Runtime(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(config, open_files));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result
}

async fn serve(config: &Config, open_files: OpenFiles) -> Result<(), Failure> {
    let start = Instant::now();
    // Signals keep their usual effect during recovery: nothing has been promised yet, and it can be
    // restarted at any point.
    let node = Node::open(config.node_options()).map_err(Failure::runtime)?;
    let opened = Opened { node: &node, duration: start.elapsed() };
    // Before any port listens: whoever waits for a port may be about to add users.
    let control = listen_for_control(&config.store.data, &node);
    let mut signals = Signals::new()?;
    let admission = admission(open_files, &node);
    let options = server::Options { admission: admission.clone(), ..config.server_options() };
    let server = match Server::bind(node.clone(), options).await {
        Ok(server) => server,
        Err(error) => {
            node.close();
            let address = config.listen.amqp;
            return Err(Failure::Runtime(format!("cannot listen on {address}: {error}")));
        }
    };
    let management = match start_management(config, &node, admission).await {
        Ok(management) => management,
        Err(reason) => {
            node.close();
            return Err(Failure::Runtime(reason));
        }
    };
    queries::answer(&node, management.queries());
    let http_address = management.local_address();
    output::text(&opened.announcement(config, server.local_address(), http_address))?;

    let shutdown = async move {
        signals.next().await;
        tracing::info!("stopping; interrupt again to exit at once");
        tokio::spawn(async move {
            signals.next().await;
            std::process::exit(EXIT_INTERRUPTED);
        });
    };
    server.run(shutdown).await;
    management.stop().await;
    if let Some(control) = control {
        control.abort();
        // It was meant to end, so being aborted is not an error.
        let _ = control.await;
    }
    let closing = tokio::task::spawn_blocking(move || node.close());
    closing.await.map_err(|_| Failure::Runtime("the store did not close cleanly".to_owned()))?;
    tracing::info!("stopped");
    Ok(())
}

/// Both servers' connections are bounded by the open files that the store leaves.
fn admission(open_files: OpenFiles, node: &Arc<Node>) -> Admission {
    let node = Arc::clone(node);
    Admission::new(open_files, move || {
        node.segment_count() + node.ledger().file_count() + OTHER_FILES
    })
}

/// Starts what answers about messages: over HTTP, if there is a socket for it, and over AMQP.
async fn start_management(
    config: &Config,
    node: &Arc<Node>,
    admission: Admission,
) -> Result<Management, String> {
    let listener = listen_for_http(config).await?;
    let options = management::Options { admission, ..config.management_options() };
    let started = Management::start(listener, management::over_node(Arc::clone(node)), options);
    started.map_err(|error| error.to_string())
}

/// The socket for HTTP, where the configuration says, if anywhere. If the port is in use, the
/// broker does not start, unless it is the default port: nobody has asked for that one, and a
/// second broker on the same machine does without it.
async fn listen_for_http(config: &Config) -> Result<Option<tokio::net::TcpListener>, String> {
    let Some(address) = config.listen.http.0 else { return Ok(None) };
    match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error)
            if error.kind() == ErrorKind::AddrInUse
                && config.listen.http == HttpAddress::default() =>
        {
            tracing::warn!(
                "no HTTP: {address} is in use; choose another address with --http, or --http off"
            );
            Ok(None)
        }
        Err(error) => Err(format!("cannot listen on {address}: {error}")),
    }
}

/// A broker without its control socket is less convenient, but still works.
fn listen_for_control(data: &Path, node: &Arc<Node>) -> Option<tokio::task::JoinHandle<()>> {
    match control::Listener::bind(data) {
        Ok(listener) => Some(tokio::spawn(listener.run(node.clone()))),
        Err(error) => {
            tracing::warn!(%error, "no control socket: `wilco user` and the like cannot reach this server");
            None
        }
    }
}

/// A node, with what is known about its opening.
struct Opened<'n> {
    node: &'n Node,
    duration: Duration,
}

impl Opened<'_> {
    /// What is printed once everything listens.
    fn announcement(&self, config: &Config, amqp: SocketAddr, http: Option<SocketAddr>) -> String {
        let data = &config.store.data;
        let store = std::path::absolute(data).unwrap_or_else(|_| data.clone());
        let durability = match config.store.durability {
            Durability::Synced => "synced",
            Durability::Relaxed => "relaxed: a crash of the machine loses the last messages",
        };
        let recovered = self.node.recovered();
        let http = http.map_or_else(|| "off".to_owned(), |address| uri("http", address, false));
        let lines = [
            format!("wilco {}", env!("CARGO_PKG_VERSION")),
            format!("  amqp       {}", uri("amqp", amqp, self.guest_is_open())),
            format!("  http       {http}"),
            format!("  store      {} ({durability})", store.display()),
            format!(
                "  recovered  {} in {} in {} ms",
                counted(recovered.message_count, "message"),
                counted(recovered.queue_count as u64, "queue"),
                self.duration.as_millis()
            ),
        ];
        lines.map(|line| line + "\n").concat()
    }

    /// Whether the URL that everybody tries first works.
    fn guest_is_open(&self) -> bool {
        let users = self.node.users();
        let guest = users.iter().find(|user| user.name == "guest");
        guest.is_some_and(|guest| auth::verify("guest", &guest.password_hash))
    }
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The URL for a client on this machine.
fn uri(scheme: &str, address: SocketAddr, as_guest: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let user = if as_guest { "guest:guest@" } else { "" };
    format!("{scheme}://{user}{}/", SocketAddr::new(ip, address.port()))
}

/// The signals that stop the broker.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| {
            signal(kind)
                .map_err(|error| Failure::Runtime(format!("cannot listen for signals: {error}")))
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_works_on_this_machine() {
        let check = |address: &str, as_guest, expected| {
            let address = address.parse().expect("an address");
            assert_eq!(uri("amqp", address, as_guest), expected);
        };
        check("127.0.0.1:5672", true, "amqp://guest:guest@127.0.0.1:5672/");
        check("0.0.0.0:5673", true, "amqp://guest:guest@127.0.0.1:5673/");
        check("[::]:5672", false, "amqp://[::1]:5672/");
        check("10.1.2.3:5672", false, "amqp://10.1.2.3:5672/");
    }
}
