//! Names and exchanges that clients may not change.

use crate::BrokerError;

pub(super) fn default_exchange_refused() -> BrokerError {
    BrokerError::access_refused("operation not permitted on the default exchange")
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
