//! What an AMQP listener is told; every default in one place.

use std::net::SocketAddr;

use listener::Admission;

/// What the server offers in `connection.tune`, and its bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 for any.
    pub address: SocketAddr,
    /// Channels per connection, at most.
    pub channel_max: u16,
    /// Bytes of a frame, at most.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat_s: u16,
    /// Time from connecting to `connection.open`, ms.
    pub handshake_timeout_ms: u64,
    /// Connections at once, at most.
    pub connections_max: usize,
    /// What bounds the connections of all listeners of the process.
    pub admission: Admission,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 5672)),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            connections_max: 65_536,
            admission: Admission::unlimited(),
        }
    }
}
