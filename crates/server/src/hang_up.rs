//! Notices that a peer is gone while nothing is read from it.
//!
//! A connection that is held (no room for its messages, a reply that waits for the disk) does not
//! read, so it sees neither end of stream nor reset. What it keeps meanwhile, above all incomplete
//! messages, would stay for as long as it is held, and may be the very reason why it is. So while
//! nothing is read, the kernel is asked now and then. That is not enough if the peer died with more
//! under way than fits in the socket's buffer, for its end comes after that. So such a peer is also
//! sent heartbeats, whether negotiated or not: where nobody has the socket open any more, the
//! answer is a reset.

use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::{Instant, Sleep};

/// How often the kernel is asked.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks to wait for what a peer sent before it left: most holds are short.
const PATIENCE_TICKS: u8 = 5;

/// Ticks between probes of a peer.
const PROBE_TICKS: u8 = 5;

/// What is known about the peer of a connection that is not being read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    There,
    /// Nothing has been known for some time: it must be sent something.
    Silent,
    Gone,
}

/// Watches one connection. Costs nothing until it stops reading.
#[derive(Default)]
pub(crate) struct HangUpWatch {
    timer: Option<Pin<Box<Sleep>>>,
    ticks: u8,
}

impl HangUpWatch {
    /// The state of the peer. `listens`: the connection reads, so there is nothing to watch. Wakes
    /// the task when it is time to ask again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &impl AsFd, listens: bool) -> Peer {
        if listens {
            self.ticks = 0;
        } else if self.timer.is_none() {
            self.timer = Some(Box::pin(tokio::time::sleep(TICK)));
        }
        let Some(timer) = &mut self.timer else { return Peer::There };
        if timer.as_mut().poll(cx) == Poll::Pending {
            return Peer::There;
        }
        if listens {
            self.timer = None;
            return Peer::There;
        }
        timer.as_mut().reset(Instant::now() + TICK);
        // Registers for the next tick.
        let _ = timer.as_mut().poll(cx);
        self.ticks += 1;
        if self.ticks < PATIENCE_TICKS {
            return Peer::There;
        }
        if is_hung_up(stream) {
            return Peer::Gone;
        }
        let is_due = self.ticks == PATIENCE_TICKS;
        if self.ticks == PATIENCE_TICKS + PROBE_TICKS - 1 {
            self.ticks = PATIENCE_TICKS - 1;
        }
        if is_due { Peer::Silent } else { Peer::There }
    }
}

/// Whether the peer has closed its side or is gone, even if there is something left to read.
fn is_hung_up(stream: &impl AsFd) -> bool {
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut asked = [PollFd::new(stream, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut asked, Some(&at_once)).is_ok_and(|_| asked[0].revents().intersects(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_peer_that_went_is_noticed_behind_unread_bytes() {
        for resets in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            let mut peer = TcpStream::connect(address).await.expect("it listens");
            let (stream, _) = listener.accept().await.expect("it came");
            peer.write_all(b"unread").await.expect("open");
            assert!(!is_hung_up(&stream));
            if resets {
                peer.set_zero_linger().expect("open");
            }
            drop(peer);
            let gone = async {
                while !is_hung_up(&stream) {
                    tokio::task::yield_now().await
                }
            };
            tokio::time::timeout(Duration::from_secs(5), gone).await.expect("noticed");
        }
    }
}
