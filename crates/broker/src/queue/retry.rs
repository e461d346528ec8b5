//! The wait between two attempts: `x-retry-delay-min/max` (doubling, with jitter) and RabbitMQ's
//! `x-delayed-retry-*` (in proportion to the deliveries so far). Owns how long it is, and nothing
//! else.

use outcome::DURATION_MS_MAX;

use crate::arguments::{QueueArguments, RetryKind};

/// The longest wait: ten years, the limit of a time to live.
const WAIT_MS_MAX: u64 = DURATION_MS_MAX;

/// How long a message waits after each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    growth: Growth,
    min_ms: u64,
    max_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    Doubling,
    Linear,
}

impl Retry {
    pub(super) fn resolve(arguments: &QueueArguments) -> Option<Self> {
        if let Some(min_ms) = arguments.retry_delay_min_ms {
            let max_ms = arguments.retry_delay_max_ms.unwrap_or(WAIT_MS_MAX);
            return Some(Self { growth: Growth::Doubling, min_ms, max_ms });
        }
        // Here every requeue counts as a failed attempt, so nothing is merely returned.
        let is_on = matches!(arguments.delayed_retry, RetryKind::All | RetryKind::Failed);
        let min_ms = arguments.delayed_retry_min_ms.filter(|_| is_on)?;
        let max_ms = arguments.delayed_retry_max_ms.unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
        Some(Self { growth: Growth::Linear, min_ms, max_ms })
    }

    /// The wait after this many attempts. Doubling waits are stretched by up to a quarter (or, at
    /// the maximum, shortened by as much), so that messages that failed together do not come back
    /// together; `random` is any number.
    pub fn delay_ms(&self, attempts: u16, random: u64) -> u64 {
        let attempts = u64::from(attempts.max(1));
        match self.growth {
            Growth::Linear => self.min_ms.saturating_mul(attempts).min(self.max_ms),
            Growth::Doubling => {
                let factor = 1u64.checked_shl(attempts as u32 - 1).unwrap_or(u64::MAX);
                let base_ms = self.min_ms.saturating_mul(factor);
                let room_ms = base_ms.min(self.max_ms) / 4;
                let jitter_ms = random % (room_ms + 1);
                match base_ms < self.max_ms {
                    true => base_ms.saturating_add(jitter_ms).min(self.max_ms),
                    false => (self.max_ms - jitter_ms).max(self.min_ms),
                }
            }
        }
    }
}
