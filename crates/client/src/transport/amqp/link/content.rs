//! Content: puts messages together from their frames, for deliveries and returns.

use std::collections::HashMap;

use amqp::{BasicDeliver, BasicReturn, FrameKind, Properties};
use bytes::{Bytes, BytesMut};

use super::consuming::{Delivery, DeliveryTag};
use super::{CONSUMING, Down, Link, Phase, Token};

/// Bodies that are announced as larger than this are not believed before they are there.
const RESERVED_BYTES_MAX: u64 = 1 << 20;

/// Messages whose frames are not all there, by channel.
#[derive(Default)]
pub(super) struct Contents {
    begun: HashMap<u16, Content>,
}

struct Content {
    of: Of,
    properties: Bytes,
    /// `None` until the header is there.
    body_size: Option<u64>,
    body: BytesMut,
}

enum Of {
    Delivery { tag: u64, is_redelivered: bool },
    Return { code: u16 },
}

impl Contents {
    pub(super) fn clear(&mut self) {
        self.begun.clear();
    }

    pub(super) fn forget(&mut self, channel: u16) {
        self.begun.remove(&channel);
    }

    pub(super) fn begin_delivery(&mut self, channel: u16, deliver: &BasicDeliver<'_>) {
        let (tag, is_redelivered) = (deliver.delivery_tag, deliver.redelivered);
        self.begin(channel, Of::Delivery { tag, is_redelivered });
    }

    pub(super) fn begin_return(&mut self, channel: u16, returned: &BasicReturn<'_>) {
        self.begin(channel, Of::Return { code: returned.reply_code });
    }

    fn begin(&mut self, channel: u16, of: Of) {
        let (properties, body) = (Bytes::new(), BytesMut::new());
        self.begun.insert(channel, Content { of, properties, body_size: None, body });
    }
}

impl<P: Token, C: Token> Link<P, C> {
    pub(super) fn content(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        let Some(content) = self.contents.begun.get_mut(&channel) else {
            // What was under way on a channel that has been closed since.
            if !matches!(self.phase, Phase::Open | Phase::Closing) {
                self.unexpected("content");
            }
            return;
        };
        match (kind, content.body_size) {
            (FrameKind::Header, None) => match amqp::decode_content_header(payload) {
                Ok(header) => {
                    content.body_size = Some(header.body_size);
                    content.properties = Bytes::copy_from_slice(header.properties);
                    content.body.reserve(header.body_size.min(RESERVED_BYTES_MAX) as usize);
                }
                Err(error) => return self.fail(Down::NotAmqp(error.to_string())),
            },
            (FrameKind::Body, Some(_)) => content.body.extend_from_slice(payload),
            _ => return self.unexpected("content"),
        }
        if content.body_size.is_some_and(|size| content.body.len() as u64 >= size)
            && let Some(content) = self.contents.begun.remove(&channel)
        {
            self.complete(channel, content);
        }
    }

    fn complete(&mut self, channel: u16, content: Content) {
        let Content { of, properties, body, .. } = content;
        match of {
            Of::Delivery { tag, is_redelivered } if channel >= CONSUMING => {
                // Nobody's, if its consumer was released meanwhile.
                let Some((consumer, start)) = self.consumers.on(channel) else { return };
                let tag = DeliveryTag { epoch: self.epoch, channel, consumer, start, tag };
                let body = body.freeze();
                self.delivered(Delivery { tag, is_redelivered, properties, body });
            }
            Of::Delivery { .. } => self.unexpected("basic.deliver"),
            Of::Return { code } => {
                let message_id = Properties::decode(&properties).ok().and_then(|it| it.message_id);
                if let Some(message_id) = message_id {
                    self.returned(message_id, code);
                }
            }
        }
    }
}
