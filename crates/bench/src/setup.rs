//! What a run needs on the broker: its exchange, queues and bindings; declares and deletes them.

use amqp::{FieldTable, FieldValue, Method};
use anyhow::{Context, Result};

use super::client::Connection;

/// The topology of a run.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    /// Empty for the default exchange, which needs no bindings.
    pub(super) exchange: String,
    pub(super) exchange_kind: String,
    pub(super) queues: Vec<String>,
    pub(super) durable: bool,
    pub(super) arguments: FieldTable,
}

impl Topology {
    /// Declares the exchange, unless it is predeclared, and the queues, and binds each by its name.
    pub(super) fn declare(&self, connection: &mut Connection) -> Result<()> {
        let exchange = self.exchange.as_str();
        if !exchange.is_empty() && !exchange.starts_with("amq.") {
            let declare = amqp::ExchangeDeclare {
                exchange,
                kind: &self.exchange_kind,
                durable: self.durable,
                ..Default::default()
            };
            connection.call(declare, |reply| matches!(reply, Method::ExchangeDeclareOk(_)))?;
        }
        for queue in &self.queues {
            let declare = amqp::QueueDeclare {
                queue,
                durable: self.durable,
                arguments: self.arguments.clone(),
                ..Default::default()
            };
            connection
                .call(declare, |reply| matches!(reply, Method::QueueDeclareOk(_)))
                .with_context(|| format!("cannot declare queue {queue}"))?;
            if !exchange.is_empty() {
                let bind =
                    amqp::QueueBind { queue, exchange, routing_key: queue, ..Default::default() };
                connection.call(bind, |reply| matches!(reply, Method::QueueBindOk(_)))?;
            }
        }
        Ok(())
    }

    /// Drops the messages that are already in the queues.
    pub(super) fn purge(&self, connection: &mut Connection) -> Result<()> {
        for queue in &self.queues {
            let purge = amqp::QueuePurge { queue, no_wait: false };
            connection.call(purge, |reply| matches!(reply, Method::QueuePurgeOk(_)))?;
        }
        Ok(())
    }

    /// Deletes what [`declare`](Self::declare) created.
    pub(super) fn delete(&self, connection: &mut Connection) -> Result<()> {
        for queue in &self.queues {
            let delete = amqp::QueueDelete { queue, ..Default::default() };
            connection.call(delete, |reply| matches!(reply, Method::QueueDeleteOk(_)))?;
        }
        let exchange = self.exchange.as_str();
        if !exchange.is_empty() && !exchange.starts_with("amq.") {
            let delete = amqp::ExchangeDelete { exchange, ..Default::default() };
            connection.call(delete, |reply| matches!(reply, Method::ExchangeDeleteOk(_)))?;
        }
        Ok(())
    }
}

/// Parses `name=value`: an integer or a bool if it looks like one, otherwise a string.
pub(super) fn parse_argument(text: &str) -> Result<(String, FieldValue), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) => number.into(),
        (_, Ok(flag)) => flag.into(),
        _ => value.into(),
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_arguments_get_the_type_they_look_like() {
        let value = |text| parse_argument(text).map(|(_, value)| value);
        assert_eq!(value("x-max-length=10"), Ok(FieldValue::I64(10)));
        assert_eq!(value("x-single-active-consumer=true"), Ok(FieldValue::Bool(true)));
        assert_eq!(value("x-queue-type=quorum"), Ok("quorum".into()));
        assert!(value("x-queue-type").is_err());
    }
}
