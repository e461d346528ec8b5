//! How an attempt to deliver changes a webhook: when the next attempt is, or that there is none.

use std::time::Duration;

use axum::http::StatusCode;

use super::model::Webhook;
use crate::time::now_ms;

/// The specification's schedule: how long to wait after each failed attempt.
pub(crate) const RETRY_DELAYS: &[Duration] = &[
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(14 * 60 * 60),
    Duration::from_secs(20 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// The result of one attempt.
pub(crate) enum Attempt {
    /// Accepted.
    Delivered(StatusCode),
    /// The receiver wants nothing more, ever.
    Gone,
    /// Not accepted; the text says why, with the status if there was one.
    Failed(String, Option<StatusCode>),
}

/// What to do next, according to a webhook's status.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Delivered,
    TryAgain,
    Disabled,
}

/// Notes the result of an attempt.
pub(super) fn note(webhook: &mut Webhook, attempt: Attempt, delays: &[Duration]) -> Noted {
    let now_ms = now_ms();
    let status = &mut webhook.status;
    status.next_attempt_at_ms = None;
    let (reason, disabled_reason) = match attempt {
        Attempt::Delivered(_) => {
            status.failure_count = 0;
            status.last_success_at_ms = Some(now_ms);
            return Noted::Delivered;
        }
        Attempt::Gone => {
            let reason = "it answered 410 Gone".to_owned();
            (reason.clone(), Some(reason))
        }
        Attempt::Failed(reason, _) => match delays.get(status.failure_count as usize) {
            Some(delay) => {
                status.next_attempt_at_ms = Some(now_ms + jittered(*delay).as_millis() as u64);
                (reason, None)
            }
            None => {
                let attempts = delays.len() + 1;
                let disabled =
                    format!("{attempts} attempts failed, the last one because: {reason}");
                (reason, Some(disabled))
            }
        },
    };
    status.failure_count += 1;
    status.last_failure_at_ms = Some(now_ms);
    status.last_error = Some(reason);
    if disabled_reason.is_none() {
        return Noted::TryAgain;
    }
    webhook.disable(disabled_reason.unwrap_or_default());
    Noted::Disabled
}

/// Give or take a fifth, so that webhooks that failed together do not retry together.
fn jittered(delay: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    delay.mul_f64(0.8 + 0.4 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Attempt {
        Attempt::Failed("it answered 500".to_owned(), None)
    }

    #[test]
    fn a_webhook_that_keeps_failing_is_disabled_after_the_whole_schedule() {
        let mut webhook = Webhook::example("1");
        for (number, delay) in RETRY_DELAYS.iter().enumerate() {
            let before_ms = now_ms();
            assert_eq!(note(&mut webhook, failed(), RETRY_DELAYS), Noted::TryAgain);
            let next_ms = webhook.status.next_attempt_at_ms.expect("another attempt");
            let waits_ms = (next_ms - before_ms) as f64 / delay.as_millis() as f64;
            assert!((0.79..1.21).contains(&waits_ms), "{waits_ms}");
            assert_eq!(webhook.status.failure_count, number as u32 + 1);
        }
        assert_eq!(note(&mut webhook, failed(), RETRY_DELAYS), Noted::Disabled);
        assert!(!webhook.enabled && webhook.status.next_attempt_at_ms.is_none());
        let reason = webhook.status.disabled_reason.expect("a reason");
        assert!(reason.starts_with("10 attempts failed"), "{reason}");
    }

    #[test]
    fn success_begins_the_schedule_anew_and_gone_ends_it() {
        let mut webhook = Webhook::example("1");
        note(&mut webhook, failed(), RETRY_DELAYS);
        let delivered = Attempt::Delivered(StatusCode::OK);
        assert_eq!(note(&mut webhook, delivered, RETRY_DELAYS), Noted::Delivered);
        assert_eq!(webhook.status.failure_count, 0);
        assert!(webhook.status.last_error.is_some(), "the last error stays visible");
        assert_eq!(note(&mut webhook, Attempt::Gone, RETRY_DELAYS), Noted::Disabled);
        assert!(!webhook.enabled);
    }
}
