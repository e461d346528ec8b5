//! What a relay has under way: messages and outcomes, from the rows to tasks, and what these say back to what is
//! to be noted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::lanes::AGAIN;
use super::looking::Message;
use super::running::Running;
use super::telling::{self, Ended};
use crate::error::{Error, ErrorKind};
use crate::outcome::Settled;
use crate::window::Permits;

/// Messages of one lane in one round.
const ROUND: usize = 256;
/// Outcomes told at a time.
const TELLINGS: usize = 64;

/// A message that has been handed over, or is about to be.
pub(super) struct UnderWay {
    target: Arc<str>,
    key: Option<String>,
    attempts: u32,
    /// The row says that it is under way.
    pub(super) is_marked: bool,
}

/// What tasks say.
pub(super) enum Event {
    HandedOver(i64),
    Failed(i64, Error),
    Settled(i64, Arc<Settled>),
    /// The connection is.
    Closed,
    Told(i64, u32, Ended),
}

impl Running {
    /// All changes are in the rows.
    pub(super) fn written(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        for seq in changes.sent {
            let Some(it) = self.under_way.get_mut(&seq) else { continue };
            it.is_marked = true;
            if let Some(lane) = self.lanes.lane(&it.target) {
                lane.unmarked = lane.unmarked.saturating_sub(1);
            }
        }
        let settled = changes.settled.into_keys();
        for seq in settled.chain(changes.refused.into_keys()).chain(changes.failed.into_keys()) {
            let Some(it) = self.under_way.remove(&seq) else { continue };
            if !it.is_marked
                && let Some(lane) = self.lanes.lane(&it.target)
            {
                lane.unmarked = lane.unmarked.saturating_sub(1);
            }
        }
        for seq in changes.told.into_iter().chain(changes.untold.into_keys()) {
            self.telling.remove(&seq);
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Closed => self.is_closed = true,
            Event::Told(seq, _, Ended::Told) => {
                self.report.told += 1;
                self.changes.told.insert(seq);
            }
            Event::Told(seq, tellings, Ended::Failed(failure)) => {
                tracing::warn!("an outcome is told again later: {failure}");
                self.changes.untold.insert(seq, AGAIN.after(tellings.saturating_add(1)));
            }
            Event::HandedOver(seq) => {
                self.report.handed_over += 1;
                self.changes.sent.insert(seq);
                let Some(it) = self.under_way.get(&seq) else { return };
                self.changes.keys.extend(it.key.clone());
                if let Some(lane) = self.lanes.lane(&it.target) {
                    lane.go_on();
                }
            }
            Event::Settled(seq, settled) => {
                self.report.settled += 1;
                self.changes.settled.insert(seq, settled);
            }
            Event::Failed(seq, error) => self.failed(seq, error),
        }
    }

    fn failed(&mut self, seq: i64, error: Error) {
        let Some(it) = self.under_way.get(&seq) else { return };
        match error.kind() {
            ErrorKind::Closed => self.is_closed = true,
            ErrorKind::TooLarge | ErrorKind::Codec | ErrorKind::Invalid => {
                tracing::error!("a message cannot be sent: {error}");
                self.report.refused += 1;
                self.changes.refused.insert(seq, error);
                self.changes.keys.extend(it.key.clone());
            }
            // It may be the message's own.
            ErrorKind::Broker => {
                let wait = AGAIN.after(it.attempts.saturating_add(1));
                self.changes.failed.insert(seq, (error.to_string(), wait));
            }
            _ => {
                self.changes.failed.insert(seq, (error.to_string(), Duration::ZERO));
                if let Some(lane) = self.lanes.lane(&it.target) {
                    lane.pause();
                }
            }
        }
    }

    /// Hands over what is ready, as far as there is room. Returns whether there may be more.
    pub(super) async fn hand_over(&mut self, target: Arc<str>) -> Result<bool, sqlx::Error> {
        let Some(lane) = self.lanes.open(&target) else { return Ok(false) };
        let room = lane.room().min(ROUND);
        if room == 0 {
            return Ok(false);
        }
        let limit = room + lane.unmarked;
        let ready = self.rows.ready(&target, limit).await?;
        let is_full = ready.len() == limit;
        let mut chosen = HashMap::new();
        for (seq, bytes) in ready {
            if self.under_way.contains_key(&seq) || chosen.len() == room {
                continue;
            }
            let Some(lane) = self.lanes.lane(&target) else { break };
            // Where a large one finds no room, those behind it wait: else it would for ever.
            let Some(permits) = lane.producer.permits(bytes) else { break };
            chosen.insert(seq, permits);
        }
        if chosen.is_empty() {
            return Ok(false);
        }
        for message in self.rows.messages(chosen.keys().copied()).await? {
            let Some(permits) = chosen.remove(&message.seq) else { continue };
            self.begin(&target, message, permits);
        }
        Ok(is_full)
    }

    fn begin(&mut self, target: &Arc<str>, message: Message, permits: Permits) {
        let Some(lane) = self.lanes.lane(target) else { return };
        let Message { seq, key, attempts, encoded } = message;
        lane.unmarked += 1;
        let it = UnderWay { target: Arc::clone(target), key, attempts, is_marked: false };
        self.under_way.insert(seq, it);
        let Some(encoded) = encoded else {
            let text = "its headers in the outbox are not what this library writes there";
            return self.failed(seq, Error::new(ErrorKind::Codec, text));
        };
        let (events, producer) = (self.events.0.clone(), Arc::clone(&lane.producer));
        self.tasks.spawn(async move {
            // If nobody listens any more, the lease is lost.
            let event = match producer.hand_over(encoded, permits).await {
                Err(error) => Event::Failed(seq, error),
                Ok(handed_over) => {
                    let _ = events.send(Event::HandedOver(seq)).await;
                    let settled = handed_over.settled().await;
                    // The room is free before anybody looks for it.
                    drop(handed_over);
                    match settled {
                        Some(settled) => Event::Settled(seq, settled),
                        None => Event::Closed,
                    }
                }
            };
            let _ = events.send(event).await;
        });
    }

    pub(super) async fn tell(&mut self) -> Result<(), sqlx::Error> {
        let Some(tell) = self.tell.clone().filter(|_| self.telling.len() < TELLINGS) else {
            return Ok(());
        };
        for untold in self.rows.untold(TELLINGS + self.telling.len()).await? {
            let (seq, tellings) = (untold.seq, untold.tellings);
            if self.telling.len() == TELLINGS || !self.telling.insert(seq) {
                continue;
            }
            let (events, tell) = (self.events.0.clone(), Arc::clone(&tell));
            self.tasks.spawn(async move {
                let ended = telling::tell(tell, untold.told).await;
                let _ = events.send(Event::Told(seq, tellings, ended)).await;
            });
        }
        Ok(())
    }
}
