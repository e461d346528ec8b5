//! Ends a connection so that it does not look like a failure to its peer.
//!
//! If a socket is closed while it holds unread bytes, the kernel resets it, and the reset overtakes
//! what was sent last: the peer sees an error instead of `close-ok`, or of the reason why it was
//! refused. So we stop writing, then read on and discard until the peer hangs up, within bounds.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stream::Stream;

/// How long a peer may take to hang up.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
/// How many bytes it may still send meanwhile: what it and the kernels had under way, and then
/// some.
pub(crate) const BYTES_MAX: usize = 256 << 20;

/// Says goodbye on a stream to which nothing more will be written.
pub(crate) async fn read_out(stream: &mut impl Stream) {
    let reading = async {
        // A peer that is gone already needs no farewell.
        if stream.shutdown().await.is_ok() {
            let mut chunk = vec![0; 16 << 10];
            let mut left = BYTES_MAX;
            while let Ok(count @ 1..) = stream.read(&mut chunk).await
                && left > 0
            {
                left = left.saturating_sub(count);
            }
        }
    };
    // If time runs out, the peer sees a reset.
    let _ = tokio::time::timeout(TIMEOUT, reading).await;
}
