//! The contract suite on each engine: all that the library promises, or says that it cannot promise.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use contract::{COLUMNS, Capability, Engine, GUARANTEES};
use end_to_end::{Broker, Cluster, Server};
use futures_util::FutureExt;
use wilco::Wilco;

/// How long one test of the suite may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// A server that can be killed, and its URL.
struct Killable<S> {
    server: Mutex<S>,
    url: String,
    kill: fn(&mut S),
}

#[async_trait]
impl<S: Send> Engine for Killable<S> {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn connect(&self) -> Wilco {
        connect(&self.url).await
    }

    fn kill_and_restart(&self) -> bool {
        (self.kill)(&mut self.server.lock().expect("no test has panicked in here"));
        true
    }
}

/// An engine in this process: one for all that connect.
struct InProcess {
    url: String,
    wilco: Wilco,
}

#[async_trait]
impl Engine for InProcess {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn connect(&self) -> Wilco {
        self.wilco.clone()
    }

    fn kill_and_restart(&self) -> bool {
        // It would take the test with it: `library/crashes.rs` has a process for that.
        false
    }
}

/// A server that has just been started may not let anybody in at once.
async fn connect(url: &str) -> Wilco {
    let began = Instant::now();
    loop {
        match Wilco::connect(url).await {
            Ok(wilco) => return wilco,
            Err(error) if began.elapsed() > PATIENCE => panic!("{url}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Runs all tests of the suite, those that kill the engine last; says all that fail.
async fn check(column: &str, engine: Arc<dyn Engine>) {
    let column = COLUMNS.iter().find(|it| it.name == column).expect("a column of the table");
    let wilco = engine.connect().await;
    let can: Vec<_> = Capability::ALL.into_iter().filter(|it| wilco.can(*it)).collect();
    assert_eq!(can, column.can, "what the transport says that it can do is what the table says");
    let mut failed = Vec::new();
    for guarantee in GUARANTEES {
        let began = Instant::now();
        let testing = AssertUnwindSafe(guarantee.check(&engine)).catch_unwind();
        match tokio::time::timeout(PATIENCE, testing).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => failed.push(guarantee.promise),
            Err(_) => {
                eprintln!("it does not end: {}", guarantee.promise);
                failed.push(guarantee.promise);
            }
        }
        eprintln!("{:6.2} s  {}", began.elapsed().as_secs_f64(), guarantee.promise);
    }
    assert!(failed.is_empty(), "on {} these do not hold: {failed:#?}", engine.url());
}

fn block(future: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future);
}

fn in_process(column: &str, url: String) {
    block(async {
        let wilco = connect(&url).await;
        check(column, Arc::new(InProcess { url, wilco: wilco.clone() })).await;
        wilco.close().await;
    });
}

#[test]
fn in_memory() {
    in_process("memory:", "memory:".to_owned());
}

#[test]
fn embedded() {
    let directory = tempfile::tempdir().expect("a directory");
    in_process("embedded:", format!("embedded:{}", directory.path().join("store").display()));
}

#[test]
fn wilco_server() {
    let Some(broker) = Broker::own("wilco_server") else { return };
    let kill = |broker: &mut Broker| {
        broker.kill_nine();
        broker.start();
    };
    let url = broker.uri();
    block(check("wilco server", Arc::new(Killable { server: Mutex::new(broker), url, kill })));
}

/// RabbitMQ, with the ledger that this adds to its URL.
fn rabbitmq(test: &str, name: &str, column: &str, ledger: &str) {
    let Some(server) = Server::start(test, name) else { return };
    let url = format!("amqp://{}{ledger}", server.address());
    let kill = Server::kill_and_restart;
    block(check(column, Arc::new(Killable { server: Mutex::new(server), url, kill })));
}

const PLAIN: &str = "RabbitMQ";
const LEDGER: &str = "RabbitMQ with a ledger";

#[test]
fn rabbitmq_3_10() {
    rabbitmq("rabbitmq_3_10", "rabbitmq-3.10", PLAIN, "");
}

#[test]
fn rabbitmq_4_0() {
    rabbitmq("rabbitmq_4_0", "rabbitmq-4.0", PLAIN, "");
}

#[test]
fn rabbitmq_4_3() {
    rabbitmq("rabbitmq_4_3", "rabbitmq-4.3", PLAIN, "");
}

#[test]
fn rabbitmq_3_10_with_a_ledger_in_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = format!("/?ledger=sqlite:{}", directory.path().join("ledger.db").display());
    rabbitmq("rabbitmq_3_10_with_a_ledger_in_a_file", "rabbitmq-3.10", LEDGER, &ledger);
}

#[test]
fn rabbitmq_4_3_with_a_ledger_in_postgresql() {
    let test = "rabbitmq_4_3_with_a_ledger_in_postgresql";
    let Some(database) = Server::start(test, "postgresql") else { return };
    let ledger = format!("/?ledger=postgres://postgres@{}/postgres", database.address());
    rabbitmq(test, "rabbitmq-4.3", LEDGER, &ledger);
}

/// Kafka, with what this adds to its URL.
fn kafka(test: &str, name: &str, column: &str, options: &str) {
    let Some(server) = Server::start(test, name) else { return };
    let url = format!("kafka://{}{options}", server.address());
    let kill = Server::kill_and_restart;
    block(check(column, Arc::new(Killable { server: Mutex::new(server), url, kill })));
}

/// With share groups, as it has them.
#[test]
fn kafka_4_4() {
    kafka("kafka_4_4", "kafka-4.4", "Kafka", "");
}

#[test]
fn kafka_4_4_with_classic_groups() {
    kafka("kafka_4_4_with_classic_groups", "kafka-4.4", "Kafka", "?groups=classic");
}

#[test]
fn kafka_3_9() {
    kafka("kafka_3_9", "kafka-3.9", "Kafka", "");
}

#[test]
fn kafka_4_4_with_a_ledger_in_postgresql() {
    let test = "kafka_4_4_with_a_ledger_in_postgresql";
    let Some(database) = Server::start(test, "postgresql") else { return };
    let ledger = format!("?ledger=postgres://postgres@{}/postgres", database.address());
    kafka(test, "kafka-4.4", "Kafka with a ledger", &ledger);
}

#[test]
fn kafka_3_9_with_a_ledger_in_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = format!("?ledger=sqlite:{}", directory.path().join("ledger.db").display());
    kafka("kafka_3_9_with_a_ledger_in_a_file", "kafka-3.9", "Kafka with a ledger", &ledger);
}

/// Three nodes, of which another one is killed each time.
#[test]
fn rabbitmq_4_3_cluster() {
    let Some(cluster) = Cluster::start("rabbitmq_4_3_cluster", "rabbitmq-4.3") else { return };
    let url = cluster.uri();
    let kill = |(cluster, next): &mut (Cluster, usize)| {
        cluster.node(*next).kill_and_restart();
        *next = (*next + 1) % cluster.node_count();
    };
    block(check(PLAIN, Arc::new(Killable { server: Mutex::new((cluster, 0)), url, kill })));
}

/// ActiveMQ, either of the two.
struct Activemq {
    broker: Killable<Server>,
    counts_each_crash: bool,
}

#[async_trait]
impl Engine for Activemq {
    fn url(&self) -> String {
        self.broker.url()
    }

    async fn connect(&self) -> Wilco {
        self.broker.connect().await
    }

    fn kill_and_restart(&self) -> bool {
        self.broker.kill_and_restart()
    }

    fn counts_each_crash(&self) -> bool {
        self.counts_each_crash
    }
}

fn activemq(test: &str, name: &str, column: &str, ledger: &str) {
    activemq_with(test, name, column, ledger, "");
}

/// With options of Classic's AMQP.
fn activemq_with(test: &str, name: &str, column: &str, ledger: &str, options: &str) {
    let prepare = |directory: &std::path::Path| {
        std::fs::write(directory.join("amqp.options"), options).expect("a file");
    };
    let Some(server) = Server::start_with(test, name, prepare) else { return };
    let url = format!("activemq://admin:admin@{}{ledger}", server.address());
    let kill = Server::kill_and_restart;
    let broker = Killable { server: Mutex::new(server), url, kill };
    // When a connection breaks, Artemis counts some of its deliveries as none.
    let counts_each_crash = !name.starts_with("artemis");
    block(check(column, Arc::new(Activemq { broker, counts_each_crash })));
}

#[test]
fn artemis_2_56() {
    activemq("artemis_2_56", "artemis-2.56", "ActiveMQ", "");
}

#[test]
fn activemq_6_3() {
    activemq("activemq_6_3", "activemq-6.3", "ActiveMQ", "");
}

/// With messages that the broker takes apart, so that clients of other protocols can read them.
#[test]
fn activemq_6_3_with_messages_of_jms() {
    let test = "activemq_6_3_with_messages_of_jms";
    activemq_with(test, "activemq-6.3", "ActiveMQ", "", "transport.transformer=jms");
}

#[test]
fn activemq_5_18() {
    activemq("activemq_5_18", "activemq-5.18", "ActiveMQ", "");
}

#[test]
fn artemis_2_56_with_a_ledger_in_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = format!("?ledger=sqlite:{}", directory.path().join("ledger.db").display());
    let test = "artemis_2_56_with_a_ledger_in_a_file";
    activemq(test, "artemis-2.56", "ActiveMQ with a ledger", &ledger);
}
