//! Reply codes of `connection.close`, `channel.close` and `basic.return` (AMQP 0-9-1, section 1.2).

use std::fmt;

/// A reply code, with its name and level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// Orderly close.
    Success = 200,
    /// The message is larger than the peer accepts.
    ContentTooLarge = 311,
    /// A mandatory message reached no queue.
    NoRoute = 312,
    /// An immediate message found no consumer.
    NoConsumers = 313,
    /// An operator closed the connection.
    ConnectionForced = 320,
    /// Unknown virtual host.
    InvalidPath = 402,
    /// No permission.
    AccessRefused = 403,
    /// No such exchange, queue or binding.
    NotFound = 404,
    /// Another connection holds the queue.
    ResourceLocked = 405,
    /// A condition of the request does not hold, such as that of equivalent arguments.
    PreconditionFailed = 406,
    /// A frame that cannot be decoded.
    FrameError = 501,
    /// A field with an illegal value.
    SyntaxError = 502,
    /// A method that is not valid in this state.
    CommandInvalid = 503,
    /// A method on a channel that is not open.
    ChannelError = 504,
    /// A frame that does not fit the sequence method, header, body.
    UnexpectedFrame = 505,
    /// Too few resources.
    ResourceError = 506,
    /// Forbidden by policy or configuration.
    NotAllowed = 530,
    /// Not implemented.
    NotImplemented = 540,
    /// The server failed.
    InternalError = 541,
}

impl ReplyCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The name RabbitMQ puts in front of the reply text, such as `NOT_FOUND`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::ContentTooLarge => "CONTENT_TOO_LARGE",
            Self::NoRoute => "NO_ROUTE",
            Self::NoConsumers => "NO_CONSUMERS",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::InvalidPath => "INVALID_PATH",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Whether the error closes the connection (a "hard error") rather than the channel.
    pub fn closes_connection(self) -> bool {
        matches!(self, Self::ConnectionForced | Self::InvalidPath) || self.code() >= 501
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}
