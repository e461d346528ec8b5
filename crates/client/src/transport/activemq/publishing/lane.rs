//! What goes to one queue.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::types::messaging::Outcome;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::down::{Lost, Refusal};
use super::super::links::{self, Opened};
use super::{Shared, Waiting};
use crate::error::{Error, ErrorKind};
use crate::transport::Taken;

/// How long a link is open that nobody uses.
const IDLE: Duration = Duration::from_secs(60);
/// How often it is looked what nobody waits for any more.
const TICK: Duration = Duration::from_secs(1);
/// The wait before a link is opened again that was lost at once, doubled each time.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How often in a row a link is refused before that is its messages' business.
const REFUSALS_MAX: u32 = 3;

/// See the module's documentation.
pub(super) struct Lane {
    address: Arc<str>,
    shared: Arc<Shared>,
    incoming: mpsc::UnboundedReceiver<Waiting>,
    /// What is not confirmed, in order.
    waiting: BTreeMap<u64, Waiting>,
    /// The number of the message that comes next.
    count: u64,
    /// Those from this number on have not been sent on this link.
    unsent: u64,
    /// Up to this number one at a time is under way: the broker has closed the link because of one of them.
    careful_until: u64,
}

/// Why a link is not used any more.
enum Ended {
    /// There was nothing to do.
    Idle,
    /// There is nobody who would give it anything.
    Closed,
    Lost(Lost),
}

type Sent = (Sender, u64, Result<Settling, SendError>);
type Settling = Pin<Box<dyn Future<Output = Result<Outcome, SendError>> + Send>>;
type Settled = (u64, Result<Outcome, SendError>);

async fn send(mut sender: Sender, number: u64, waiting: Arc<super::Message>) -> Sent {
    let sent = sender.send_batchable_ref(&waiting).await;
    (sender, number, sent.map(|settling| Box::pin(settling) as Settling))
}

impl Lane {
    pub(super) fn new(
        address: Arc<str>,
        shared: Arc<Shared>,
        incoming: mpsc::UnboundedReceiver<Waiting>,
    ) -> Self {
        let waiting = BTreeMap::new();
        Self { address, shared, incoming, waiting, count: 0, unsent: 0, careful_until: 0 }
    }

    pub(super) async fn run(mut self) {
        let (mut again, mut refused_count) = (AGAIN_MIN, 0);
        loop {
            while let Ok(waiting) = self.incoming.try_recv() {
                self.add(waiting);
            }
            self.prune();
            if self.waiting.is_empty() {
                if self.incoming.is_closed() || self.shared.end(&self.address, &self.incoming) {
                    return;
                }
                continue;
            }
            let (shared, address) = (Arc::clone(&self.shared), Arc::clone(&self.address));
            let opening = async {
                let place = shared.link().await.ok_or(Lost::Closed)?;
                let opened = links::sender(&shared.driver, &address).await?;
                Ok::<_, Lost>((place, opened))
            };
            let lost = match self.while_waiting(opening).await {
                None => return,
                Some(Ok((place, opened))) => {
                    let began = Instant::now();
                    let ended = self.serve(opened).await;
                    drop(place);
                    refused_count = 0;
                    if began.elapsed() > AGAIN_MAX {
                        again = AGAIN_MIN;
                    }
                    match ended {
                        Ended::Idle => continue,
                        Ended::Closed => return,
                        Ended::Lost(Lost::Refused(refusal)) => {
                            self.blame(refusal);
                            Lost::Connection
                        }
                        Ended::Lost(lost) => lost,
                    }
                }
                Some(Err(lost)) => lost,
            };
            match lost {
                Lost::Closed => return,
                Lost::Connection => {}
                // A broker that is not quite there yet has errors of its own.
                Lost::Refused(refusal)
                    if refusal.kind == ErrorKind::Broker && refused_count < REFUSALS_MAX =>
                {
                    refused_count += 1;
                }
                Lost::Refused(refusal) => {
                    refused_count = 0;
                    self.refuse_all(&refusal);
                    continue;
                }
            }
            self.while_waiting(tokio::time::sleep(again)).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    fn add(&mut self, waiting: Waiting) {
        self.waiting.insert(self.count, waiting);
        self.count += 1;
    }

    /// Forgets what is not sent and nobody waits for.
    fn prune(&mut self) {
        let unsent = self.unsent;
        self.waiting.retain(|number, waiting| *number < unsent || !waiting.confirm.is_closed());
    }

    /// Does something that may take long. `None`: nobody waits for anything any more, and nobody will.
    async fn while_waiting<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        self.unsent = self.waiting.first_key_value().map_or(self.count, |(number, _)| *number);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = tokio::time::sleep(TICK) => {
                    while let Ok(waiting) = self.incoming.try_recv() {
                        self.add(waiting);
                    }
                    self.prune();
                    if self.incoming.is_closed() {
                        return None;
                    }
                }
            }
        }
    }

    async fn serve(&mut self, Opened { link, mut session }: Opened<Sender>) -> Ended {
        self.unsent = self.waiting.first_key_value().map_or(self.count, |(number, _)| *number);
        let mut link = Some(link);
        // It owns the link meanwhile: a message whose sending ends half-way would spoil the link.
        let mut sending: Option<Pin<Box<dyn Future<Output = Sent> + Send>>> = None;
        let mut settling = FuturesUnordered::<Pin<Box<dyn Future<Output = Settled> + Send>>>::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_since = Instant::now();
        let ended = loop {
            let is_careful = self.unsent < self.careful_until && !settling.is_empty();
            if sending.is_none()
                && !is_careful
                && let Some((number, message)) = self.next()
                && let Some(sender) = link.take()
            {
                sending = Some(Box::pin(send(sender, number, message)));
            }
            if !self.waiting.is_empty() {
                idle_since = Instant::now();
            } else if self.shared.is_wanted() || idle_since.elapsed() > IDLE {
                break Ended::Idle;
            }
            let sent = async {
                match &mut sending {
                    Some(sending) => sending.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((number, outcome)) = settling.next(), if !settling.is_empty() => match outcome {
                    Ok(outcome) => self.confirm(number, taken(outcome)),
                    Err(error) => break Ended::Lost(error.into()),
                },
                (sender, number, sent) = sent => {
                    sending = None;
                    match sent {
                        Ok(outcome) => {
                            self.unsent = number + 1;
                            settling.push(Box::pin(async move { (number, outcome.await) }));
                        }
                        Err(error @ SendError::MessageSizeExceeded(_)) => {
                            let text = format!("the broker takes no such message: {error}");
                            self.confirm(number, Err(Error::new(ErrorKind::TooLarge, text)));
                        }
                        Err(error) => {
                            // Of a large message, the broker may have had enough before the end.
                            self.unsent = number + 1;
                            break Ended::Lost(error.into());
                        }
                    }
                    link = Some(sender);
                }
                // Confirms that come no more are told to nobody as long as the link is there.
                _ = session.on_end() => break Ended::Lost(Lost::Connection),
                waiting = self.incoming.recv() => match waiting {
                    Some(waiting) => self.add(waiting),
                    None => break Ended::Closed,
                },
                _ = ticks.tick() => self.prune(),
                () = self.shared.is_wanted.notified() => {}
            }
        };
        drop(sending);
        if let (Ended::Idle, Some(link)) = (&ended, link) {
            Opened { link, session }.close().await;
        }
        ended
    }

    fn next(&mut self) -> Option<(u64, Arc<super::Message>)> {
        loop {
            let (number, waiting) = self.waiting.range(self.unsent..).next()?;
            let number = *number;
            if !waiting.confirm.is_closed() {
                return Some((number, Arc::clone(&waiting.message)));
            }
            self.waiting.remove(&number);
        }
    }

    fn confirm(&mut self, number: u64, taken: Result<Taken, Error>) {
        if let Some(waiting) = self.waiting.remove(&number) {
            let _ = waiting.confirm.send(taken);
        }
    }

    /// The broker has closed the link, perhaps because of a message that was under way: of several, it does not say
    /// of which.
    fn blame(&mut self, refusal: Refusal) {
        if refusal.kind == ErrorKind::NotFound {
            // The queue is gone; it may be made again.
            return;
        }
        let mut under_way = self.waiting.range(..self.unsent).map(|(number, _)| *number);
        match (under_way.next(), under_way.next()) {
            (Some(only), None) => {
                let error = refusal.into_error("the broker refuses the message");
                self.confirm(only, Err(error));
            }
            (Some(_), Some(_)) => self.careful_until = self.unsent,
            (None, _) => {}
        }
    }

    /// The broker opens no link to this queue.
    fn refuse_all(&mut self, refusal: &Refusal) {
        let address = &self.address;
        while let Ok(waiting) = self.incoming.try_recv() {
            self.waiting.insert(self.count, waiting);
            self.count += 1;
        }
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let answer = match refusal.kind {
                ErrorKind::NotFound => Ok(Taken::Unroutable),
                _ => Err(refusal.clone().into_error(&format!("queue '{address}'"))),
            };
            let _ = waiting.confirm.send(answer);
        }
    }
}

fn taken(outcome: Outcome) -> Result<Taken, Error> {
    match outcome {
        Outcome::Accepted(_) => Ok(Taken::Stored),
        Outcome::Rejected(rejected) => {
            let refusal = Refusal::of(rejected.error.as_ref());
            match refusal.kind {
                ErrorKind::NotFound => Ok(Taken::Unroutable),
                _ => Err(refusal.into_error("the broker refuses the message")),
            }
        }
        Outcome::Released(_) | Outcome::Modified(_) => {
            Err(Error::new(ErrorKind::Refused, "the broker does not take the message now"))
        }
    }
}
