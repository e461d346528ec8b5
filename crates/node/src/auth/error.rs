//! What can go wrong in authentication and authorisation, each as one clear line.

/// An error of the rules in this module. A wrong password is not one: it is an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A SASL response does not have its mechanism's form. The client's fault.
    #[error("the {mechanism} response is malformed: {reason}")]
    Response {
        /// `PLAIN` or `AMQPLAIN`.
        mechanism: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A permission is not a regular expression. Whoever sets it is told.
    #[error("the {access} permission {pattern:?} is not a valid pattern: {reason}")]
    Pattern {
        /// `configure`, `write` or `read`.
        access: &'static str,
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system gave no random bytes, or the hash could not be computed.
    #[error("the password cannot be hashed: {reason}")]
    Hash {
        /// What failed.
        reason: String,
    },
}
