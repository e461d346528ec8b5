//! A client at the other end of a socket pair: no port, no listener.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp::{
    ChannelOpen, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, FieldTable, FrameKind,
    Method, PROTOCOL_HEADER, decode_frame, write_method,
};
use node::{Node, StoreOptions};
use server::{Options, serve_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// The largest frame, bytes: small, so that messages come in several.
pub(crate) const FRAME_MAX: u32 = 4096;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn open_node(directory: &std::path::Path) -> Arc<Node> {
    let store = StoreOptions { disk_free_bytes_min: 0, ..StoreOptions::default() };
    let options = node::Options { data: directory.to_owned(), store, ..Default::default() };
    Node::open(options).expect("a node")
}

/// A frame that owns what is in it.
pub(crate) struct Received {
    pub kind: FrameKind,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Received {
    pub(crate) fn method(&self) -> Method<'_> {
        assert_eq!(self.kind, FrameKind::Method);
        Method::decode(&self.payload).expect("a method")
    }
}

/// Reads frames.
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    input: Vec<u8>,
}

impl Reader {
    pub(crate) async fn frame(&mut self) -> Received {
        self.frame_or(|| "something".to_owned()).await
    }

    /// The next frame; `awaited` says what the test is waiting for.
    pub(crate) async fn frame_or(&mut self, awaited: impl Fn() -> String) -> Received {
        loop {
            if let Some((frame, length)) = decode_frame(&self.input, 0).expect("a frame") {
                let (kind, channel) = (frame.kind, frame.channel);
                let received = Received { kind, channel, payload: frame.payload.to_vec() };
                self.input.drain(..length);
                return received;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            let read = read.await.unwrap_or_else(|_| panic!("in vain: {}", awaited()));
            let count = read.expect("open");
            assert!(count > 0, "the server has closed the connection");
        }
    }
}

/// A client that has logged in.
pub(crate) struct Client {
    pub reader: Reader,
    pub writer: OwnedWriteHalf,
}

impl Client {
    pub(crate) async fn connect(node: &Arc<Node>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let options = Options { heartbeat_s: 0, frame_max: FRAME_MAX, ..Options::default() };
        let peer = SocketAddr::from(([127, 0, 0, 1], 0));
        tokio::spawn(serve_stream(Arc::clone(node), options, theirs, peer));
        let (stream, writer) = ours.into_split();
        let mut client = Self { reader: Reader { stream, input: Vec::new() }, writer };
        client.log_in().await;
        client
    }

    async fn log_in(&mut self) {
        let start = ConnectionStartOk {
            client_properties: FieldTable::new(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        let tune = ConnectionTuneOk { channel_max: 0, frame_max: 0, heartbeat: 0 };
        let open = ConnectionOpen { virtual_host: "/" };
        let mut output = PROTOCOL_HEADER.to_vec();
        write_method(&mut output, 0, &start.into());
        write_method(&mut output, 0, &tune.into());
        write_method(&mut output, 0, &open.into());
        self.send(&output).await;
        while !matches!(self.reader.frame().await.method(), Method::ConnectionOpenOk(_)) {}
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("open");
    }

    pub(crate) async fn open_channel(&mut self, channel: u16) {
        self.send(&encoded(channel, &ChannelOpen {}.into())).await;
        let opened = self.reader.frame().await;
        assert!(matches!(opened.method(), Method::ChannelOpenOk(_)));
    }
}

pub(crate) fn encoded(channel: u16, method: &Method<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_method(&mut bytes, channel, method);
    bytes
}
