//! What an exchange is: its kind, and what was declared.

use std::fmt;
use std::sync::Arc;

use amqp::{FieldTable, FieldValue};

use crate::BrokerError;

/// The name of the argument that names an exchange's alternate.
pub(crate) const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// By bindings with exactly the routing key.
    Direct,
    /// By all bindings.
    Fanout,
    /// By bindings whose pattern matches the routing key.
    Topic,
    /// By bindings whose arguments match the message's headers.
    Headers,
}

impl ExchangeKind {
    /// Reads the type of `exchange.declare`.
    ///
    /// # Errors
    ///
    /// `PRECONDITION_FAILED` for a type that does not exist.
    pub fn parse(name: &str) -> Result<Self, BrokerError> {
        match name {
            "direct" => Ok(Self::Direct),
            "fanout" => Ok(Self::Fanout),
            "topic" => Ok(Self::Topic),
            "headers" => Ok(Self::Headers),
            _ => Err(BrokerError::precondition_failed(format!("unknown exchange type '{name}'"))),
        }
    }

    /// The type's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An exchange as it was declared.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeDefinition {
    /// Unique among the virtual host's exchanges; the default exchange's is empty.
    pub name: Arc<str>,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it is deleted with its last binding.
    pub auto_delete: bool,
    /// Whether only other exchanges may publish to it.
    pub internal: bool,
    /// As declared.
    pub arguments: FieldTable,
    /// Where messages go that no binding accepts: the argument `alternate-exchange`.
    pub alternate: Option<Arc<str>>,
}

impl ExchangeDefinition {
    /// An exchange, with the alternate exchange that its arguments name.
    pub fn new(name: impl Into<Arc<str>>, kind: ExchangeKind, arguments: FieldTable) -> Self {
        let alternate = arguments.get(ALTERNATE_EXCHANGE).and_then(FieldValue::as_str);
        Self {
            name: name.into(),
            kind,
            durable: false,
            auto_delete: false,
            internal: false,
            alternate: alternate.map(Arc::from),
            arguments,
        }
    }

    /// The exchanges every virtual host has from the start.
    pub fn predeclared() -> impl Iterator<Item = Self> {
        [
            ("", ExchangeKind::Direct),
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
            ("amq.rabbitmq.trace", ExchangeKind::Topic),
            ("amq.topic", ExchangeKind::Topic),
            // For outcomes, for questions about messages, and for workers' reports: see `outcome`.
            ("amq.wilco.outcomes", ExchangeKind::Topic),
            ("amq.wilco.query", ExchangeKind::Direct),
            ("amq.wilco.report", ExchangeKind::Direct),
        ]
        .into_iter()
        .map(|(name, kind)| Self {
            durable: true,
            internal: name == "amq.rabbitmq.trace",
            ..Self::new(name, kind, FieldTable::new())
        })
    }

    /// Whether only the broker itself puts messages into it: no exchange or queue may pass any on to
    /// it, or somebody could forge what the broker says there.
    pub fn is_of_broker(name: &str) -> bool {
        name.starts_with("amq.wilco.")
    }

    /// Whether it is a [`predeclared`](Self::predeclared) exchange, which cannot be deleted.
    pub fn is_predeclared(&self) -> bool {
        self.name.is_empty() || self.name.starts_with("amq.")
    }
}
