//! Heartbeats both ways (AMQP 0-9-1 section 4.2.7): we send one every half interval, whatever else was
//! sent, and a peer that has been silent for two and a half intervals is gone.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long a peer may be silent. A tick is half an interval.
const TICKS_SILENT_MAX: u8 = 5;

/// The heartbeat of one connection; `None` inside if it was negotiated away.
pub(crate) struct Heartbeat {
    timer: Option<Pin<Box<Sleep>>>,
    tick: Duration,
    /// Ticks since something was last received.
    ticks_silent: u8,
}

/// What a tick asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    Send,
    PeerIsGone,
}

impl Heartbeat {
    pub(crate) fn new(interval_s: u16) -> Self {
        let tick = Duration::from_millis(u64::from(interval_s) * 500);
        let timer = (interval_s > 0).then(|| Box::pin(tokio::time::sleep(tick)));
        Self { timer, tick, ticks_silent: 0 }
    }

    pub(crate) fn received(&mut self) {
        self.ticks_silent = 0;
    }

    /// What is due. `listens` is false while the connection deliberately does not read.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, listens: bool) -> Beat {
        let Some(timer) = &mut self.timer else { return Beat::Nothing };
        if timer.as_mut().poll(cx) == Poll::Pending {
            return Beat::Nothing;
        }
        timer.as_mut().reset(Instant::now() + self.tick);
        // Registers for the next tick.
        let _ = timer.as_mut().poll(cx);
        if listens {
            self.ticks_silent += 1;
        } else {
            self.ticks_silent = 0;
        }
        if self.ticks_silent > TICKS_SILENT_MAX {
            return Beat::PeerIsGone;
        }
        Beat::Send
    }
}
