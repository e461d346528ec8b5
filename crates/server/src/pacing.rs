//! Reads from a client that streams at ticks, instead of whenever something has come.
//!
//! Ordinary clients write each publish and each ack to the socket as it comes. One that does so as fast
//! as it can would have its connection woken for every few bytes, and waking and sleeping cost many
//! times the work. While a client streams, its connection therefore reads when the [`Ticker`] ticks,
//! and the kernel is told to report nothing before ([`low_water`]); what came meanwhile is taken in
//! with one read, goes to the log and to its queues as one batch, and is answered with one write.
//!
//! Nobody may have to wait for that who would be served at once otherwise. So only a client is paced
//! that goes on without hearing from us ([`Traffic::goes_on`]): not one with a prefetch of 1, not one
//! that waits for each confirm, not one that has asked something; and only while it writes so fast
//! that it is far from idle between two ticks.
//!
//! ```text
//!           STREAK small reads, each soon after the one before, of a client that goes on
//!   Prompt ─────────────────────────────────────────────────────────────────────────────▶ Paced
//!     ▲         it waits for us, or little came at IDLE_TICKS ticks in succession           │
//!     └─────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use node::Traffic;

use crate::low_water;
use crate::ticker::Ticker;

/// A read of fewer bytes was hardly worth being woken.
const SMALL_BYTES: usize = 16 << 10;
/// How soon small reads follow each other in a stream.
const GAP: Duration = Duration::from_micros(200);
/// How many such reads make a stream.
const STREAK: u8 = 4;
/// Publishes and acks at a tick that are worth it.
const WORTH: u64 = 3;
/// Ticks in succession that were not worth it, after which it is over.
const IDLE_TICKS: u8 = 5;

/// See the module's documentation.
pub(crate) struct Pacing {
    /// `None`: this stream is never paced.
    ticker: Option<Arc<Ticker>>,
    state: State,
    /// Something was asked that the client waits for.
    has_asked: bool,
}

enum State {
    Prompt {
        last_read: Option<Instant>,
        streak: u8,
    },
    Paced {
        /// The tick at which to read; `None` for at once.
        due: Option<u64>,
        idle_ticks: u8,
    },
}

const PROMPT: State = State::Prompt { last_read: None, streak: 0 };

impl Pacing {
    pub(crate) fn new(ticker: Option<Arc<Ticker>>) -> Self {
        Self { ticker, state: PROMPT, has_asked: false }
    }

    /// The client waits for the answer to something.
    pub(crate) fn asked(&mut self) {
        self.has_asked = true;
    }

    /// Whether the socket must be read past the runtime, which does not know when there is something.
    /// Pending: at the next tick, not before.
    pub(crate) fn poll(&mut self) -> Poll<bool> {
        let (State::Paced { due, .. }, Some(ticker)) = (&mut self.state, &self.ticker) else {
            return Poll::Ready(false);
        };
        if due.is_none_or(|due| ticker.now() >= due) {
            *due = None;
            return Poll::Ready(true);
        }
        Poll::Pending
    }

    /// After a read: has the task woken at the next tick. One that is no longer paced and has not read
    /// anything looks again, so that the runtime learns that it waits.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>, read_bytes: usize) {
        match (&mut self.state, &self.ticker) {
            (State::Paced { due, .. }, Some(ticker)) => {
                *due = Some(ticker.wake_in(1, cx.waker()));
            }
            _ if read_bytes == 0 => cx.waker().wake_by_ref(),
            _ => {}
        }
    }

    /// Notes a read and what came of it: decides how to go on.
    pub(crate) fn has_read(&mut self, bytes: usize, traffic: Traffic, socket: &impl AsFd) {
        if self.ticker.is_none() {
            return;
        }
        let goes_on = !std::mem::take(&mut self.has_asked) && traffic.goes_on;
        match &mut self.state {
            State::Prompt { last_read, streak } => {
                let now = Instant::now();
                let is_soon = last_read.replace(now).is_some_and(|last| now - last < GAP);
                let streams = bytes < SMALL_BYTES && is_soon && goes_on && traffic.count > 0;
                *streak = if streams { *streak + 1 } else { 0 };
                if *streak >= STREAK && low_water::raise(socket) {
                    self.state = State::Paced { due: None, idle_ticks: 0 };
                }
            }
            State::Paced { idle_ticks, .. } => {
                *idle_ticks = if traffic.count >= WORTH { 0 } else { *idle_ticks + 1 };
                if !goes_on || *idle_ticks >= IDLE_TICKS {
                    low_water::lower(socket);
                    self.state = PROMPT;
                }
            }
        }
    }
}
