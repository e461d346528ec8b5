//! Confirm mode and transactions.

use amqp::{ConfirmSelect, ConfirmSelectOk, Method, TxCommitOk, TxRollbackOk, TxSelectOk};
use node::{BrokerError, Session};

use super::Done;
use crate::connection::Connection;
use crate::stream::Stream;

pub(super) fn commit(session: &mut Session, channel: u16) -> Done {
    session.commit(channel)?;
    Ok(Method::TxCommitOk(TxCommitOk {}))
}

pub(super) fn rollback(session: &mut Session, channel: u16) -> Done {
    session.rollback(channel)?;
    Ok(Method::TxRollbackOk(TxRollbackOk {}))
}

impl<S: Stream> Connection<S> {
    pub(super) fn select_confirms(
        &mut self,
        channel: u16,
        select: &ConfirmSelect,
    ) -> Result<(), BrokerError> {
        self.session.select_confirms(channel)?;
        if !select.no_wait {
            self.send(channel, &Method::ConfirmSelectOk(ConfirmSelectOk {}));
        }
        Ok(())
    }

    pub(super) fn select_transactions(&mut self, channel: u16) -> Result<(), BrokerError> {
        self.session.select_transactions(channel)?;
        self.send(channel, &Method::TxSelectOk(TxSelectOk {}));
        Ok(())
    }
}
