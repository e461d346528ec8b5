//! A relay at work: one loop, and a task for each message that is under way.
//!
//! Each round notes what has happened since the last one, hands over what is ready and fits into the lanes,
//! tells what is to be told, and sleeps until something happens. *Invariant:* nothing is handed over or told
//! when the lease may have ended by this process's clock, and all tasks end with it.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::lanes::{AGAIN, Lanes};
use super::rows::{Changes, Message, Rows};
use super::telling::{self, Ended, Tell};
use super::{RelayReport, Settings};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::outbox::Outbox;
use crate::outcome::Settled;

/// How often to look for what other processes have put in, or who has the lease.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait after the database has failed.
const DATABASE_AGAIN: Duration = Duration::from_millis(500);
/// How often old messages are deleted.
const FORGET: Duration = Duration::from_secs(60);
/// Messages of one lane in one round.
const ROUND: usize = 256;
/// Events taken in one round, and those that may wait.
const EVENTS: usize = 1024;
/// How long tasks that are given up may take to end.
const TASKS_END: Duration = Duration::from_secs(1);
/// Outcomes told at a time.
const TELLINGS: usize = 64;

/// See the module's documentation.
pub(super) struct Running {
    outbox: Outbox,
    rows: Rows,
    tell: Option<Tell>,
    settings: Settings,
    lanes: Lanes,
    /// What has been handed over, or is about to be, and has no outcome in its row.
    under_way: HashMap<i64, UnderWay>,
    telling: HashSet<i64>,
    changes: Changes,
    tasks: JoinSet<()>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    lease_ends: Instant,
    renew_at: Instant,
    forget_at: Instant,
    is_closed: bool,
    report: RelayReport,
}

struct UnderWay {
    target: Arc<str>,
    key: Option<String>,
    attempts: u32,
    /// The row says that it is under way.
    is_marked: bool,
}

/// What tasks say.
enum Event {
    HandedOver(i64),
    Failed(i64, Error),
    Settled(i64, Box<Settled>),
    /// The connection is.
    Closed,
    Told(i64, u32, Ended),
}

/// Why a relay does not work any more.
enum End {
    Stopped,
    LeaseLost,
}

/// How far a round has got.
enum Round {
    LeaseLost,
    /// All is done that can be done now.
    Done,
    /// There is more to be done at once.
    More,
}

impl Running {
    pub(super) fn new(
        outbox: Outbox,
        connection: Arc<Connection>,
        tell: Option<Tell>,
        settings: Settings,
    ) -> Self {
        let rows = Rows {
            database: outbox.database.clone(),
            holder: Uuid::now_v7().to_string(),
            lease: settings.lease,
            settled: if tell.is_some() { "settled" } else { "told" },
        };
        let now = Instant::now();
        Self {
            outbox,
            rows,
            tell,
            settings,
            lanes: Lanes::new(connection, settings),
            under_way: HashMap::new(),
            telling: HashSet::new(),
            changes: Changes::default(),
            tasks: JoinSet::new(),
            events: mpsc::channel(EVENTS),
            lease_ends: now,
            renew_at: now,
            forget_at: now,
            is_closed: false,
            report: RelayReport::default(),
        }
    }

    /// Stands by and works, in turn.
    pub(super) async fn run(
        mut self,
        stop: impl Future<Output = ()>,
    ) -> Result<RelayReport, Error> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let wait = match self.acquire().await {
                Ok(true) => match self.serve(&mut stop).await? {
                    End::Stopped => return Ok(self.report),
                    End::LeaseLost => {
                        tracing::warn!("{}: another relay has the lease", self.outbox.place.0);
                        self.begin_anew();
                        LOOK
                    }
                },
                Ok(false) => LOOK,
                Err(error) => self.passing(&error)?,
            };
            tokio::select! {
                () = &mut stop => return Ok(self.report),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What the database says may pass, or not. Returns how long to wait.
    fn passing(&self, error: &sqlx::Error) -> Result<Duration, Error> {
        let error = self.outbox.place.failed(error);
        if error.kind() == ErrorKind::OutboxDamaged {
            return Err(error);
        }
        tracing::warn!("the relay waits: {error}");
        Ok(DATABASE_AGAIN)
    }

    async fn acquire(&mut self) -> Result<bool, sqlx::Error> {
        let began = Instant::now();
        let is_ours = self.rows.acquire().await?;
        if is_ours {
            self.renewed(began);
        }
        Ok(is_ours)
    }

    fn renewed(&mut self, began: Instant) {
        self.lease_ends = began + self.settings.lease;
        self.renew_at = began + self.settings.lease / 3;
    }

    /// Ends all tasks and forgets what they did: whoever has the lease finds it out again.
    fn begin_anew(&mut self) {
        self.tasks = JoinSet::new();
        self.events = mpsc::channel(EVENTS);
        self.under_way.clear();
        self.telling.clear();
        self.changes = Changes::default();
        self.lanes.clear();
    }

    async fn serve(
        &mut self,
        stop: &mut std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<End, Error> {
        let mut stop_by: Option<Instant> = None;
        loop {
            let is_working = stop_by.is_none() && !self.is_closed;
            // What the database does not answer in time is too late.
            let round = tokio::time::timeout_at(self.lease_ends, self.round(is_working)).await;
            let wait = match round {
                Err(_) | Ok(Ok(Round::LeaseLost)) if stop_by.is_some() => return Ok(End::Stopped),
                Err(_) | Ok(Ok(Round::LeaseLost)) => return Ok(End::LeaseLost),
                Ok(Ok(Round::More)) => Duration::ZERO,
                Ok(Ok(Round::Done)) => LOOK,
                Ok(Err(error)) => self.passing(&error)?,
            };
            if self.is_closed && self.changes.is_empty() {
                self.give_up().await;
                return Err(Error::closed());
            }
            if stop_by.is_some_and(|by| self.has_finished() || Instant::now() >= by) {
                self.give_up().await;
                return Ok(End::Stopped);
            }
            let outbox = self.outbox.clone();
            tokio::select! {
                biased;
                () = &mut *stop, if stop_by.is_none() => {
                    stop_by = Some(Instant::now() + self.settings.grace);
                }
                event = self.events.1.recv() => {
                    if let Some(event) = event {
                        self.take(event);
                    }
                    for _ in 0..EVENTS {
                        let Ok(event) = self.events.1.try_recv() else { break };
                        self.take(event);
                    }
                }
                () = outbox.entered.notified(), if is_working => {}
                () = tokio::time::sleep(wait) => {}
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// Nothing has begun that ends soon.
    fn has_finished(&self) -> bool {
        self.telling.is_empty()
            && self.changes.is_empty()
            && self.under_way.values().all(|it| it.is_marked)
    }

    async fn give_up(&mut self) {
        // A function that blocks its thread does not even end now; nobody waits for it.
        let _ = tokio::time::timeout(TASKS_END, self.tasks.shutdown()).await;
        if let Err(error) = self.rows.release().await {
            tracing::warn!("the lease ends by itself: {}", self.outbox.place.failed(&error));
        }
    }

    async fn round(&mut self, is_working: bool) -> Result<Round, sqlx::Error> {
        let has_new = is_working && self.rows.has_new().await?;
        let mut has_more = false;
        if has_new || !self.changes.is_empty() || Instant::now() >= self.renew_at {
            let began = Instant::now();
            match self.rows.write(&self.changes, has_new).await? {
                None => return Ok(Round::LeaseLost),
                Some(more) => has_more = more,
            }
            self.renewed(began);
            self.written();
        }
        if is_working {
            for target in self.rows.targets().await? {
                has_more |= self.hand_over(target).await?;
            }
            self.tell().await?;
            if Instant::now() >= self.forget_at && !self.rows.forget(self.settings.keep).await? {
                self.forget_at = Instant::now() + FORGET;
            }
        }
        Ok(if has_more { Round::More } else { Round::Done })
    }

    /// All changes are in the rows.
    fn written(&mut self) {
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

    fn take(&mut self, event: Event) {
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
                self.changes.settled.insert(seq, *settled);
            }
            Event::Failed(seq, error) => self.failed(seq, error),
        }
    }

    fn failed(&mut self, seq: i64, error: Error) {
        let Some(it) = self.under_way.get(&seq) else { return };
        match error.kind() {
            ErrorKind::Closed => self.is_closed = true,
            ErrorKind::TooLarge | ErrorKind::Codec => {
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
    async fn hand_over(&mut self, target: Arc<str>) -> Result<bool, sqlx::Error> {
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

    fn begin(&mut self, target: &Arc<str>, message: Message, permits: crate::window::Permits) {
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
                        Some(settled) => Event::Settled(seq, Box::new(settled)),
                        None => Event::Closed,
                    }
                }
            };
            let _ = events.send(event).await;
        });
    }

    async fn tell(&mut self) -> Result<(), sqlx::Error> {
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
