//! A cluster of Kafka: three nodes, each broker and controller, of which one can be killed, and all stopped in the
//! middle of what they do.

use std::net::SocketAddr;
use std::path::Path;

use crate::broker::free_port;
use crate::server::Server;

/// Nodes: as many as can lose one.
const NODES: usize = 3;

/// See the module's documentation.
pub struct KafkaCluster {
    nodes: Vec<Server>,
}

impl KafkaCluster {
    /// Starts one. `None`, after naming the skipped test, where that cannot be done.
    pub fn start(test: &str, name: &str) -> Option<Self> {
        let addresses: Vec<SocketAddr> =
            (0..NODES).map(|_| SocketAddr::from(([127, 0, 0, 1], free_port()))).collect();
        let voter = |(at, address): (usize, &SocketAddr)| {
            format!("{}@127.0.0.2:{}", at + 1, address.port())
        };
        let voters: Vec<String> = addresses.iter().enumerate().map(voter).collect();
        let voters = voters.join(",");
        // At the same time: none is ready before most are there.
        let nodes: Option<Vec<Server>> = std::thread::scope(|scope| {
            let start = |(at, address): (usize, &SocketAddr)| {
                let (address, voters) = (*address, voters.clone());
                scope.spawn(move || {
                    let prepare = |directory: &Path| prepare(directory, at + 1, &voters);
                    Server::start_in(test, name, None, address, prepare)
                })
            };
            let starting: Vec<_> = addresses.iter().enumerate().map(start).collect();
            starting.into_iter().map(|it| it.join().expect("it starts")).collect()
        });
        Some(Self { nodes: nodes? })
    }

    /// The URL that names all nodes.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        format!("kafka://{}", hosts.join(","))
    }

    /// A node.
    pub fn node(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number]
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Stops all nodes in the middle of what they do: they neither answer nor end.
    pub fn freeze(&self) {
        self.nodes.iter().for_each(|node| node.signal("STOP"));
    }

    /// Lets them go on.
    pub fn thaw(&self) {
        self.nodes.iter().for_each(|node| node.signal("CONT"));
    }
}

/// Without a word: one that is to end cleanly waits for the others.
impl Drop for KafkaCluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Server::kill);
    }
}

fn prepare(directory: &Path, node: usize, voters: &str) {
    let properties = format!(
        "node.id={node}\n\
         controller.quorum.voters={voters}\n\
         default.replication.factor=3\n\
         min.insync.replicas=2\n\
         offsets.topic.replication.factor=3\n\
         transaction.state.log.replication.factor=3\n\
         transaction.state.log.min.isr=2\n\
         share.coordinator.state.topic.replication.factor=3\n\
         share.coordinator.state.topic.min.isr=2\n"
    );
    std::fs::write(directory.join("server.properties"), properties).expect("written");
}
