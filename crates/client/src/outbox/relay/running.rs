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

use super::carrying::{Event, UnderWay};
use super::lanes::Lanes;
use super::rows::{Changes, Rows};
use super::telling::Tell;
use super::{RelayReport, Settings};
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::outbox::Outbox;

/// How often to look for what other processes have put in, or who has the lease.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait after the database has failed.
const DATABASE_AGAIN: Duration = Duration::from_millis(500);
/// How often old messages are deleted.
const FORGET: Duration = Duration::from_secs(60);
/// Events taken in one round, and those that may wait.
const EVENTS: usize = 1024;
/// How long tasks that are given up may take to end.
const TASKS_END: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) struct Running {
    pub(super) outbox: Outbox,
    pub(super) rows: Rows,
    pub(super) tell: Option<Tell>,
    pub(super) settings: Settings,
    pub(super) lanes: Lanes,
    /// What has been handed over, or is about to be, and has no outcome in its row.
    pub(super) under_way: HashMap<i64, UnderWay>,
    pub(super) telling: HashSet<i64>,
    pub(super) changes: Changes,
    pub(super) tasks: JoinSet<()>,
    pub(super) events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    pub(super) lease_ends: Instant,
    pub(super) renew_at: Instant,
    /// The target that was handed over from last.
    last_target: Option<Arc<str>>,
    pub(super) forget_at: Instant,
    pub(super) is_closed: bool,
    pub(super) report: RelayReport,
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
            last_target: None,
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
            let mut targets = self.rows.targets().await?;
            // The last round may have been cut short: this one goes on behind it.
            let last = targets.iter().position(|target| Some(target) == self.last_target.as_ref());
            targets.rotate_left(last.map_or(0, |last| last + 1));
            for target in targets {
                // Many targets, or large bodies, must not cost the lease.
                if Instant::now() >= self.renew_at {
                    has_more = true;
                    break;
                }
                self.last_target = Some(Arc::clone(&target));
                has_more |= self.hand_over(target).await?;
            }
            self.tell().await?;
            if Instant::now() >= self.forget_at && !self.rows.forget(self.settings.keep).await? {
                self.forget_at = Instant::now() + FORGET;
            }
        }
        Ok(if has_more { Round::More } else { Round::Done })
    }
}
