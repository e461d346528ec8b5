//! What can be wrong with bytes from a peer, and the reply code for each fault.

use crate::ReplyCode;

/// Malformed input. Every variant is the sender's fault and costs it the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The octet after the payload is not [`FRAME_END`](crate::FRAME_END).
    #[error("frame ends in octet {0}, not 206")]
    NoFrameEnd(u8),
    /// The frame type is none of method (1), header (2), body (3) and heartbeat (8).
    #[error("unknown frame type {0}")]
    UnknownFrameType(u8),
    /// The payload is longer than the negotiated `frame_max` allows.
    #[error("frame payload of {size} bytes is larger than the limit of {max} bytes")]
    FrameTooLarge {
        /// Payload bytes the frame announces.
        size: u32,
        /// Payload bytes allowed.
        max: u32,
    },
    /// A heartbeat frame with a payload.
    #[error("heartbeat frame with a payload")]
    HeartbeatNotEmpty,
    /// No such class or method.
    #[error("unknown method {class}.{method}")]
    UnknownMethod {
        /// Class id.
        class: u16,
        /// Method id.
        method: u16,
    },
    /// The payload ends inside the named thing.
    #[error("input ends inside {0}")]
    Truncated(&'static str),
    /// Bytes are left after the last field.
    #[error("bytes left after the last field")]
    TrailingBytes,
    /// A name in a method without content is not UTF-8.
    #[error("short string is not UTF-8")]
    NotUtf8,
    /// A table or array holds a value of unknown type.
    #[error("unknown field type {0}")]
    BadFieldType(u8),
    /// Tables and arrays are nested deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("field tables are nested too deep")]
    TooDeep,
    /// Property flags with the continuation or the unused bit set.
    #[error("property flags {0:#06x} are not those of class basic")]
    BadFlags(u16),
    /// The weight of a content header is not zero.
    #[error("content header with weight {0}")]
    BadWeight(u16),
}

impl DecodeError {
    /// The reply code of the `connection.close` that answers this fault.
    ///
    /// As in RabbitMQ, a frame or method that cannot be split into fields, and text that is not
    /// UTF-8, are frame errors. Where RabbitMQ drops the connection without a word (bad field
    /// tables, unknown methods), the code is the one in the specification.
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::NoFrameEnd(_)
            | Self::UnknownFrameType(_)
            | Self::FrameTooLarge { .. }
            | Self::HeartbeatNotEmpty
            | Self::Truncated(_)
            | Self::TrailingBytes
            | Self::NotUtf8 => ReplyCode::FrameError,
            Self::BadFieldType(_) | Self::TooDeep | Self::BadFlags(_) => ReplyCode::SyntaxError,
            Self::BadWeight(_) => ReplyCode::UnexpectedFrame,
            Self::UnknownMethod { .. } => ReplyCode::NotImplemented,
        }
    }
}
