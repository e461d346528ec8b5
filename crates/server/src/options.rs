//! How to open an AMQP listener; every default in one place.

use std::net::SocketAddr;

use listener::Admission;

/// What the server offers in `connection.tune`, and its limits.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 for any port.
    pub address: SocketAddr,
    /// The most channels per connection.
    pub channel_max: u16,
    /// The largest frame, bytes.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 for no heartbeats.
    pub heartbeat_s: u16,
    /// Time allowed from connecting to `connection.open`, ms.
    pub handshake_timeout_ms: u64,
    /// The most connections at a time.
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
