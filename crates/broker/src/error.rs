//! The one error of the core, which knows its AMQP reply code.

use amqp::ReplyCode;

/// A command that was refused: AMQP's reply code, and a text that tells the user why.
///
/// Whether it closes the channel or the connection follows from the code
/// ([`ReplyCode::closes_connection`], AMQP 0-9-1 section 1.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct BrokerError {
    code: ReplyCode,
    text: String,
}

/// What cannot be decoded is the sender's fault.
impl From<amqp::DecodeError> for BrokerError {
    fn from(error: amqp::DecodeError) -> Self {
        Self { code: error.reply_code(), text: error.to_string() }
    }
}

/// A value that makes no sense is a failed precondition.
impl From<outcome::RequestError> for BrokerError {
    fn from(error: outcome::RequestError) -> Self {
        Self::precondition_failed(error.to_string())
    }
}

macro_rules! constructors {
    ($($name:ident => $code:ident, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub fn $name(text: impl Into<String>) -> Self {
                Self { code: ReplyCode::$code, text: text.into() }
            }
        )*
    };
}

impl BrokerError {
    constructors! {
        access_refused => AccessRefused, "403: no permission, or a reserved name.";
        not_found => NotFound, "404: no such queue, exchange or virtual host.";
        resource_locked => ResourceLocked, "405: an exclusive queue of another connection.";
        precondition_failed => PreconditionFailed, "406: arguments differ, in use, unknown tag.";
        command_invalid => CommandInvalid, "503: the command makes no sense here.";
        resource_error => ResourceError, "506: a limit of the server is reached.";
        not_allowed => NotAllowed, "530: forbidden whatever the state.";
        not_implemented => NotImplemented, "540: the server does not do this.";
        syntax_error => SyntaxError, "502: malformed arguments.";
        unexpected_frame => UnexpectedFrame, "505: a frame where none is expected.";
        channel_error => ChannelError, "504: a method on a channel that is not open.";
        frame_error => FrameError, "501: a frame that cannot be read.";
        internal_error => InternalError, "541: the store failed.";
        connection_forced => ConnectionForced, "320: the operator closes the connection.";
        invalid_path => InvalidPath, "402: unknown virtual host.";
        content_too_large => ContentTooLarge, "311: larger than may be sent.";
    }

    /// AMQP's reply code.
    pub fn reply_code(&self) -> ReplyCode {
        self.code
    }

    /// The text as sent to the client: preceded by the code's name, as RabbitMQ does.
    pub fn reply_text(&self) -> String {
        format!("{} - {}", self.code.name(), self.text)
    }
}
