//! The user's own transactions.

use sqlx::{Postgres, Sqlite, Transaction};

use super::Outbox;
use super::entering::Entering;
use crate::codec::Encode;
use crate::queue::SendTo;
use crate::sql::Connection;

/// A transaction of `sqlx` that messages can be part of: `Transaction<Postgres>` and `Transaction<Sqlite>`.
pub trait OutboxTransaction: sealed::Open {}

/// As this crate sees it.
pub(super) trait InTransaction: Send {
    fn connection(&mut self) -> Connection<'_>;
}

mod sealed {
    pub trait Open {
        #[doc(hidden)]
        fn open(&mut self) -> InTransaction<'_>;
    }

    /// The transaction, for this crate.
    pub struct InTransaction<'t>(pub(super) &'t mut dyn super::InTransaction);
}

impl OutboxTransaction for Transaction<'_, Postgres> {}
impl OutboxTransaction for Transaction<'_, Sqlite> {}

impl sealed::Open for Transaction<'_, Postgres> {
    fn open(&mut self) -> sealed::InTransaction<'_> {
        sealed::InTransaction(self)
    }
}

impl sealed::Open for Transaction<'_, Sqlite> {
    fn open(&mut self) -> sealed::InTransaction<'_> {
        sealed::InTransaction(self)
    }
}

impl InTransaction for Transaction<'_, Postgres> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Postgres(self)
    }
}

impl InTransaction for Transaction<'_, Sqlite> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Sqlite(self)
    }
}

/// An outbox within a transaction: what is sent here is sent if that is committed, and else was never there.
pub struct Within<'t> {
    outbox: Outbox,
    transaction: &'t mut dyn InTransaction,
}

impl<'t> Within<'t> {
    pub(super) fn new(outbox: Outbox, transaction: &'t mut impl OutboxTransaction) -> Self {
        Self { outbox, transaction: transaction.open().0 }
    }

    /// Makes a message part of the transaction.
    ///
    /// # Errors
    /// As [`Outbox::send`]. Whether the transaction can go on after one of the database is that database's
    /// business: in PostgreSQL it cannot.
    pub fn send<T: SendTo>(self, to: T, message: &T::In) -> Entering<'t>
    where
        T::Codec: Encode<T::In>,
    {
        self.outbox.entering(Some(self.transaction), &to, message)
    }
}

impl std::fmt::Debug for Within<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Within").finish_non_exhaustive()
    }
}
