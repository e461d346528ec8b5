//! What each frame does: methods go to the session, content is put together (module `publishing`),
//! errors act at the right level (module `closing`).

use amqp::{
    ChannelCloseOk, ChannelFlowOk, ChannelOpenOk, ConnectionCloseOk, ConnectionUpdateSecretOk,
    Frame, FrameKind, Method, decode_content_header, decode_frame,
};
use node::{BrokerError, Settlement};

use crate::connection::{Connection, Phase};
use crate::content::unexpected;
use crate::fault::Fault;
use crate::stream::Stream;

impl<S: Stream> Connection<S> {
    /// Takes in bytes and returns how many. Stops at an incomplete frame, or where what follows
    /// must wait.
    pub(crate) fn take_in(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        while self.may_take_in() {
            let (frame, taken) = match decode_frame(&input[at..], self.frame_max) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => break,
                Err(error) => {
                    let fault = BrokerError::from(error);
                    self.fault_in_turn(0, &fault.into());
                    return input.len();
                }
            };
            match self.take_frame(&frame, &input[at + taken..]) {
                Ok(Some(more)) => at += taken + more,
                Ok(None) => break,
                Err(fault) => {
                    at += taken;
                    self.fault_in_turn(frame.channel, &fault);
                }
            }
        }
        self.flush();
        // The rest may hold complete frames, for later.
        self.has_frames = at < input.len() && !self.may_take_in();
        if self.phase == Phase::Closed { input.len() } else { at }
    }

    /// Takes one frame. Returns how many further bytes of `rest` it used, or `None` if it must come
    /// again with more.
    fn take_frame(&mut self, frame: &Frame<'_>, rest: &[u8]) -> Result<Option<usize>, Fault> {
        let channel = frame.channel;
        if frame.kind == FrameKind::Heartbeat {
            return match channel {
                0 => Ok(Some(0)),
                _ => Err(BrokerError::unexpected_frame("heartbeat on a channel").into()),
            };
        }
        if self.phase != Phase::Open || self.closing_channels.contains(&channel) {
            self.take_while_closing(frame);
            return Ok(Some(0));
        }
        if channel == 0 && frame.kind != FrameKind::Method {
            return Err(BrokerError::unexpected_frame("content on channel 0").into());
        }
        if channel != 0 && frame.kind != FrameKind::Method && !self.session.has_channel(channel) {
            return Err(BrokerError::channel_error("expected 'channel.open'").into());
        }
        match frame.kind {
            FrameKind::Header => {
                let header = decode_content_header(frame.payload).map_err(BrokerError::from)?;
                self.take_header(channel, &header).map_err(Fault::about_publish)?;
            }
            FrameKind::Body => {
                self.take_body(channel, frame.payload).map_err(Fault::about_publish)?
            }
            _ => return self.take_method(channel, frame.payload, rest),
        }
        Ok(Some(0))
    }

    fn take_method(
        &mut self,
        channel: u16,
        payload: &[u8],
        rest: &[u8],
    ) -> Result<Option<usize>, Fault> {
        let method = Method::decode(payload).map_err(BrokerError::from)?;
        let ids = (method.class_id(), method.method_id());
        if self.contents.contains_key(&channel) {
            return Err(Fault { error: unexpected("header", "method"), ids });
        }
        let about = |error| Fault { error, ids };
        match &method {
            Method::BasicPublish(publish) => return self.publish(channel, publish, rest),
            Method::BasicAck(ack) => {
                let settled =
                    self.session.settle(channel, ack.delivery_tag, ack.multiple, Settlement::Ack);
                settled.map_err(about)?;
            }
            Method::BasicNack(nack) => {
                let settlement = refusal(nack.requeue);
                let settled =
                    self.session.settle(channel, nack.delivery_tag, nack.multiple, settlement);
                settled.map_err(about)?;
            }
            Method::BasicReject(reject) => {
                let settlement = refusal(reject.requeue);
                let settled = self.session.settle(channel, reject.delivery_tag, false, settlement);
                settled.map_err(about)?;
            }
            method => {
                self.pacing.asked();
                // Whatever was gathered comes first.
                self.flush();
                if self.phase != Phase::Open || self.closing_channels.contains(&channel) {
                    // It crosses our close, just as if it had come later.
                    self.take_while_closing(&Frame { kind: FrameKind::Method, channel, payload });
                    return Ok(Some(0));
                }
                match channel {
                    0 => self.take_connection_method(method).map_err(about)?,
                    _ => self.take_channel_method(channel, method).map_err(about)?,
                }
            }
        }
        Ok(Some(0))
    }

    fn take_connection_method(&mut self, method: &Method<'_>) -> Result<(), BrokerError> {
        match method {
            Method::ConnectionClose(_) => self.leave(),
            Method::ConnectionUpdateSecret(_) => {
                // PLAIN and AMQPLAIN have no secret that expires; acknowledged and ignored, as in
                // RabbitMQ.
                self.reply(0, &Method::ConnectionUpdateSecretOk(ConnectionUpdateSecretOk {}));
            }
            other => {
                let text = format!("unexpected method '{}' on channel 0", other.name());
                return Err(BrokerError::channel_error(text));
            }
        }
        Ok(())
    }

    fn take_channel_method(
        &mut self,
        channel: u16,
        method: &Method<'_>,
    ) -> Result<(), BrokerError> {
        match method {
            Method::ChannelOpen(_) => {
                let (count, max) = (self.session.channel_count(), self.channel_max);
                if count >= usize::from(max) {
                    return Err(BrokerError::not_allowed(format!(
                        "number of channels opened ({count}) has reached the negotiated channel_max ({max})"
                    )));
                }
                self.session.open_channel(channel)?;
                self.reply(channel, &Method::ChannelOpenOk(ChannelOpenOk {}));
                return Ok(());
            }
            // Nobody asked for it: it crossed something else, and has no effect.
            Method::ChannelCloseOk(_) => {}
            _ if !self.session.has_channel(channel) => {
                return Err(BrokerError::channel_error("expected 'channel.open'"));
            }
            Method::ChannelClose(_) => {
                // All that was gathered has taken effect, or the channel would be closed already.
                self.session.close_channel(channel)?;
                self.drop_content(channel);
                self.last_queues.remove(&channel);
                self.reply(channel, &Method::ChannelCloseOk(ChannelCloseOk {}));
            }
            Method::ChannelFlow(flow) => {
                if !flow.active {
                    return Err(BrokerError::not_implemented("active=false"));
                }
                self.reply(channel, &Method::ChannelFlowOk(ChannelFlowOk { active: true }));
            }
            Method::ChannelFlowOk(_) => {}
            other => return self.take_session_method(channel, other),
        }
        Ok(())
    }

    /// While our close is on its way, only its answer or the peer's own close matters: the latter
    /// is answered, and ours still waits for its answer (AMQP 0-9-1, channel.close and
    /// connection.close).
    fn take_while_closing(&mut self, frame: &Frame<'_>) {
        if frame.kind != FrameKind::Method {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) if frame.channel == 0 => self.linger(),
            Ok(Method::ConnectionClose(_)) if frame.channel == 0 => {
                self.reply(0, &Method::ConnectionCloseOk(ConnectionCloseOk {}));
            }
            Ok(Method::ChannelCloseOk(_)) => {
                self.closing_channels.remove(&frame.channel);
            }
            Ok(Method::ChannelClose(_)) if self.phase == Phase::Open => {
                self.reply(frame.channel, &Method::ChannelCloseOk(ChannelCloseOk {}));
            }
            _ => {}
        }
    }
}

fn refusal(requeue: bool) -> Settlement {
    if requeue { Settlement::Requeue } else { Settlement::Reject }
}
