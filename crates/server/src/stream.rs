//! What a connection runs over: a TCP socket, or anything else that reads, writes and has a socket
//! below it that can tell whether its peer is gone.

use std::os::fd::AsFd;

use tokio::io::{AsyncRead, AsyncWrite};

/// See the module's documentation.
pub(crate) trait Stream: AsyncRead + AsyncWrite + AsFd + Unpin {}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> Stream for S {}
