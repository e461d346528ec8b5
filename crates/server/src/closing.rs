//! How a channel or a connection ends: by an error, at its client's wish, or because the server
//! stops. The phases are in module `connection`.
//!
//! *Invariant:* errors are reported in the order of what caused them: what was gathered earlier
//! takes effect first.

use std::time::Duration;

use amqp::{ChannelClose, ConnectionCloseOk, Method};
use node::BrokerError;

use crate::connection::{Connection, Phase};
use crate::farewell;
use crate::fault::Fault;
use crate::handshake::{close_method, short};
use crate::stream::Stream;

/// How long a peer may take to answer our `connection.close`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a peer that has closed may take to read what was sent to it before.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(30);

impl<S: Stream> Connection<S> {
    /// Carries out what was gathered; errors close their channels.
    pub(crate) fn flush(&mut self) {
        for (channel, error) in self.session.flush() {
            self.fault(channel, &Fault::about_ack(error));
        }
    }

    /// An error in what was taken in last: what was gathered before it takes effect first, so its
    /// errors are reported first.
    pub(crate) fn fault_in_turn(&mut self, channel: u16, fault: &Fault) {
        self.flush();
        // If one of those closed this channel, nothing that follows on it counts.
        if channel == 0 || !self.closing_channels.contains(&channel) {
            self.fault(channel, fault);
        }
    }

    /// An error: closes the channel or the connection, as its code says.
    pub(crate) fn fault(&mut self, channel: u16, fault: &Fault) {
        let Fault { error, ids } = fault;
        if channel == 0 || error.reply_code().closes_connection() {
            self.fail(error, *ids);
            return;
        }
        if self.phase != Phase::Open || !self.session.has_channel(channel) {
            return;
        }
        let text = error.reply_text();
        tracing::info!(peer = %self.peer, channel, "channel closed: {text}");
        self.drop_content(channel);
        self.last_queues.remove(&channel);
        if let Err(later) = self.session.close_channel(channel) {
            tracing::info!(peer = %self.peer, channel, "closed already, but also: {later}");
        }
        self.closing_channels.insert(channel);
        self.send(
            channel,
            &Method::ChannelClose(ChannelClose {
                reply_code: error.reply_code().code(),
                reply_text: short(&text),
                class_id: ids.0,
                method_id: ids.1,
            }),
        );
    }

    /// An error of the whole connection.
    pub(crate) fn fail(&mut self, error: &BrokerError, ids: (u16, u16)) {
        if self.phase != Phase::Open {
            return;
        }
        let text = error.reply_text();
        tracing::info!(peer = %self.peer, "connection closed: {text}");
        self.phase = Phase::Closing;
        self.close_session();
        self.contents.clear();
        self.held_reply = None;
        self.send(0, &close_method(error.reply_code(), &text, ids));
        self.close_timer = Some(Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
    }

    /// Closes the session. The connection ends, so errors left on its channels are only logged.
    fn close_session(&mut self) {
        for (channel, error) in self.session.close() {
            tracing::info!(peer = %self.peer, channel, "the connection is over, but also: {error}");
        }
    }

    /// Makes what was taken in durable, confirms it, and then tells the peer that the server stops.
    pub(crate) fn say_goodbye(&mut self) {
        self.flush();
        match self.session.is_settled_in_store() {
            Ok(false) => {}
            Ok(true) | Err(_) => {
                self.session.release_confirms();
                let text = "broker forced connection closure with reason 'shutdown'";
                self.fail(&BrokerError::connection_forced(text), (0, 0));
            }
        }
    }

    /// The peer has closed: `close-ok` goes out after what is still to be written, if the peer
    /// reads that.
    pub(crate) fn leave(&mut self) {
        self.close_session();
        self.reply(0, &Method::ConnectionCloseOk(ConnectionCloseOk {}));
        self.phase = Phase::Leaving;
        self.close_timer = Some(Box::pin(tokio::time::sleep(LEAVE_TIMEOUT)));
    }

    /// Everything has been said: waits for the peer to hang up.
    pub(crate) fn linger(&mut self) {
        self.phase = Phase::Lingering;
        self.kept = Vec::new();
        self.close_timer = Some(Box::pin(tokio::time::sleep(farewell::TIMEOUT)));
    }
}
