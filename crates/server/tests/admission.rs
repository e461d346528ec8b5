//! With too many connections, those that have not logged in make room and those that have stay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp::{
    ChannelOpen, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, FieldTable, Method,
    PROTOCOL_HEADER, decode_frame, write_method,
};
use listener::{Admission, OpenFiles};
use node::Node;
use server::{Options, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A client that can do just enough for the handshake.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        Self { stream, input: Vec::new() }
    }

    /// Logs in as guest and opens a channel: the answer shows that the server has noted who this
    /// is. Returns whether the server let it.
    async fn opens(&mut self) -> bool {
        let start = ConnectionStartOk {
            client_properties: FieldTable::new(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        let tune = ConnectionTuneOk { channel_max: 0, frame_max: 0, heartbeat: 0 };
        let open = ConnectionOpen { virtual_host: "/" };
        let mut output = PROTOCOL_HEADER.to_vec();
        for method in [
            Method::ConnectionStartOk(start),
            Method::ConnectionTuneOk(tune),
            Method::ConnectionOpen(open),
        ] {
            write_method(&mut output, 0, &method);
        }
        write_method(&mut output, 1, &Method::ChannelOpen(ChannelOpen {}));
        self.stream.write_all(&output).await.is_ok() && self.hears_channel_open_ok().await
    }

    async fn hears_channel_open_ok(&mut self) -> bool {
        loop {
            let decoded = decode_frame(&self.input, 0).expect("a frame");
            let Some((frame, length)) = decoded else {
                if self.is_ended().await {
                    return false;
                }
                continue;
            };
            let method = Method::decode(frame.payload).expect("a method");
            if matches!(method, Method::ChannelOpenOk(_)) {
                return true;
            }
            self.input.drain(..length);
        }
    }

    /// Reads what comes next; returns whether that was the end.
    async fn is_ended(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.input);
        let read = timeout(Duration::from_secs(20), read).await.expect("something happens");
        !matches!(read, Ok(1..))
    }
}

async fn check_flood(admission: Admission, connections_max: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_owned();
    let node = Node::open(node::Options { data, ..Default::default() }).expect("a node");
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options { address, connections_max, admission, ..Options::default() };
    let server = Server::bind(Arc::clone(&node), options).await.expect("a port");
    let address = server.local_address();
    let running = tokio::spawn(server.run(std::future::pending()));

    let mut first = Client::connect(address).await;
    assert!(first.opens().await);
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Client::connect(address).await);
    }
    // Two places are left for clients that log in, whoever else is there.
    let mut second = Client::connect(address).await;
    assert!(second.opens().await, "locked out");
    assert!(silent[0].is_ended().await);
    let mut third = Client::connect(address).await;
    assert!(third.opens().await, "locked out");
    assert!(!Client::connect(address).await.opens().await, "all of them are logged in");
    for client in [&mut first, &mut second, &mut third] {
        assert!(timeout(Duration::from_millis(50), client.is_ended()).await.is_err(), "was ended");
    }
    running.abort();
    let _ = running.await;
    tokio::task::spawn_blocking(move || node.close()).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_make_room_when_connections_max_is_reached() {
    check_flood(Admission::unlimited(), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_make_room_when_few_files_may_be_open() {
    // 81 files are the store's and 16 are kept free even then: room for three.
    check_flood(Admission::new(OpenFiles::with_limit(100), || 81), 1000).await;
}
