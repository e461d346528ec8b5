//! Incoming messages: complete in the read buffer, as most are, or in pieces (module `content`).

use amqp::{
    BasicPublish, ByteSlice, ContentHeader, FrameKind, decode_content_header, decode_frame,
};
use node::{BrokerError, Publish};

use crate::connection::Connection;
use crate::content::{Content, unexpected};
use crate::fault::Fault;
use crate::stream::Stream;

/// How a message was found in the read buffer.
enum InBuffer {
    /// Complete and published; it took this many bytes after the method.
    Whole(usize),
    /// Its end is still to come.
    Incomplete,
    /// In pieces, or mixed with other frames.
    InPieces,
}

impl<S: Stream> Connection<S> {
    pub(crate) fn publish(
        &mut self,
        channel: u16,
        publish: &BasicPublish<'_>,
        rest: &[u8],
    ) -> Result<Option<usize>, Fault> {
        if publish.immediate {
            return Err(Fault::about_publish(BrokerError::not_implemented("immediate=true")));
        }
        if !self.session.has_channel(channel) {
            return Err(Fault::about_publish(BrokerError::channel_error(
                "expected 'channel.open'",
            )));
        }
        let exchange = exchange_name(publish).map_err(Fault::about_publish)?;
        match self.publish_in_buffer(channel, exchange, publish, rest)? {
            InBuffer::Whole(taken) => Ok(Some(taken)),
            InBuffer::Incomplete => Ok(None),
            InBuffer::InPieces => {
                // Checked before its body takes memory.
                self.session.check_publish(exchange).map_err(Fault::about_publish)?;
                let content = Content::new(exchange, publish);
                let bytes = content.bytes();
                self.contents.insert(channel, content);
                self.session.take_unfinished(bytes).map_err(Fault::about_publish)?;
                Ok(Some(0))
            }
        }
    }

    /// Publishes straight from the read buffer when header and body follow at once.
    fn publish_in_buffer(
        &mut self,
        channel: u16,
        exchange: &str,
        publish: &BasicPublish<'_>,
        rest: &[u8],
    ) -> Result<InBuffer, Fault> {
        let (frame, header_bytes) = match decode_frame(rest, self.frame_max) {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Ok(InBuffer::Incomplete),
            Err(_) => return Ok(InBuffer::InPieces),
        };
        if frame.kind != FrameKind::Header || frame.channel != channel {
            return Ok(InBuffer::InPieces);
        }
        let header = decode_content_header(frame.payload)
            .map_err(|error| Fault::about_publish(BrokerError::from(error)))?;
        check_header(&header, self.session.message_bytes_max())?;
        let (mut body, mut body_bytes) = (&[][..], 0);
        if header.body_size > 0 {
            if header.body_size > u64::from(self.frame_max) {
                return Ok(InBuffer::InPieces);
            }
            let (frame, taken) = match decode_frame(&rest[header_bytes..], self.frame_max) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return Ok(InBuffer::Incomplete),
                Err(_) => return Ok(InBuffer::InPieces),
            };
            let is_whole = frame.payload.len() as u64 == header.body_size;
            if frame.kind != FrameKind::Body || frame.channel != channel || !is_whole {
                return Ok(InBuffer::InPieces);
            }
            (body, body_bytes) = (frame.payload, taken);
        }
        let message = Publish {
            exchange,
            routing_key: publish.routing_key,
            mandatory: publish.mandatory,
            properties: header.properties,
            body,
        };
        let taken = header_bytes + body_bytes;
        match self.session.publish(channel, &message) {
            Ok(()) => Ok(InBuffer::Whole(taken)),
            Err(error) => {
                self.fault_in_turn(channel, &Fault::about_publish(error));
                Ok(InBuffer::Whole(taken))
            }
        }
    }

    pub(crate) fn take_header(
        &mut self,
        channel: u16,
        header: &ContentHeader<'_>,
    ) -> Result<(), BrokerError> {
        check_header(header, self.session.message_bytes_max()).map_err(|f| f.error)?;
        let Some(content) = self.contents.get_mut(&channel) else {
            return Err(unexpected("method", "header"));
        };
        content.header(header)?;
        self.session.take_unfinished(header.properties.len() as u64)?;
        self.publish_if_whole(channel)
    }

    pub(crate) fn take_body(&mut self, channel: u16, payload: &[u8]) -> Result<(), BrokerError> {
        let Some(content) = self.contents.get_mut(&channel) else {
            return Err(unexpected("method", "body"));
        };
        content.body(payload)?;
        self.session.take_unfinished(payload.len() as u64)?;
        self.publish_if_whole(channel)
    }

    fn publish_if_whole(&mut self, channel: u16) -> Result<(), BrokerError> {
        let Some(content) = self.contents.remove(&channel) else { return Ok(()) };
        match content.whole() {
            Some(publish) => {
                self.session.give_back_unfinished(content.bytes());
                self.session.publish(channel, &publish)
            }
            None => {
                self.contents.insert(channel, content);
                Ok(())
            }
        }
    }
}

/// No exchange has a name that is not UTF-8.
fn exchange_name<'a>(publish: &BasicPublish<'a>) -> Result<&'a str, BrokerError> {
    let unknown = |_| BrokerError::not_found(format!("no exchange '{}'", publish.exchange));
    publish.exchange.to_str().map_err(unknown)
}

fn check_header(header: &ContentHeader<'_>, body_bytes_max: u64) -> Result<(), Fault> {
    if header.class_id != amqp::CLASS_BASIC {
        let text = format!(
            "expected content header for class 60, got one for class {} instead",
            header.class_id
        );
        return Err(Fault::about_publish(BrokerError::unexpected_frame(text)));
    }
    if header.body_size > body_bytes_max {
        let size = header.body_size;
        let text =
            format!("message size {size} is larger than configured max size {body_bytes_max}");
        return Err(Fault::about_publish(BrokerError::precondition_failed(text)));
    }
    Ok(())
}
