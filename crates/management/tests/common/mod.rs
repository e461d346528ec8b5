//! A node with its HTTP server in a directory of its own, and a plain HTTP client.
//!
//! The client uses the standard library's sockets, so tests see what is on the wire.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    missing_docs,
    unreachable_pub,
    reason = "shared by several test programs"
)]

mod in_memory;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use amqp::{FieldTable, FieldValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use in_memory::InMemory;
use management::ports::{Outcome, Ports};
use management::{Management, Options};
use node::definitions::Permissions;
use node::embedded::{Event, Link};
use node::{Consume, DeclareQueue, Node, Settlement};
use serde_json::Value;

/// Runs tests, written as functions of a fixture, over each implementation of the ports.
macro_rules! over_both {
    ($($test:ident,)*) => {
        mod over_node {
            $(#[test] fn $test() { super::$test(&super::Fixture::new()); })*
        }
        mod in_memory {
            $(#[test] fn $test() { super::$test(&super::Fixture::in_memory()); })*
        }
    };
}
pub(crate) use over_both;

/// Now, ms since the epoch.
pub fn now_ms() -> u64 {
    use node::clock::{Clock, SystemClock};
    SystemClock.now_ms()
}

/// The broker behind the ports.
#[derive(Clone)]
enum Behind {
    Node(Arc<Node>),
    Memory(Arc<InMemory>),
}

impl Behind {
    fn open_node(directory: &Path) -> Self {
        let options = node::Options { data: directory.to_owned(), ..node::Options::default() };
        Self::Node(Node::open(options).expect("a node"))
    }

    fn ports(&self) -> Ports {
        match self {
            Self::Node(node) => management::over_node(Arc::clone(node)),
            Self::Memory(memory) => {
                Ports { messages: Arc::clone(memory) as _, broker: Arc::clone(memory) as _ }
            }
        }
    }
}

pub struct Fixture {
    runtime: Option<tokio::runtime::Runtime>,
    management: Option<Management>,
    behind: Behind,
    pub address: SocketAddr,
    pub user: String,
    directory: PathBuf,
    _kept: Option<tempfile::TempDir>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        let mut fixture = Self::open(kept.path().to_owned(), change);
        fixture._kept = Some(kept);
        fixture
    }

    /// Over a list in memory.
    pub fn in_memory() -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        let behind = Behind::Memory(Arc::default());
        let mut fixture = Self::over(behind, kept.path().to_owned(), |_| {});
        fixture._kept = Some(kept);
        fixture
    }

    pub fn open(directory: PathBuf, change: impl FnOnce(&mut Options)) -> Self {
        Self::over(Behind::open_node(&directory), directory, change)
    }

    fn over(behind: Behind, directory: PathBuf, change: impl FnOnce(&mut Options)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let mut options = Options {
            data: directory.clone(),
            allow_private_addresses: true,
            ..Options::default()
        };
        change(&mut options);
        let ports = behind.ports();
        let management = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            Management::start(Some(listener), ports, options).expect("it starts")
        });
        let address = management.local_address().expect("it listens");
        let user = "guest:guest".to_owned();
        let (management, runtime) = (Some(management), Some(runtime));
        Self { runtime, management, behind, address, user, directory, _kept: None }
    }

    /// The node behind the ports.
    pub fn node(&self) -> &Arc<Node> {
        match &self.behind {
            Behind::Node(node) => node,
            Behind::Memory(_) => panic!("this test is for a node"),
        }
    }

    /// The number of messages in all queues.
    pub fn message_count(&self) -> u64 {
        match &self.behind {
            Behind::Node(node) => node.message_count(),
            Behind::Memory(memory) => memory.message_count(),
        }
    }

    /// The directory in which the server keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cursor before everything.
    pub fn beginning(&self) -> String {
        self.behind.ports().messages.beginning().to_string()
    }

    /// Stops the server; returns how long that took.
    pub fn stop(&mut self) -> Duration {
        let start = Instant::now();
        if let (Some(management), Some(runtime)) = (self.management.take(), &self.runtime) {
            runtime.block_on(management.stop());
        }
        start.elapsed()
    }

    /// Stops everything and starts again on the same store.
    pub fn restart(mut self, change: impl FnOnce(&mut Options)) -> Self {
        let kept = self._kept.take();
        let directory = self.directory.clone();
        drop(self);
        let mut fixture = Self::open(directory, change);
        fixture._kept = kept;
        fixture
    }

    /// Restarts as after a crash: the server is not stopped, it is simply gone.
    pub fn kill_and_restart(mut self, change: impl FnOnce(&mut Options)) -> Self {
        let runtime = self.runtime.take().expect("it runs");
        runtime.shutdown_timeout(Duration::from_secs(5));
        self.management = None;
        self.restart(change)
    }

    pub fn declare(&self, queue: &str) {
        self.declare_with(queue, &[]);
    }

    pub fn declare_with(&self, queue: &str, given: &[(&str, FieldValue)]) {
        if let Behind::Memory(memory) = &self.behind {
            return memory.declare(queue);
        }
        let mut arguments = FieldTable::new();
        given.iter().for_each(|(name, value)| arguments.insert(*name, value.clone()));
        let mut link = Link::open(self.node(), "/", "guest").expect("a link");
        link.open_channel().expect("a channel");
        let options = DeclareQueue { durable: true, arguments, ..DeclareQueue::default() };
        link.declare_queue(queue, &options).expect("a queue");
        link.close();
    }

    pub fn add_user(&self, name: &str, tags: &[&str], write: &str, read: &str) {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.node().add_user(name, name, &tags).expect("a user");
        let permissions =
            Permissions { configure: String::new(), write: write.into(), read: read.into() };
        self.node().set_permissions("/", name, permissions).expect("permissions");
    }

    /// Sends a request as the fixture's user.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.call_as(&self.user, method, path, body)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, Some(body))
    }

    pub fn call_as(&self, user: &str, method: &str, path: &str, body: Option<Value>) -> Reply {
        let mut head = basic(user);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        self.raw(method, path, &head, body.as_bytes())
    }

    /// Sends a request with exactly these header lines.
    pub fn raw(&self, method: &str, path: &str, head: &str, body: &[u8]) -> Reply {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{head}content-length: \
             {length}\r\n\r\n"
        );
        self.exchange(stream, &[head.as_bytes(), body].concat())
    }

    /// Sends exactly these bytes.
    pub fn raw_request(&self, request: &[u8]) -> Reply {
        let stream = TcpStream::connect(self.address).expect("a connection");
        self.exchange(stream, request)
    }

    fn exchange(&self, mut stream: TcpStream, request: &[u8]) -> Reply {
        stream.set_read_timeout(Some(Duration::from_secs(70))).expect("a time-out");
        // The server may answer and close before it has read a whole body.
        let _ = stream.write_all(request);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        Reply::parse(&text)
    }

    /// Waits until a call gives the right answer.
    pub fn eventually(&self, path: &str, is_right: impl Fn(&Reply) -> bool) -> Reply {
        let start = Instant::now();
        loop {
            let reply = self.get(path);
            if is_right(&reply) {
                return reply;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "{path}: {reply:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A thread that settles every message, until dropped.
    pub fn worker(&self, queue: &str, settlement: Settlement) -> Worker {
        let stop = Arc::new(AtomicBool::new(false));
        let (behind, queue, stopping) = (self.behind.clone(), queue.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let node = match behind {
                Behind::Node(node) => node,
                Behind::Memory(memory) => return work(&memory, &queue, settlement, &stopping),
            };
            let mut link = Link::open(&node, "/", "guest").expect("a link");
            let channel = link.open_channel().expect("a channel");
            let options = Consume { tag: "worker", ..Consume::default() };
            link.consume(channel, &queue, &options).expect("a consumer");
            while !stopping.load(Ordering::Relaxed) {
                let event = link.next_event(Some(Duration::from_millis(20)));
                if let Some(Event::Delivered(delivery)) = event {
                    link.settle(channel, delivery.tag, settlement).expect("settled");
                }
            }
            link.close();
        });
        Worker { stop, thread: Some(thread) }
    }

    /// Opens the feed of outcomes.
    pub fn feed(&self, path: &str, last_id: Option<&str>) -> Feed {
        self.open_feed(&self.user, path, last_id)
    }

    /// The same as another user.
    pub fn feed_as(&self, user: &str, path: &str) -> Feed {
        self.open_feed(user, path, None)
    }

    fn open_feed(&self, user: &str, path: &str, last_id: Option<&str>) -> Feed {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let last_id = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let auth = basic(user);
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{auth}{last_id}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut feed = Feed { lines: BufReader::new(stream), last_id: None };
        let mut line = feed.line().expect("a status");
        assert!(line.contains(" 200 "), "{line}");
        while !line.is_empty() {
            line = feed.line().expect("a header");
        }
        feed
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
        if let Behind::Node(node) = &self.behind {
            node.close();
        }
    }
}

fn work(memory: &InMemory, queue: &str, settlement: Settlement, stopping: &AtomicBool) {
    let outcome = if settlement == Settlement::Ack { Outcome::Processed } else { Outcome::Failed };
    while !stopping.load(Ordering::Relaxed) {
        if !memory.work(queue, outcome) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn basic(user: &str) -> String {
    format!("authorization: Basic {}\r\n", base64(user))
}

pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// See [`Fixture::worker`].
pub struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

/// A response.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub text: String,
    /// `Null` when the body is not JSON.
    pub json: Value,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self {
            status: status.unwrap_or_else(|| panic!("no answer: {text}")),
            headers: headers.collect(),
            text: body.to_owned(),
            json: serde_json::from_str(body).unwrap_or_default(),
        }
    }

    /// Checks that it is this problem; returns its detail.
    #[track_caller]
    pub fn problem(&self, status: u16, name: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.json["type"], format!("/problems/{name}"), "{self:?}");
        assert_eq!(self.json["status"], status, "{self:?}");
        self.json["detail"].as_str().expect("a detail").to_owned()
    }
}

/// A feed that is being read.
pub struct Feed {
    lines: BufReader<TcpStream>,
    /// The last id seen, kept as an `EventSource` would.
    pub last_id: Option<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedEvent {
    pub id: String,
    pub name: String,
    pub data: Value,
}

impl Feed {
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// The next event with data; `None` at the end. Chunk sizes are on lines of their own, which
    /// look like no field, and each chunk ends with the empty line of an event.
    pub fn next_event(&mut self) -> Option<FeedEvent> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("id", value)) => self.last_id = Some(value.to_owned()),
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data = value.to_owned(),
                _ if line.is_empty() && !data.is_empty() => {
                    let id = self.last_id.clone().expect("an id");
                    return Some(FeedEvent {
                        id,
                        name,
                        data: serde_json::from_str(&data).expect("JSON"),
                    });
                }
                _ => {}
            }
        }
    }
}
