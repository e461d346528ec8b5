//! From the protocol header to `connection.open-ok` (AMQP 0-9-1 section 2.2.4).
//!
//! Ordinary async code over a small buffer; it runs once per connection and is bounded in time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp::{
    ConnectionClose, ConnectionOpenOk, ConnectionStart, ConnectionTune, FieldTable, FieldValue,
    FrameKind, Method, PROTOCOL_HEADER, ReplyCode, decode_frame, write_method,
};
use listener::Place;
use node::auth::{Identity, parse_amqplain, parse_plain};
use node::{BrokerError, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::shared::Shared;
use crate::stream::Stream;
use crate::wire::FrameSink;

/// Largest frame before the limits are negotiated, as in RabbitMQ 4.1.
const FRAME_MAX_BEFORE_TUNE: u32 = 8192;
/// How long the answer to a failed login is delayed, so that guessing takes time.
const LOGIN_FAILED_DELAY: Duration = Duration::from_millis(500);
/// The version of what wilco adds to AMQP: it grows when a client could no longer do what it did.
const PROTOCOL: i32 = 1;
/// How long a peer that we refuse may take to confirm that it has read why.
const CLOSE_OK_TIMEOUT: Duration = Duration::from_secs(2);

/// What the handshake has settled.
pub(crate) struct Greeted {
    pub session: Session,
    pub channel_max: u16,
    pub frame_max: u32,
    pub heartbeat_s: u16,
    /// The client understands `connection.blocked`.
    pub knows_blocked: bool,
    /// Bytes that came after `connection.open`.
    pub rest: Vec<u8>,
}

/// Greets a client; `None` when it was refused or has left.
pub(crate) async fn greet(
    stream: &mut impl Stream,
    peer: SocketAddr,
    place: Option<&Place>,
    shared: &Arc<Shared>,
) -> io::Result<Option<Greeted>> {
    let limit = Duration::from_millis(shared.options.handshake_timeout_ms);
    let mut handshake = Handshake { stream, peer, place, shared, buffer: Vec::new() };
    match tokio::time::timeout(limit, handshake.run()).await {
        Ok(greeted) => greeted,
        Err(_) => {
            tracing::info!(%peer, "the handshake took longer than {} ms", limit.as_millis());
            Ok(None)
        }
    }
}

struct Handshake<'a, S> {
    stream: &'a mut S,
    peer: SocketAddr,
    /// Marked as known once the virtual host is open, before the client hears of it.
    place: Option<&'a Place>,
    shared: &'a Arc<Shared>,
    buffer: Vec<u8>,
}

/// A method's payload, copied out of the buffer.
type Payload = Vec<u8>;

impl<S: Stream> Handshake<'_, S> {
    async fn run(&mut self) -> io::Result<Option<Greeted>> {
        if !self.read_protocol_header().await? {
            return Ok(None);
        }
        let Some((who, capabilities)) = self.log_in().await? else { return Ok(None) };
        let Some((channel_max, frame_max, heartbeat_s)) = self.tune().await? else {
            return Ok(None);
        };
        let Some(payload) = self.read_method().await? else { return Ok(None) };
        let open = match Method::decode(&payload) {
            Ok(Method::ConnectionOpen(open)) => open,
            _ => return self.refuse_unexpected(&payload).await,
        };
        let sink = Box::new(FrameSink::new(frame_max));
        let session = self.shared.node.open_connection(open.virtual_host, &who, sink);
        let mut session = match session {
            Ok(session) => session,
            Err(error) => return self.refuse(&error, (10, 40)).await,
        };
        session.set_notifies_cancel(capabilities.consumer_cancel_notify);
        match &capabilities.connection_name {
            Some(name) => session.set_name(name),
            None => session.set_name(&format!("{}@{}", who.user(), self.peer)),
        }
        if let Some(place) = self.place {
            place.known();
        }
        self.send(&Method::ConnectionOpenOk(ConnectionOpenOk {})).await?;
        Ok(Some(Greeted {
            session,
            channel_max,
            frame_max,
            heartbeat_s,
            knows_blocked: capabilities.connection_blocked,
            rest: std::mem::take(&mut self.buffer),
        }))
    }

    async fn read_protocol_header(&mut self) -> io::Result<bool> {
        let mut header = [0; PROTOCOL_HEADER.len()];
        self.stream.read_exact(&mut header).await?;
        if header != PROTOCOL_HEADER {
            tracing::info!(peer = %self.peer, "not AMQP 0-9-1: {header:?}");
            self.stream.write_all(&PROTOCOL_HEADER).await?;
            return Ok(false);
        }
        let properties = server_properties();
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: b"PLAIN AMQPLAIN",
            locales: b"en_US",
        };
        self.send(&Method::ConnectionStart(start)).await?;
        Ok(true)
    }

    async fn log_in(&mut self) -> io::Result<Option<(Identity, Capabilities)>> {
        let Some(payload) = self.read_method().await? else { return Ok(None) };
        let start = match Method::decode(&payload) {
            Ok(Method::ConnectionStartOk(start)) => start,
            _ => return self.refuse_unexpected(&payload).await,
        };
        let capabilities = Capabilities::of(&start.client_properties);
        let credentials = match start.mechanism {
            "PLAIN" => parse_plain(start.response),
            "AMQPLAIN" => parse_amqplain(start.response),
            other => {
                let text = format!("the mechanism '{other}' is not offered; use PLAIN or AMQPLAIN");
                return self.refuse_login(&capabilities, other, &text).await;
            }
        };
        let (user, password) = match credentials {
            Ok(credentials) => credentials,
            Err(error) => {
                return self.refuse_login(&capabilities, start.mechanism, &error.to_string()).await;
            }
        };
        // For the log: no user's name is longer.
        let shown = short(&user).to_owned();
        if !self.shared.node.may_connect_from(&user, self.peer.ip()) {
            let text = format!("user '{shown}' can only connect via localhost");
            return self.refuse_login(&capabilities, start.mechanism, &text).await;
        }
        let logged_in = tokio::select! {
            logged_in = self.shared.node.log_in(self.peer.ip(), &user, &password) => logged_in,
            // A client that hangs up leaves the queue.
            () = hung_up(self.stream, &mut self.buffer) => return Ok(None),
        };
        match logged_in {
            Ok(who) => Ok(Some((who, capabilities))),
            Err(error) => {
                let text = format!("user '{shown}': {error}");
                self.refuse_login(&capabilities, start.mechanism, &text).await
            }
        }
    }

    async fn tune(&mut self) -> io::Result<Option<(u16, u32, u16)>> {
        let offered = &self.shared.options;
        let tune = ConnectionTune {
            channel_max: offered.channel_max,
            frame_max: offered.frame_max,
            heartbeat: offered.heartbeat_s,
        };
        self.send(&Method::ConnectionTune(tune)).await?;
        let Some(payload) = self.read_method().await? else { return Ok(None) };
        let asked = match Method::decode(&payload) {
            Ok(Method::ConnectionTuneOk(asked)) => asked,
            _ => return self.refuse_unexpected(&payload).await,
        };
        let limit = |name, asked: u32, offered: u32, min: u32| match asked {
            0 => Ok(offered),
            asked if offered != 0 && asked > offered => Err(format!(
                "negotiated {name} = {asked} is higher than the maximum allowed value ({offered})"
            )),
            asked if asked < min => Err(format!(
                "negotiated {name} = {asked} is lower than the minimum allowed value ({min})"
            )),
            asked => Ok(asked),
        };
        let (channel_max, frame_max) = (offered.channel_max, offered.frame_max);
        let channels = limit("channel_max", asked.channel_max.into(), channel_max.into(), 1);
        let frames = limit("frame_max", asked.frame_max, frame_max, amqp::FRAME_MIN_SIZE);
        match (channels, frames) {
            (Ok(channels), Ok(frames)) => {
                let channels = u16::try_from(channels).unwrap_or(u16::MAX);
                Ok(Some((channels, frames, asked.heartbeat)))
            }
            (Err(text), _) | (_, Err(text)) => {
                self.refuse(&BrokerError::not_allowed(text), (10, 31)).await
            }
        }
    }

    /// The next method's payload; `None` when the peer sent something else and was refused.
    async fn read_method(&mut self) -> io::Result<Option<Payload>> {
        loop {
            let decoded = decode_frame(&self.buffer, FRAME_MAX_BEFORE_TUNE);
            match decoded {
                Ok(Some((frame, taken))) => {
                    let payload = frame.payload.to_vec();
                    let (kind, channel) = (frame.kind, frame.channel);
                    self.buffer.drain(..taken);
                    match kind {
                        FrameKind::Method if channel == 0 => return Ok(Some(payload)),
                        FrameKind::Heartbeat => {}
                        _ => return self.refuse_unexpected(&payload).await,
                    }
                }
                Ok(None) => {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Ok(None);
                    }
                }
                Err(error) => {
                    let text = format!("{error} during the handshake");
                    return self.refuse(&BrokerError::frame_error(text), (0, 0)).await;
                }
            }
        }
    }

    async fn refuse_unexpected<T>(&mut self, payload: &[u8]) -> io::Result<Option<T>> {
        let (error, ids) = match Method::decode(payload) {
            // The peer may always leave.
            Ok(Method::ConnectionClose(_)) => {
                let ok = Method::ConnectionCloseOk(amqp::ConnectionCloseOk {});
                self.send(&ok).await?;
                return Ok(None);
            }
            Ok(method) => {
                let text = format!("'{}' is not expected during the handshake", method.name());
                (BrokerError::command_invalid(text), (method.class_id(), method.method_id()))
            }
            Err(error) => (BrokerError::syntax_error(error.to_string()), (0, 0)),
        };
        self.refuse(&error, ids).await
    }

    async fn refuse_login<T>(
        &mut self,
        capabilities: &Capabilities,
        mechanism: &str,
        reason: &str,
    ) -> io::Result<Option<T>> {
        tracing::warn!(target: "audit", peer = %self.peer, mechanism, "login refused: {reason}");
        tokio::time::sleep(LOGIN_FAILED_DELAY).await;
        if !capabilities.authentication_failure_close {
            return Ok(None);
        }
        let text = format!(
            "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
        );
        self.refuse(&BrokerError::access_refused(text), (0, 0)).await
    }

    /// Sends the reason with `connection.close`, and waits a moment for `close-ok`.
    async fn refuse<T>(&mut self, error: &BrokerError, ids: (u16, u16)) -> io::Result<Option<T>> {
        let text = error.reply_text();
        tracing::info!(peer = %self.peer, "connection refused: {text}");
        self.send(&close_method(error.reply_code(), &text, ids)).await?;
        let mut close_ok = Vec::new();
        write_method(&mut close_ok, 0, &Method::ConnectionCloseOk(amqp::ConnectionCloseOk {}));
        let answered = async {
            // Whatever else it had under way comes first and is discarded.
            while self.stream.read_buf(&mut self.buffer).await? > 0
                && !self.buffer.ends_with(&close_ok)
            {
                let kept = self.buffer.len().saturating_sub(close_ok.len());
                self.buffer.drain(..kept);
            }
            io::Result::Ok(())
        };
        // If time runs out, we only stop writing.
        let _ = tokio::time::timeout(CLOSE_OK_TIMEOUT, answered).await;
        Ok(None)
    }

    async fn send(&mut self, method: &Method<'_>) -> io::Result<()> {
        let mut frame = Vec::new();
        write_method(&mut frame, 0, method);
        self.stream.write_all(&frame).await
    }
}

/// Returns when the peer has hung up. A peer that sends out of turn is no longer watched: what it
/// sent is looked at in its turn.
async fn hung_up(stream: &mut impl Stream, buffer: &mut Vec<u8>) {
    if matches!(stream.read_buf(buffer).await, Ok(1..)) {
        std::future::pending::<()>().await;
    }
}

/// `connection.close`; the text is cut to the length of a short string.
pub(crate) fn close_method(code: ReplyCode, text: &str, ids: (u16, u16)) -> Method<'_> {
    Method::ConnectionClose(ConnectionClose {
        reply_code: code.code(),
        reply_text: short(text),
        class_id: ids.0,
        method_id: ids.1,
    })
}

/// The first 255 bytes of a text, at most.
pub(crate) fn short(text: &str) -> &str {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What a client says it understands, and its name.
#[derive(Default)]
struct Capabilities {
    connection_name: Option<String>,
    consumer_cancel_notify: bool,
    connection_blocked: bool,
    authentication_failure_close: bool,
}

impl Capabilities {
    fn of(client_properties: &FieldTable) -> Self {
        let table = client_properties.get("capabilities").and_then(FieldValue::as_table);
        let has = |name| {
            table.and_then(|table| table.get(name)).and_then(FieldValue::as_bool).unwrap_or(false)
        };
        let name = client_properties.get("connection_name").and_then(FieldValue::as_str);
        Self {
            connection_name: name.filter(|name| !name.is_empty()).map(str::to_owned),
            consumer_cancel_notify: has("consumer_cancel_notify"),
            connection_blocked: has("connection.blocked"),
            authentication_failure_close: has("authentication_failure_close"),
        }
    }
}

/// What the server says about itself; `docs/amqp.md` explains each entry.
fn server_properties() -> FieldTable {
    let capabilities = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    let capabilities: FieldTable =
        capabilities.iter().map(|name| ((*name).to_owned(), FieldValue::Bool(true))).collect();
    let mut properties = FieldTable::new();
    properties.insert("capabilities", FieldValue::Table(capabilities));
    properties.insert("cluster_name", FieldValue::from("wilco"));
    properties.insert("copyright", FieldValue::from("Copyright (c) the wilco authors"));
    properties.insert("information", FieldValue::from("Licensed under MIT OR Apache-2.0"));
    let platform = concat!("wilco ", env!("CARGO_PKG_VERSION"));
    properties.insert("platform", FieldValue::from(platform));
    // Clients that look at the product assume RabbitMQ's extensions only of RabbitMQ.
    properties.insert("product", FieldValue::from("RabbitMQ"));
    properties.insert("version", FieldValue::from("4.1.0"));
    let wilco: FieldTable = [
        ("version", FieldValue::from(env!("CARGO_PKG_VERSION"))),
        ("protocol", FieldValue::I32(PROTOCOL)),
    ]
    .into_iter()
    .collect();
    properties.insert("wilco", FieldValue::Table(wilco));
    properties
}
