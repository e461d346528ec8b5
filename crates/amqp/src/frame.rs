//! Frames (AMQP 0-9-1, section 4.2.3): type, channel, size, payload, end octet.
//!
//! Splits input into frames and wraps output in them. Whether a frame may come now, and on which
//! channel, is for the connection to judge.

use crate::wire::{Reader, Writer, clip};
use crate::{BasicDeliver, CLASS_BASIC, DecodeError, Method};

/// What a client sends first.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// Bytes of a frame beyond its payload: 7 before it and the end octet.
pub const FRAME_OVERHEAD: usize = 8;
/// The smallest `frame_max` a peer may negotiate.
pub const FRAME_MIN_SIZE: u32 = 4096;
/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;

const FRAME_HEADER: usize = 7;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A method: see [`Method::decode`].
    Method,
    /// A content header: see [`decode_content_header`].
    Header,
    /// A piece of a message body.
    Body,
    /// A heartbeat; its payload is empty.
    Heartbeat,
}

/// One frame, its payload borrowed from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type.
    pub kind: FrameKind,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What is between the frame header and the end octet.
    pub payload: &'a [u8],
}

/// Decodes the frame at the front of `input`. Returns the frame and the number of bytes it took, or
/// `None` while it is incomplete.
///
/// `frame_max` is the negotiated size of a whole frame, 0 for no limit. Like RabbitMQ, this lets a
/// payload be as long as `frame_max` itself, since clients disagree on whether the overhead counts.
/// A bad type or size is reported as soon as it is seen, without waiting for the payload.
#[inline]
pub fn decode_frame(
    input: &[u8],
    frame_max: u32,
) -> Result<Option<(Frame<'_>, usize)>, DecodeError> {
    let Some((header, rest)) = input.split_first_chunk::<FRAME_HEADER>() else {
        if let Some(&octet) = input.first() {
            frame_kind(octet)?;
        }
        return Ok(None);
    };
    let [octet, c0, c1, s0, s1, s2, s3] = *header;
    let kind = frame_kind(octet)?;
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if frame_max != 0 && size > frame_max {
        return Err(DecodeError::FrameTooLarge {
            size,
            max: frame_max.saturating_sub(FRAME_OVERHEAD as u32),
        });
    }
    let Some((payload, rest)) = rest.split_at_checked(size as usize) else {
        return Ok(None);
    };
    match rest.first() {
        None => return Ok(None),
        Some(&FRAME_END) => {}
        Some(&octet) => return Err(DecodeError::NoFrameEnd(octet)),
    }
    if kind == FrameKind::Heartbeat && !payload.is_empty() {
        return Err(DecodeError::HeartbeatNotEmpty);
    }
    let channel = u16::from_be_bytes([c0, c1]);
    Ok(Some((Frame { kind, channel, payload }, FRAME_OVERHEAD + payload.len())))
}

#[inline]
fn frame_kind(octet: u8) -> Result<FrameKind, DecodeError> {
    match octet {
        METHOD => Ok(FrameKind::Method),
        HEADER => Ok(FrameKind::Header),
        BODY => Ok(FrameKind::Body),
        HEARTBEAT => Ok(FrameKind::Heartbeat),
        other => Err(DecodeError::UnknownFrameType(other)),
    }
}

/// The payload of a header frame, properties undecoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method before it; only [`CLASS_BASIC`] has content.
    pub class_id: u16,
    /// Bytes of the body that follows, over all its frames.
    pub body_size: u64,
    /// Property flags and fields: see [`Properties::decode`](crate::Properties::decode).
    pub properties: &'a [u8],
}

/// Decodes the payload of a header frame.
#[inline]
pub fn decode_content_header(payload: &[u8]) -> Result<ContentHeader<'_>, DecodeError> {
    let mut reader = Reader::new(payload);
    let class_id = reader.short()?;
    let weight = reader.short()?;
    let body_size = reader.longlong()?;
    if weight != 0 {
        return Err(DecodeError::BadWeight(weight));
    }
    Ok(ContentHeader { class_id, body_size, properties: reader.rest() })
}

#[inline]
fn write_frame_header(out: &mut Vec<u8>, kind: u8, channel: u16, size: usize) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (size as u32).to_be_bytes();
    out.extend_from_slice(&[kind, c0, c1, s0, s1, s2, s3]);
}

/// Appends a method frame.
#[inline]
pub fn write_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let start = out.len();
    write_frame_header(out, METHOD, channel, 0);
    method.encode(out);
    let size = (out.len() - start - FRAME_HEADER) as u32;
    out[start + 3..start + FRAME_HEADER].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends a header frame. `properties` are raw bytes: flags and fields.
#[inline]
pub fn write_content_header(out: &mut Vec<u8>, channel: u16, body_size: u64, properties: &[u8]) {
    write_frame_header(out, HEADER, channel, 12 + properties.len());
    let mut fixed = [0; 12];
    fixed[..2].copy_from_slice(&CLASS_BASIC.to_be_bytes());
    fixed[4..].copy_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Appends a message body, cut into frames of at most `frame_max` bytes (0: no limit). An empty
/// body has no frame.
#[inline]
pub fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    for piece in body.chunks(piece_size(frame_max)) {
        write_frame_header(out, BODY, channel, piece.len());
        out.extend_from_slice(piece);
        out.push(FRAME_END);
    }
}

#[inline]
fn piece_size(frame_max: u32) -> usize {
    let frame_max = if frame_max == 0 { u32::MAX } else { frame_max.max(FRAME_MIN_SIZE) };
    frame_max as usize - FRAME_OVERHEAD
}

/// Appends a heartbeat frame.
#[inline]
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// One message on its way to a consumer, all borrowed.
#[derive(Debug, Clone)]
pub struct Delivery<'a> {
    /// To whom, and where it comes from.
    pub method: BasicDeliver<'a>,
    /// Encoded properties: flags and values.
    pub properties: &'a [u8],
    /// The whole body.
    pub body: &'a [u8],
}

/// Appends all frames of one delivery: `basic.deliver`, content header, and the body in frames of
/// at most `frame_max` bytes (0: no limit).
#[inline]
pub fn write_deliver(out: &mut Vec<u8>, channel: u16, delivery: &Delivery<'_>, frame_max: u32) {
    let Delivery { method, properties, body } = delivery;
    let strings = (clip(method.consumer_tag), clip(method.exchange), method.routing_key);
    let method_size = 4 + 3 + 9 + strings.0.len() + strings.1.len() + strings.2.len();
    let body_frames = body.len() / piece_size(frame_max) + 1;
    out.reserve(
        method_size + 12 + properties.len() + body.len() + (2 + body_frames) * FRAME_OVERHEAD,
    );
    write_frame_header(out, METHOD, channel, method_size);
    let mut writer = Writer::new(out);
    writer.bytes(&[0, 60, 0, 60]);
    writer.shortstr(strings.0);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = method.delivery_tag.to_be_bytes();
    writer.bytes(&[t0, t1, t2, t3, t4, t5, t6, t7, u8::from(method.redelivered)]);
    writer.shortstr(strings.1);
    writer.shortbytes(strings.2);
    writer.octet(FRAME_END);
    write_content_header(out, channel, body.len() as u64, properties);
    write_body(out, channel, body, frame_max);
}
