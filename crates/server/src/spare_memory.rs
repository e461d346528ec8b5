//! Gives back the memory that a burst needed. Buffers keep theirs from batch to batch, since the next
//! will need as much; where none has come for a while, they are let go.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// What is kept until the next burst.
pub(crate) const KEPT_BYTES: usize = 4 << 10;
/// How long to wait for the next one.
const IDLE: Duration = Duration::from_millis(if cfg!(test) { 30 } else { 1000 });

/// Watches one connection. Costs nothing until something large comes.
#[derive(Default)]
pub(crate) struct SpareMemory {
    timer: Option<Pin<Box<Sleep>>>,
    is_used: bool,
}

impl SpareMemory {
    /// So much was read or written with one call. The task must be polled after that.
    pub(crate) fn used(&mut self, bytes: usize) {
        if bytes > KEPT_BYTES {
            self.is_used = true;
            if self.timer.is_none() {
                self.timer = Some(Box::pin(tokio::time::sleep(IDLE)));
            }
        }
    }

    /// Whether it is time to let go of what is not needed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(timer) = &mut self.timer else { return false };
        if timer.as_mut().poll(cx) == Poll::Pending {
            return false;
        }
        if std::mem::take(&mut self.is_used) {
            timer.as_mut().reset(Instant::now() + IDLE);
            // Registers for the next look.
            let _ = timer.as_mut().poll(cx);
            return false;
        }
        self.timer = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn it_is_time_once_nothing_large_has_come_for_a_while() {
        let mut spare = SpareMemory::default();
        let begin = Instant::now();
        spare.used(KEPT_BYTES);
        assert!(spare.timer.is_none());
        spare.used(KEPT_BYTES + 1);
        let mut uses = 3;
        poll_fn(|cx| {
            if spare.poll(cx) {
                return Poll::Ready(());
            }
            if uses > 0 {
                uses -= 1;
                spare.used(usize::MAX);
            }
            Poll::Pending
        })
        .await;
        assert!(begin.elapsed() >= 3 * IDLE, "{:?}", begin.elapsed());
        assert!(!poll_fn(|cx| Poll::Ready(spare.poll(cx))).await);
    }
}
