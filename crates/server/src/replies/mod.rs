//! The methods that ask the session for something and get a reply: where each of them goes, and
//! whether its reply waits until the change it made is durable.

mod basic;
mod exchange;
mod modes;
mod queue;

use std::borrow::Cow;

use amqp::{AccessRequestOk, Method};
use node::BrokerError;

use crate::connection::Connection;
use crate::stream::Stream;

/// A name without line breaks: those are dropped where something is declared, deleted or bound, as in
/// RabbitMQ.
fn without_line_breaks(name: &str) -> Cow<'_, str> {
    match name.contains(['\r', '\n']) {
        true => name.replace(['\r', '\n'], "").into(),
        false => name.into(),
    }
}

/// A reply that only says that it is done.
type Done = Result<Method<'static>, BrokerError>;

impl<S: Stream> Connection<S> {
    pub(crate) fn take_session_method(
        &mut self,
        channel: u16,
        method: &Method<'_>,
    ) -> Result<(), BrokerError> {
        let session = &mut self.session;
        let (reply, no_wait) = match method {
            Method::QueueDeclare(m) => return self.declare_queue(channel, m),
            Method::QueueBind(m) => (self.bind_queue(channel, m)?, m.no_wait),
            Method::QueueUnbind(m) => (self.unbind_queue(channel, m)?, false),
            Method::QueuePurge(m) => (self.purge_queue(channel, m)?, m.no_wait),
            Method::QueueDelete(m) => return self.delete_queue(channel, m),
            Method::ExchangeDeclare(m) => (exchange::declare(session, m)?, m.no_wait),
            Method::ExchangeDelete(m) => (exchange::delete(session, m)?, m.no_wait),
            Method::ExchangeBind(m) => (exchange::bind(session, m)?, m.no_wait),
            Method::ExchangeUnbind(m) => (exchange::unbind(session, m)?, m.no_wait),
            Method::BasicQos(m) => (basic::qos(session, channel, m)?, false),
            Method::BasicConsume(m) => return self.consume(channel, m),
            Method::BasicCancel(m) => return self.cancel(channel, m),
            // A client's answer to the server's own `basic.cancel`; nothing follows.
            Method::BasicCancelOk(_) => return Ok(()),
            Method::BasicGet(m) => return self.get(channel, m),
            Method::BasicRecover(m) => (basic::recover(session, channel, m.requeue)?, false),
            Method::BasicRecoverAsync(m) => {
                return basic::recover(session, channel, m.requeue).map(drop);
            }
            Method::ConfirmSelect(m) => return self.select_confirms(channel, m),
            Method::TxSelect(_) => return self.select_transactions(channel),
            Method::TxCommit(_) => (modes::commit(session, channel)?, false),
            Method::TxRollback(_) => (modes::rollback(session, channel)?, false),
            Method::AccessRequest(_) => {
                (Method::AccessRequestOk(AccessRequestOk { ticket: 1 }), false)
            }
            other => {
                let text = format!("unexpected method '{}' from a client", other.name());
                return Err(BrokerError::command_invalid(text));
            }
        };
        self.reply_unless(no_wait, channel, &reply);
        Ok(())
    }

    /// Replies once the change that the method made is durable; a client that asked for no reply
    /// waits for nothing.
    fn reply_unless(&mut self, no_wait: bool, channel: u16, reply: &Method<'_>) {
        if no_wait {
            self.session.barrier();
        } else {
            self.reply(channel, reply);
        }
    }
}
