//! Bytes of frames, arguments and contents; has nothing to do with sockets.

use super::{BODY, HEADER, METHOD};

/// The octet every frame ends with.
const FRAME_END: u8 = 0xCE;

/// One frame as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame type.
    pub kind: u8,
    /// The channel number.
    pub channel: u16,
    /// What is between the frame header and the end octet.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Bytes of a frame.
    pub fn encode(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        bytes.push(kind);
        bytes.extend(channel.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(FRAME_END);
        bytes
    }

    /// Bytes of a method frame.
    pub fn method(channel: u16, class: u16, method: u16, arguments: &Args) -> Vec<u8> {
        let payload = Args::new().u16(class).u16(method).raw(&arguments.0);
        Self::encode(METHOD, channel, &payload.0)
    }

    /// Bytes of a content header without properties.
    pub fn header(channel: u16, body_bytes: u64) -> Vec<u8> {
        let payload = Args::new().u16(60).u16(0).u64(body_bytes).u16(0);
        Self::encode(HEADER, channel, &payload.0)
    }

    /// Whether this is the given method.
    pub fn is(&self, class: u16, method: u16) -> bool {
        let id = Args::new().u16(class).u16(method);
        self.kind == METHOD && self.payload.starts_with(&id.0)
    }

    /// A method's arguments.
    pub fn fields(&self) -> Fields<'_> {
        Fields(self.payload.get(4..).unwrap_or_default())
    }

    /// The reply code of a close method.
    pub fn reply_code(&self) -> u16 {
        self.fields().u16()
    }

    /// The reply text of a close method.
    pub fn reply_text(&self) -> String {
        let mut fields = self.fields();
        fields.u16();
        fields.short()
    }
}

/// Builds arguments, properties and tables field by field.
#[derive(Clone, Debug, Default)]
pub struct Args(Vec<u8>);

impl Args {
    /// Starts empty.
    pub fn new() -> Args {
        Args::default()
    }

    /// An octet, or a byte of bits.
    pub fn u8(mut self, value: u8) -> Args {
        self.0.push(value);
        self
    }

    /// A short.
    pub fn u16(mut self, value: u16) -> Args {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A long.
    pub fn u32(mut self, value: u32) -> Args {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A long long.
    pub fn u64(mut self, value: u64) -> Args {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A short string.
    pub fn short(mut self, value: &str) -> Args {
        assert!(value.len() < 256, "too long for a short string");
        self.0.push(value.len() as u8);
        self.0.extend(value.bytes());
        self
    }

    /// A long string.
    pub fn long(self, value: &[u8]) -> Args {
        self.u32(value.len() as u32).raw(value)
    }

    /// A table whose content is `entries`.
    pub fn table(self, entries: &Args) -> Args {
        self.long(&entries.0)
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Args {
        self.0.extend(bytes);
        self
    }

    /// The bytes built.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads arguments field by field; past the end everything is zero or empty.
pub struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
        self.0 = tail;
        *head
    }

    /// An octet, or a byte of bits.
    pub fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.bytes())
    }

    /// A short.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    /// A long.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes())
    }

    /// A long long.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }

    /// A short string.
    pub fn short(&mut self) -> String {
        let count = usize::from(self.u8()).min(self.0.len());
        let (text, rest) = self.0.split_at(count);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Takes in bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete frame; `None` if there is none yet.
    pub fn cut(&mut self) -> Option<Frame> {
        let bytes = &self.bytes[self.taken..];
        let (head, _) = bytes.split_first_chunk::<7>()?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let payload = bytes.get(7..7 + length)?.to_vec();
        let end = *bytes.get(7 + length)?;
        assert_eq!(end, FRAME_END, "the broker sent a malformed frame: {bytes:?}");
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let frame = Frame { kind: head[0], channel, payload };
        self.taken += length + 8;
        Some(frame)
    }

    /// The bytes that have not been cut into frames.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.split_off(self.taken)
    }
}

/// Bytes of a whole persistent publish: method, header and one body frame.
pub fn publish(channel: u16, exchange: &str, key: &str, body: &[u8]) -> Vec<u8> {
    // Only the delivery mode: 2.
    publish_with(channel, exchange, key, body, &Args::new().u16(0x1000).u8(2))
}

/// As [`publish`], with encoded properties: flags and fields.
pub fn publish_with(
    channel: u16,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: &Args,
) -> Vec<u8> {
    let arguments = Args::new().u16(0).short(exchange).short(key).u8(0);
    let mut bytes = Frame::method(channel, 60, 40, &arguments);
    let header = Args::new().u16(60).u16(0).u64(body.len() as u64).raw(properties.bytes());
    bytes.extend(Frame::encode(HEADER, channel, header.bytes()));
    if !body.is_empty() {
        bytes.extend(Frame::encode(BODY, channel, body));
    }
    bytes
}
