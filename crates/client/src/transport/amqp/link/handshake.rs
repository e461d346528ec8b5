//! Getting in: greeting, login, limits, virtual host; and what is set up once we are in.

use std::time::{Duration, Instant};

use amqp::{
    ConnectionClose, ConnectionOpen, ConnectionStart, ConnectionStartOk, ConnectionTune,
    ConnectionTuneOk, FieldTable, FieldValue,
};

use super::{CALLS, Down, Event, Link, Phase, Refusal, Token};
use crate::url::Mechanism;

/// The largest frame that we ask for.
const FRAME_MAX: u32 = 128 << 10;
/// `ACCESS_REFUSED`
const ACCESS_REFUSED: u16 = 403;

/// As whom to enter what.
#[derive(Clone)]
pub(crate) struct Login {
    pub user: String,
    pub password: String,
    /// How the broker is to know who it is.
    pub mechanism: Mechanism,
    pub virtual_host: String,
    /// Shown by brokers in their lists of connections.
    pub connection_name: String,
}

/// Without the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, virtual_host, connection_name, .. } = self;
        write!(f, "Login({user} in {virtual_host} as {connection_name})")
    }
}

/// What a broker says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Such as `RabbitMQ`.
    pub product: String,
    /// Of the product.
    pub version: String,
    /// wilco's own version, if it is one.
    pub wilco: Option<String>,
}

impl Server {
    fn of(properties: &FieldTable) -> Self {
        let text = |table: &FieldTable, name: &str| {
            table.get(name).and_then(FieldValue::as_str).map(str::to_owned)
        };
        let wilco = properties.get("wilco").and_then(FieldValue::as_table);
        let wilco = wilco.and_then(|wilco| text(wilco, "version"));
        Self {
            product: text(properties, "product").unwrap_or_default(),
            version: text(properties, "version").unwrap_or_default(),
            wilco,
        }
    }
}

impl<P: Token, C: Token> Link<P, C> {
    pub(super) fn greeted(&mut self, start: &ConnectionStart<'_>) {
        if self.phase != Phase::Greeting {
            return self.unexpected("connection.start");
        }
        self.server = Some(Server::of(&start.server_properties));
        let mechanism = self.login.mechanism.name();
        if !start.mechanisms.split(|octet| *octet == b' ').any(|one| one == mechanism.as_bytes()) {
            let offered = String::from_utf8_lossy(start.mechanisms);
            let text = format!("it has no login by {mechanism}, but by {offered}");
            return self.fail(Down::Login(text));
        }
        let response = match self.login.mechanism {
            Mechanism::Plain => format!("\0{}\0{}", self.login.user, self.login.password),
            // The certificate says it.
            // The others are for other schemes.
            Mechanism::External | Mechanism::ScramSha256 | Mechanism::ScramSha512 => String::new(),
        };
        let client_properties = client_properties(&self.login.connection_name);
        self.phase = Phase::LoggingIn;
        self.send(
            0,
            ConnectionStartOk {
                client_properties,
                mechanism,
                response: response.as_bytes(),
                locale: "en_US",
            },
        );
    }

    pub(super) fn tuned(&mut self, tune: &ConnectionTune) {
        if self.phase != Phase::LoggingIn {
            return self.unexpected("connection.tune");
        }
        self.frame_max = match tune.frame_max {
            0 => FRAME_MAX,
            max => max.clamp(amqp::FRAME_MIN_SIZE, FRAME_MAX),
        };
        // A broker that wants more signs of life gets them.
        let ours = self.times.heartbeat.as_secs().clamp(1, u64::from(u16::MAX)) as u16;
        let heartbeat_s = if tune.heartbeat == 0 { ours } else { ours.min(tune.heartbeat) };
        self.heartbeat = Duration::from_secs(heartbeat_s.into()).min(self.times.heartbeat);
        let frame_max = self.frame_max;
        let channel_max = tune.channel_max;
        self.channel_max = if channel_max == 0 { u16::MAX } else { channel_max };
        self.send(0, ConnectionTuneOk { channel_max, frame_max, heartbeat: heartbeat_s });
        self.phase = Phase::Entering;
        let virtual_host = self.login.virtual_host.clone();
        self.send(0, ConnectionOpen { virtual_host: &virtual_host });
    }

    /// Everything that was under way goes on.
    pub(super) fn entered(&mut self, now: Instant) {
        if self.phase != Phase::Entering {
            return self.unexpected("connection.open-ok");
        }
        self.phase = Phase::Open;
        self.opened_at = now;
        self.events.push(Event::Up);
        self.send(CALLS, amqp::ChannelOpen {});
        self.next_call();
        self.start_consumers();
        self.start_publishing();
    }

    pub(super) fn closed(&mut self, close: &ConnectionClose<'_>) {
        self.send(0, amqp::ConnectionCloseOk {});
        let refusal = Refusal { code: close.reply_code, text: close.reply_text.to_owned() };
        let why = match self.phase {
            Phase::LoggingIn if refusal.code == ACCESS_REFUSED => Down::Login(refusal.text),
            Phase::Entering => Down::VirtualHost(refusal),
            _ => Down::Closed(refusal),
        };
        self.fail(why);
    }

    pub(super) fn unexpected(&mut self, what: &str) {
        self.fail(Down::NotAmqp(format!("{what} came when it may not")));
    }
}

fn client_properties(connection_name: &str) -> FieldTable {
    let capabilities: FieldTable = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "publisher_confirms",
    ]
    .into_iter()
    .map(|capability| (capability, true))
    .collect();
    let mut properties = FieldTable::new();
    properties.push("product", "wilco client");
    properties.push("version", env!("CARGO_PKG_VERSION"));
    properties.push("platform", "Rust");
    properties.push("connection_name", connection_name);
    properties.push("capabilities", capabilities);
    properties
}
