//! The end of a connection that must not look like a failure to its peer.
//!
//! A socket that is closed while bytes lie unread in it is reset by the kernel, and the reset
//! overtakes what was said last: the peer sees an error instead of `close-ok`, or of the reason why
//! it was refused. So we stop writing, read on and discard until the peer hangs up, within bounds.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stream::Stream;

/// How long a peer may take to hang up.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes that it may still send meanwhile: what it and the kernels had under way, and then some.
pub(crate) const BYTES_MAX: usize = 256 << 20;

/// Says goodbye on a stream on which all was said.
pub(crate) async fn read_out(stream: &mut impl Stream) {
    let reading = async {
        // Whoever is gone already needs no farewell.
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
    // Time is up: then it sees a reset.
    let _ = tokio::time::timeout(TIMEOUT, reading).await;
}
