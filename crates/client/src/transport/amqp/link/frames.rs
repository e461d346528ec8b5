//! Which method goes where.

use amqp::{ChannelClose, Method};

use super::{CALLS, CONSUMING, Down, Event, Link, PUBLISHING, Phase, Refusal, Token};

impl<P: Token, C: Token> Link<P, C> {
    pub(super) fn method(&mut self, channel: u16, method: Method<'_>) {
        match channel {
            0 => self.connection_method(method),
            _ if self.phase == Phase::Open => self.channel_method(channel, method),
            // On its way when we said good-bye.
            _ if self.phase == Phase::Closing => {}
            _ => self.unexpected(method.name()),
        }
    }

    fn connection_method(&mut self, method: Method<'_>) {
        match method {
            Method::ConnectionStart(start) => self.greeted(&start),
            Method::ConnectionTune(tune) => self.tuned(&tune),
            Method::ConnectionOpenOk(_) => self.entered(self.heard_at),
            Method::ConnectionClose(close) => self.closed(&close),
            Method::ConnectionCloseOk(_) => self.fail(Down::Socket("closed".to_owned())),
            Method::ConnectionBlocked(blocked) => {
                self.events.push(Event::Blocked(Some(blocked.reason.to_owned())));
            }
            Method::ConnectionUnblocked(_) => self.events.push(Event::Blocked(None)),
            Method::ConnectionSecure(_) => {
                self.fail(Down::Login("it wants more than a password".to_owned()));
            }
            other => self.unexpected(other.name()),
        }
    }

    fn channel_method(&mut self, channel: u16, method: Method<'_>) {
        match method {
            Method::ChannelClose(close) => self.channel_closed(channel, &close),
            Method::ChannelCloseOk(_) => self.channel_is_free(channel),
            Method::BasicConsumeOk(_) => self.consumer_started(channel),
            Method::ChannelOpenOk(_) | Method::ConfirmSelectOk(_) | Method::BasicQosOk(_) => {}
            Method::BasicAck(ack) if channel == PUBLISHING => {
                self.confirmed(ack.delivery_tag, ack.multiple, true);
            }
            Method::BasicNack(nack) if channel == PUBLISHING => {
                self.confirmed(nack.delivery_tag, nack.multiple, false);
            }
            // Reports of consumers may be refused; the settlement behind them counts.
            Method::BasicAck(_) | Method::BasicNack(_) => {}
            Method::BasicReturn(returned) => self.contents.begin_return(channel, &returned),
            Method::BasicDeliver(deliver) => self.contents.begin_delivery(channel, &deliver),
            Method::BasicCancel(cancel) => {
                if !cancel.no_wait {
                    let consumer_tag = cancel.consumer_tag;
                    self.send(channel, amqp::BasicCancelOk { consumer_tag });
                }
                let gone = Refusal { code: 404, text: "the queue has been deleted".to_owned() };
                self.consumer_lost(channel, gone, false);
            }
            Method::BasicCancelOk(_) => self.consumer_cancelled(channel),
            other if channel == CALLS => self.answered(&other),
            other => self.unexpected(other.name()),
        }
    }

    fn channel_closed(&mut self, channel: u16, close: &ChannelClose<'_>) {
        self.send(channel, amqp::ChannelCloseOk {});
        self.contents.forget(channel);
        let refusal = Refusal { code: close.reply_code, text: close.reply_text.to_owned() };
        match channel {
            PUBLISHING => self.publishing_failed(&refusal),
            CALLS => {
                self.send(CALLS, amqp::ChannelOpen {});
                self.call_failed(refusal);
            }
            CONSUMING.. => self.consumer_lost(channel, refusal, true),
            0 => {}
        }
    }
}
