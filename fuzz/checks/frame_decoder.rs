//! Whatever a peer sends: cut it into frames, decode each; what decodes must encode to the same
//! meaning.

use amqp::{FrameKind, Method, Properties, decode_content_header, decode_frame};

/// The first two bytes choose `frame_max`, the rest is the peer's input.
pub(crate) fn check(data: &[u8]) {
    let Some((max, mut input)) = data.split_first_chunk::<2>() else { return };
    let frame_max = u32::from(u16::from_be_bytes(*max));
    while let Ok(Some((frame, taken))) = decode_frame(input, frame_max) {
        assert_eq!(taken, frame.payload.len() + amqp::FRAME_OVERHEAD);
        match frame.kind {
            FrameKind::Method => method(frame.payload),
            FrameKind::Header => header(frame.payload),
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
        input = &input[taken..];
    }
}

fn method(payload: &[u8]) {
    let Ok(method) = Method::decode(payload) else { return };
    let mut encoded = Vec::new();
    method.encode(&mut encoded);
    let mut again = Vec::new();
    // Bytes rather than values, since a NaN is not equal to itself.
    match Method::decode(&encoded) {
        Ok(decoded) => decoded.encode(&mut again),
        Err(error) => panic!("{} does not decode again: {error}", method.name()),
    }
    assert_eq!(encoded, again);
}

fn header(payload: &[u8]) {
    let Ok(header) = decode_content_header(payload) else { return };
    let Ok(properties) = Properties::decode(header.properties) else { return };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    assert_eq!(encoded, header.properties);
}
