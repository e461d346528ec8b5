//! Messages on their way into the node: those that wait until it takes more, and those that wait for their
//! confirm, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use node::{Publish, Session};
use tokio::sync::oneshot;

use super::super::{Confirm, Outgoing, Taken};
use super::inbox::Arrived;
use super::{PUBLISHING, refused};
use crate::error::{Error, ErrorKind};
use crate::window::Permits;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Publishing {
    waiting: VecDeque<Waiting>,
    /// Those that the session has, by consecutive numbers from `first_number` on; `None` once confirmed.
    unconfirmed: VecDeque<Option<Unconfirmed>>,
    first_number: u64,
}

/// A message with its properties, encoded, and who waits for its confirm.
struct Waiting {
    message: Outgoing,
    properties: Bytes,
    waiter: Waiter,
}

struct Unconfirmed {
    it: Waiting,
    is_returned: bool,
}

struct Waiter {
    confirm: oneshot::Sender<Result<Taken, Error>>,
    _permits: Option<Arc<Permits>>,
}

/// What somebody is to be told, with no lock held.
pub(super) struct Told {
    waiter: Waiter,
    result: Result<Taken, Error>,
}

impl Told {
    pub(super) fn tell(self) {
        // Nobody may wait any more.
        let _ = self.waiter.confirm.send(self.result);
    }
}

impl Publishing {
    pub(super) fn add(
        &mut self,
        message: Outgoing,
        properties: Bytes,
        permits: Option<Arc<Permits>>,
    ) -> Confirm {
        let (confirm, confirmed) = oneshot::channel();
        let waiter = Waiter { confirm, _permits: permits };
        self.waiting.push_back(Waiting { message, properties, waiter });
        confirmed
    }

    /// Messages that are not confirmed.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.unconfirmed.iter().flatten().count()
    }

    /// What is not confirmed is published again, in the same order: its session is gone.
    pub(super) fn begin_again(&mut self) {
        let unconfirmed = std::mem::take(&mut self.unconfirmed).into_iter().flatten();
        let again: VecDeque<_> = unconfirmed.map(|unconfirmed| unconfirmed.it).collect();
        let later = std::mem::replace(&mut self.waiting, again);
        self.waiting.extend(later);
        self.first_number = 0;
    }

    /// Hands over as many as the session takes now; it wakes the task when it takes more.
    pub(super) fn publish(&mut self, session: &mut Session, cx: &mut Context<'_>) {
        while !self.waiting.is_empty() && session.poll_ready(cx).is_ready() {
            let Some(it) = self.waiting.pop_front() else { return };
            let Waiting { message, properties, waiter } = &it;
            if waiter.confirm.is_closed() {
                continue;
            }
            let (exchange, routing_key) = message.target.route();
            let publish = Publish {
                exchange,
                routing_key: routing_key.into(),
                mandatory: true,
                properties,
                body: &message.body,
            };
            match session.publish(PUBLISHING, &publish) {
                Ok(()) => {
                    self.unconfirmed.push_back(Some(Unconfirmed { it, is_returned: false }));
                }
                Err(error) => Told { waiter: it.waiter, result: Err(refused(&error)) }.tell(),
            }
        }
    }

    /// What has come, with confirms turned into what each message's sender is told.
    pub(super) fn confirm(&mut self, arrived: Vec<Arrived>) -> Vec<Arrived> {
        let mut all = Vec::with_capacity(arrived.len());
        for event in arrived {
            match event {
                Arrived::Confirmed { number, multiple, is_accepted } => {
                    let first = if multiple { self.first_number + 1 } else { number };
                    for number in first..=number {
                        all.extend(self.confirmed(number, is_accepted).map(Arrived::Published));
                    }
                }
                Arrived::Returned { id } => self.returned(&id),
                other => all.push(other),
            }
        }
        while self.unconfirmed.front().is_some_and(Option::is_none) {
            self.unconfirmed.pop_front();
            self.first_number += 1;
        }
        all
    }

    fn confirmed(&mut self, number: u64, is_accepted: bool) -> Option<Told> {
        let at = usize::try_from(number.checked_sub(self.first_number + 1)?).ok()?;
        let Unconfirmed { is_returned, it } = self.unconfirmed.get_mut(at)?.take()?;
        let result = match (is_accepted, is_returned) {
            (true, false) => Ok(Taken::Stored),
            (true, true) => Ok(Taken::Unroutable),
            (false, _) => {
                let text = "the broker refuses the message: one of its queues is full";
                Err(Error::new(ErrorKind::Refused, text))
            }
        };
        Some(Told { waiter: it.waiter, result })
    }

    fn returned(&mut self, id: &[u8]) {
        let mut unconfirmed = self.unconfirmed.iter_mut().flatten();
        let it = unconfirmed.find(|it| !it.is_returned && it.it.message.id.as_bytes() == id);
        if let Some(it) = it {
            it.is_returned = true;
        }
    }

    /// Something that was gathered could not be done.
    pub(super) fn channel_failed(&mut self, channel: u16, error: &Error) {
        tracing::error!(channel, "the broker in this process: {error}");
        if channel == PUBLISHING {
            for it in self.unconfirmed.iter_mut().filter_map(Option::take) {
                Told { waiter: it.it.waiter, result: Err(error.clone()) }.tell();
            }
        }
    }
}
