//! The methods that ask the session for something and get a reply.

use amqp::{
    BasicCancelOk, BasicConsumeOk, BasicGetEmpty, BasicQosOk, BasicRecoverOk, ConfirmSelectOk,
    ExchangeBindOk, ExchangeDeclareOk, ExchangeDeleteOk, ExchangeUnbindOk, Method, QueueBindOk,
    QueueDeclareOk, QueueDeleteOk, QueuePurgeOk, QueueUnbindOk, TxCommitOk, TxRollbackOk,
    TxSelectOk,
};
use node::{BrokerError, ConsumeOptions, Destination, ExchangeOptions, QueueOptions};

use crate::connection::Connection;
use crate::wire;

impl Connection {
    pub(crate) fn take_session_method(
        &mut self,
        channel: u16,
        method: &Method<'_>,
    ) -> Result<(), BrokerError> {
        let session = &mut self.session;
        let (reply, wanted) = match method {
            Method::QueueDeclare(m) => return self.declare_queue(channel, m),
            Method::QueueBind(m) => {
                let queue = self.queue_name(channel, m.queue)?;
                // Both empty: the last declared queue's own name is meant (AMQP 0-9-1 rule).
                let key = match m.queue.is_empty() && m.routing_key.is_empty() {
                    true => queue.as_str(),
                    false => m.routing_key,
                };
                self.session.bind(m.exchange, &Destination::queue(&queue), key, &m.arguments)?;
                (Method::QueueBindOk(QueueBindOk {}), !m.no_wait)
            }
            Method::QueueUnbind(m) => {
                let queue = self.queue_name(channel, m.queue)?;
                let key = match m.queue.is_empty() && m.routing_key.is_empty() {
                    true => queue.as_str(),
                    false => m.routing_key,
                };
                self.session.unbind(m.exchange, &Destination::queue(&queue), key, &m.arguments)?;
                (Method::QueueUnbindOk(QueueUnbindOk {}), true)
            }
            Method::QueuePurge(m) => {
                let queue = self.queue_name(channel, m.queue)?;
                let message_count = self.session.purge_queue(&queue)?;
                (Method::QueuePurgeOk(QueuePurgeOk { message_count }), !m.no_wait)
            }
            Method::QueueDelete(m) => {
                let queue = self.queue_name(channel, m.queue)?;
                let message_count = self.session.delete_queue(&queue, m.if_unused, m.if_empty)?;
                (Method::QueueDeleteOk(QueueDeleteOk { message_count }), !m.no_wait)
            }
            Method::ExchangeDeclare(m) => {
                let options = ExchangeOptions {
                    passive: m.passive,
                    durable: m.durable,
                    auto_delete: m.auto_delete,
                    internal: m.internal,
                    arguments: m.arguments.clone(),
                };
                session.declare_exchange(m.exchange, m.kind, &options)?;
                (Method::ExchangeDeclareOk(ExchangeDeclareOk {}), !m.no_wait)
            }
            Method::ExchangeDelete(m) => {
                session.delete_exchange(m.exchange, m.if_unused)?;
                (Method::ExchangeDeleteOk(ExchangeDeleteOk {}), !m.no_wait)
            }
            Method::ExchangeBind(m) => {
                let to = Destination::exchange(m.destination);
                session.bind(m.source, &to, m.routing_key, &m.arguments)?;
                (Method::ExchangeBindOk(ExchangeBindOk {}), !m.no_wait)
            }
            Method::ExchangeUnbind(m) => {
                let to = Destination::exchange(m.destination);
                session.unbind(m.source, &to, m.routing_key, &m.arguments)?;
                (Method::ExchangeUnbindOk(ExchangeUnbindOk {}), !m.no_wait)
            }
            Method::BasicQos(m) => {
                if m.prefetch_size != 0 {
                    let text = format!("prefetch_size!=0 ({})", m.prefetch_size);
                    return Err(BrokerError::not_implemented(text));
                }
                session.set_prefetch(channel, m.prefetch_count, m.global)?;
                (Method::BasicQosOk(BasicQosOk {}), true)
            }
            Method::BasicConsume(m) => {
                let queue = self.queue_name(channel, m.queue)?;
                let options = ConsumeOptions {
                    tag: m.consumer_tag,
                    no_ack: m.no_ack,
                    exclusive: m.exclusive,
                    arguments: m.arguments.clone(),
                };
                // Deliveries begin when this is dropped: behind the answer.
                let consuming = self.session.consume(channel, &queue, &options)?;
                if !m.no_wait {
                    let ok = BasicConsumeOk { consumer_tag: consuming.tag() };
                    wire::send(&self.outbox, channel, &Method::BasicConsumeOk(ok));
                }
                return Ok(());
            }
            Method::BasicCancel(m) => {
                session.cancel(channel, m.consumer_tag)?;
                if !m.no_wait {
                    let ok = BasicCancelOk { consumer_tag: m.consumer_tag };
                    self.send(channel, &Method::BasicCancelOk(ok));
                }
                return Ok(());
            }
            // A client answers the server's own `basic.cancel` with this; nothing follows.
            Method::BasicCancelOk(_) => return Ok(()),
            Method::BasicGet(m) => {
                let queue = self.queue_name(channel, m.queue)?;
                if !self.session.get(channel, &queue, m.no_ack)? {
                    self.send(channel, &Method::BasicGetEmpty(BasicGetEmpty {}));
                }
                // The one reply that can be much larger than what asked for it.
                self.has_unread_replies = self.is_choked();
                return Ok(());
            }
            Method::BasicRecover(m) => {
                recover(session, channel, m.requeue)?;
                (Method::BasicRecoverOk(BasicRecoverOk {}), true)
            }
            Method::BasicRecoverAsync(m) => return recover(session, channel, m.requeue),
            Method::ConfirmSelect(m) => {
                session.select_confirms(channel)?;
                if !m.no_wait {
                    self.send(channel, &Method::ConfirmSelectOk(ConfirmSelectOk {}));
                }
                return Ok(());
            }
            Method::TxSelect(_) => {
                session.select_transactions(channel)?;
                self.send(channel, &Method::TxSelectOk(TxSelectOk {}));
                return Ok(());
            }
            Method::TxCommit(_) => {
                session.commit(channel)?;
                (Method::TxCommitOk(TxCommitOk {}), true)
            }
            Method::TxRollback(_) => {
                session.rollback(channel)?;
                (Method::TxRollbackOk(TxRollbackOk {}), true)
            }
            Method::AccessRequest(_) => {
                let ok = amqp::AccessRequestOk { ticket: 1 };
                (Method::AccessRequestOk(ok), true)
            }
            other => {
                let text = format!("unexpected method '{}' from a client", other.name());
                return Err(BrokerError::command_invalid(text));
            }
        };
        if wanted {
            self.reply(channel, &reply);
        } else {
            self.session.barrier();
        }
        Ok(())
    }

    fn declare_queue(
        &mut self,
        channel: u16,
        declare: &amqp::QueueDeclare<'_>,
    ) -> Result<(), BrokerError> {
        let options = QueueOptions {
            passive: declare.passive,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.clone(),
        };
        let name = match declare.passive {
            true => self.queue_name(channel, declare.queue)?,
            false => declare.queue.replace(['\r', '\n'], ""),
        };
        let declared = self.session.declare_queue(&name, &options)?;
        if !declare.no_wait {
            self.reply(
                channel,
                &Method::QueueDeclareOk(QueueDeclareOk {
                    queue: &declared.name,
                    message_count: declared.message_count,
                    consumer_count: declared.consumer_count,
                }),
            );
        } else {
            self.session.barrier();
        }
        self.last_queues.insert(channel, declared.name);
        Ok(())
    }

    /// The name meant by a method: empty is the queue last declared on the channel.
    fn queue_name(&self, channel: u16, name: &str) -> Result<String, BrokerError> {
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
        let last = self.last_queues.get(&channel).cloned();
        last.ok_or_else(|| BrokerError::not_found("no previously declared queue"))
    }
}

fn recover(session: &mut node::Session, channel: u16, requeue: bool) -> Result<(), BrokerError> {
    if !requeue {
        return Err(BrokerError::not_implemented("requeue=false"));
    }
    session.recover(channel)
}
