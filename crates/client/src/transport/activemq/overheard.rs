//! A stream of which the beginning is listened to: the broker says there what it is, and the AMQP crate does not
//! pass that on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What Artemis calls itself in the properties of its connection.
const ARTEMIS: &[u8] = b"apache-activemq-artemis";
/// By then it has said so.
const BYTES_MAX: usize = 8192;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Overheard<S> {
    stream: S,
    heard: Vec<u8>,
    is_artemis: Arc<AtomicBool>,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S, is_artemis: Arc<AtomicBool>) -> Self {
        is_artemis.store(false, Ordering::Relaxed);
        Self { stream, heard: Vec::new(), is_artemis }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.heard.len() >= BYTES_MAX {
            return;
        }
        self.heard.extend_from_slice(bytes);
        if self.heard.windows(ARTEMIS.len()).any(|window| window == ARTEMIS) {
            self.is_artemis.store(true, Ordering::Relaxed);
            self.heard.resize(BYTES_MAX, 0);
        }
        if self.heard.len() >= BYTES_MAX {
            self.heard.truncate(BYTES_MAX);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        self.hear(new);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_pieces_is_heard() {
        let is_artemis = Arc::new(AtomicBool::new(true));
        let mut overheard = Overheard::new((), Arc::clone(&is_artemis));
        overheard.hear(b"..product.apache-active");
        assert!(!is_artemis.load(Ordering::Relaxed));
        overheard.hear(b"mq-artemis..");
        assert!(is_artemis.load(Ordering::Relaxed));
        let mut overheard = Overheard::new((), Arc::clone(&is_artemis));
        overheard.hear(&vec![0; BYTES_MAX + 1]);
        overheard.hear(ARTEMIS);
        assert!(!is_artemis.load(Ordering::Relaxed), "by then it is a message's");
    }
}
