//! Names and exchanges that clients may not change.

use crate::BrokerError;
use crate::exchange::ExchangeDefinition;

pub(super) fn default_exchange_refused() -> BrokerError {
    BrokerError::access_refused("operation not permitted on the default exchange")
}

/// Nobody may have messages passed on to where only the broker speaks.
pub(super) fn check_not_of_broker(exchange: &str) -> Result<(), BrokerError> {
    if ExchangeDefinition::is_of_broker(exchange) {
        return Err(BrokerError::access_refused(format!(
            "only the broker passes messages on to exchange '{exchange}'"
        )));
    }
    Ok(())
}

/// Names that begin with `amq.` are reserved for the server.
pub(super) fn check_name(kind: &str, name: &str) -> Result<(), BrokerError> {
    if name.starts_with("amq.") {
        return Err(BrokerError::access_refused(format!(
            "{kind} name '{name}' contains reserved prefix 'amq.*'"
        )));
    }
    Ok(())
}
