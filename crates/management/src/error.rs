//! What can go wrong at the start.

/// An error of the HTTP server, for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagementError {
    /// The listener failed.
    #[error("the HTTP listener: {0}")]
    Io(#[from] std::io::Error),
    /// The file with the webhooks cannot be used.
    #[error("the webhooks ({path}): {reason}")]
    Webhooks {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}
