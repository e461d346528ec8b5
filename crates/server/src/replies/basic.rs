//! The methods of class basic that have a reply. Replies to methods that start or stop deliveries
//! go out at once, in their place among the deliveries.

use amqp::{
    BasicCancel, BasicCancelOk, BasicConsume, BasicConsumeOk, BasicGet, BasicGetEmpty, BasicQos,
    BasicQosOk, BasicRecoverOk, Method,
};
use node::{BrokerError, Consume, Session};

use super::Done;
use crate::connection::Connection;
use crate::stream::Stream;
use crate::wire;

pub(super) fn qos(session: &mut Session, channel: u16, qos: &BasicQos) -> Done {
    if qos.prefetch_size != 0 {
        let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
        return Err(BrokerError::not_implemented(text));
    }
    session.set_prefetch(channel, qos.prefetch_count, qos.global)?;
    Ok(Method::BasicQosOk(BasicQosOk {}))
}

pub(super) fn recover(session: &mut Session, channel: u16, requeue: bool) -> Done {
    if !requeue {
        return Err(BrokerError::not_implemented("requeue=false"));
    }
    session.recover(channel)?;
    Ok(Method::BasicRecoverOk(BasicRecoverOk {}))
}

impl<S: Stream> Connection<S> {
    pub(super) fn consume(
        &mut self,
        channel: u16,
        consume: &BasicConsume<'_>,
    ) -> Result<(), BrokerError> {
        let queue = self.queue_name(channel, consume.queue)?;
        let options = Consume {
            tag: consume.consumer_tag,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            arguments: consume.arguments.clone(),
        };
        // Deliveries begin when this is dropped: after the reply.
        let consuming = self.session.consume(channel, &queue, &options)?;
        if !consume.no_wait {
            let ok = BasicConsumeOk { consumer_tag: consuming.tag() };
            wire::send(&self.outbox, channel, &Method::BasicConsumeOk(ok));
        }
        Ok(())
    }

    pub(super) fn cancel(
        &mut self,
        channel: u16,
        cancel: &BasicCancel<'_>,
    ) -> Result<(), BrokerError> {
        self.session.cancel(channel, cancel.consumer_tag)?;
        if !cancel.no_wait {
            let ok = BasicCancelOk { consumer_tag: cancel.consumer_tag };
            self.send(channel, &Method::BasicCancelOk(ok));
        }
        Ok(())
    }

    pub(super) fn get(&mut self, channel: u16, get: &BasicGet<'_>) -> Result<(), BrokerError> {
        let queue = self.queue_name(channel, get.queue)?;
        if !self.session.get(channel, &queue, get.no_ack)? {
            self.send(channel, &Method::BasicGetEmpty(BasicGetEmpty {}));
        }
        // The only reply that can be much larger than the request.
        self.has_unread_replies = self.is_choked();
        Ok(())
    }
}
