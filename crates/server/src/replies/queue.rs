//! The methods of class queue. An empty name stands for the queue last declared on the channel.

use amqp::{
    Method, QueueBind, QueueBindOk, QueueDeclare, QueueDeclareOk, QueueDelete, QueueDeleteOk,
    QueuePurge, QueuePurgeOk, QueueUnbind, QueueUnbindOk,
};
use node::{BrokerError, DeclareQueue, Destination};

use super::{Done, without_line_breaks};
use crate::connection::Connection;
use crate::stream::Stream;

impl<S: Stream> Connection<S> {
    pub(super) fn declare_queue(
        &mut self,
        channel: u16,
        declare: &QueueDeclare<'_>,
    ) -> Result<(), BrokerError> {
        let options = DeclareQueue {
            passive: declare.passive,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.clone(),
        };
        let name = without_line_breaks(declare.queue);
        let name = match declare.passive {
            true => self.queue_name(channel, &name)?,
            false => name.into_owned(),
        };
        let declared = self.session.declare_queue(&name, &options)?;
        let reply = QueueDeclareOk {
            queue: &declared.name,
            message_count: declared.message_count,
            consumer_count: declared.consumer_count,
        };
        self.reply_unless(declare.no_wait, channel, &Method::QueueDeclareOk(reply));
        self.last_queues.insert(channel, declared.name);
        Ok(())
    }

    pub(super) fn bind_queue(&mut self, channel: u16, bind: &QueueBind<'_>) -> Done {
        let queue = self.queue_name(channel, &without_line_breaks(bind.queue))?;
        let source = without_line_breaks(bind.exchange);
        let key = binding_key(bind.queue, bind.routing_key, &queue);
        self.session.bind(&source, &Destination::queue(&queue), key, &bind.arguments)?;
        Ok(Method::QueueBindOk(QueueBindOk {}))
    }

    pub(super) fn unbind_queue(&mut self, channel: u16, unbind: &QueueUnbind<'_>) -> Done {
        let queue = self.queue_name(channel, &without_line_breaks(unbind.queue))?;
        let source = without_line_breaks(unbind.exchange);
        let key = binding_key(unbind.queue, unbind.routing_key, &queue);
        let destination = Destination::queue(&queue);
        self.session.unbind(&source, &destination, key, &unbind.arguments)?;
        Ok(Method::QueueUnbindOk(QueueUnbindOk {}))
    }

    pub(super) fn purge_queue(&mut self, channel: u16, purge: &QueuePurge<'_>) -> Done {
        let queue = self.queue_name(channel, purge.queue)?;
        let message_count = self.session.purge_queue(&queue)?;
        Ok(Method::QueuePurgeOk(QueuePurgeOk { message_count }))
    }

    pub(super) fn delete_queue(
        &mut self,
        channel: u16,
        delete: &QueueDelete<'_>,
    ) -> Result<(), BrokerError> {
        let queue = self.queue_name(channel, &without_line_breaks(delete.queue))?;
        let deleted = self.session.delete_queue(&queue, delete.if_unused, delete.if_empty)?;
        let message_count = deleted.message_count;
        let ok = Method::QueueDeleteOk(QueueDeleteOk { message_count });
        match delete.no_wait {
            true => self.reply_unless(true, channel, &ok),
            false => self.reply_and_then(channel, &ok, Some(deleted)),
        }
        Ok(())
    }

    /// The queue that a method means: an empty name stands for the one last declared on the
    /// channel.
    pub(super) fn queue_name(&self, channel: u16, name: &str) -> Result<String, BrokerError> {
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
        let last = self.last_queues.get(&channel).cloned();
        last.ok_or_else(|| BrokerError::not_found("no previously declared queue"))
    }
}

/// If both are empty, the key is the name of the last declared queue (AMQP 0-9-1 rule).
fn binding_key<'a>(asked_queue: &str, asked_key: &'a str, queue: &'a str) -> &'a str {
    if asked_queue.is_empty() && asked_key.is_empty() { queue } else { asked_key }
}
