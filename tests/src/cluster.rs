//! A cluster of RabbitMQ: nodes in network namespaces of their own, joined by a bridge, so that one can be killed
//! and another cut off.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::Server;
use crate::skip;

/// Nodes: as many as can lose one.
const NODES: u8 = 3;
const PORT: u16 = 5672;

/// See the module's documentation.
pub struct Cluster {
    nodes: Vec<Server>,
    network: Network,
}

/// The bridge and the namespaces; gone when it is dropped.
struct Network {
    /// Different for each network of this machine.
    number: u32,
}

/// Runs `ip`; whether it did what was asked for.
fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

impl Network {
    /// `None`: that cannot be done here.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() % 100_000 * 10 + COUNT.fetch_add(1, Ordering::Relaxed) % 10;
        let network = Self { number };
        let bridge = network.bridge();
        let host = network.address(254);
        let is_made = ip(&format!("link add {bridge} type bridge"))
            && ip(&format!("addr add {host}/24 dev {bridge}"))
            && ip(&format!("link set {bridge} up"))
            && (1..=NODES).all(|node| network.add(node));
        // Else what is made is taken down again.
        is_made.then_some(network)
    }

    fn add(&self, node: u8) -> bool {
        let (bridge, namespace, cable) = (self.bridge(), self.namespace(node), self.cable(node));
        let (address, within) = (self.address(node), format!("netns exec {namespace} ip"));
        ip(&format!("netns add {namespace}"))
            && ip(&format!("link add {cable} type veth peer name eth0 netns {namespace}"))
            && ip(&format!("link set {cable} master {bridge} up"))
            && ip(&format!("{within} link set lo up"))
            && ip(&format!("{within} addr add {address}/24 dev eth0"))
            && ip(&format!("{within} link set eth0 up"))
    }

    fn bridge(&self) -> String {
        format!("wb{}", self.number)
    }

    fn namespace(&self, node: u8) -> String {
        format!("wilco-{}-{node}", self.number)
    }

    /// The bridge's end of what joins a node to it.
    fn cable(&self, node: u8) -> String {
        format!("wv{}-{node}", self.number)
    }

    fn address(&self, node: u8) -> Ipv4Addr {
        let [.., high, low] = self.number.to_be_bytes();
        // Of a block that is used for nothing else: RFC 2544, for benchmarks.
        Ipv4Addr::new(198, 18 + high % 2, low, node)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 1..=NODES {
            ip(&format!("netns del {}", self.namespace(node)));
            ip(&format!("link del {}", self.cable(node)));
        }
        ip(&format!("link del {}", self.bridge()));
    }
}

impl Cluster {
    /// Starts one. `None`, after naming the skipped test, where that cannot be done.
    pub fn start(test: &str, name: &str) -> Option<Self> {
        let Some(network) = Network::new() else {
            skip(test, "network namespaces need root, and the program ip");
            return None;
        };
        let mut nodes = Vec::new();
        // One after the other: the later ones find the first.
        for node in 1..=NODES {
            let address = SocketAddr::from((network.address(node), PORT));
            let namespace = Some(network.namespace(node));
            let prepare = |directory: &Path| prepare(directory, &network, node);
            nodes.push(Server::start_in(test, name, namespace, address, prepare)?);
        }
        Some(Self { nodes, network })
    }

    /// The URL that names all nodes.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("amqp://guest:guest@{}", hosts.join(","))
    }

    /// A node.
    pub fn node(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number]
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Cuts a node off from all others and from clients: nothing arrives, and nobody is told.
    pub fn cut_off(&self, number: usize) {
        assert!(ip(&format!("link set {} down", self.network.cable(number as u8 + 1))));
    }

    /// Joins it again.
    pub fn join(&self, number: usize) {
        assert!(ip(&format!("link set {} up", self.network.cable(number as u8 + 1))));
    }
}

fn prepare(directory: &Path, network: &Network, node: u8) {
    let write =
        |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("written");
    write("address", &format!("{}\n", network.address(node)));
    let mut config = String::from(
        "loopback_users = none\n\
         cluster_partition_handling = pause_minority\n\
         cluster_formation.peer_discovery_backend = classic_config\n\
         net_ticktime = 5\n",
    );
    for node in 1..=NODES {
        let address = network.address(node);
        config += &format!("cluster_formation.classic_config.nodes.{node} = rabbit@{address}\n");
    }
    write("rabbitmq.conf", &config);
    // What lets nodes trust each other.
    let mut cookie = std::fs::OpenOptions::new();
    let cookie = cookie.write(true).create_new(true).mode(0o400);
    let path = directory.join(".erlang.cookie");
    let mut file = cookie.open(&path).expect("a new file");
    std::io::Write::write_all(&mut file, b"WILCOTESTCLUSTER").expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("its owner's");
}
