//! Webhooks: outcomes posted to URLs, according to the Standard Webhooks specification.
//!
//! Owns the list of webhooks, a task for each that is enabled, and the file in which they are kept.
//! A webhook has a cursor; its task continues from there (module `delivery`).
//!
//! *Invariants:* the file is written from the state in memory, one writer at a time (module
//! `keeping`). A change by a user or a failure is in the file before anybody is told of it; how far
//! deliveries have come follows within about a second, so a delivery costs no commit. A secret is
//! shown once, when the webhook is created. A webhook is sent what its user sees, who must be an
//! administrator; without that user it is disabled.

mod address;
mod client;
pub(crate) mod connection;
pub(crate) mod delivery;
pub(crate) mod endpoint;
mod file;
mod keeping;
pub(crate) mod model;
mod schedule;
pub(crate) mod signature;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use self::client::Client;
use self::file::WebhookFile;
use self::model::Webhook;
use crate::error::ManagementError;
use crate::follow::Follower;
use crate::ports::{OutcomeQuery, Ports};
use crate::problem::{Answer, Kind, Problem};
use crate::stopping::Stop;

pub(crate) use schedule::{Attempt, RETRY_DELAYS};

/// The most webhooks; each one that lags reads outcomes by itself.
const COUNT_MAX: usize = 100;

/// How webhooks are opened.
pub(crate) struct Options<'s> {
    /// The directory that holds the file.
    pub(crate) data: &'s Path,
    /// Whether private addresses may be called.
    pub(crate) allow_private_addresses: bool,
    /// How long to wait after each failed attempt.
    pub(crate) retry_delays: Vec<Duration>,
}

/// See the module's documentation. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Webhooks(Arc<Inner>);

struct Inner {
    ports: Ports,
    client: Client,
    file: WebhookFile,
    retry_delays: Vec<Duration>,
    /// Held while the file is written.
    writing: Mutex<()>,
    webhooks: Mutex<BTreeMap<String, Webhook>>,
    /// Webhooks for which the file is out of date.
    noted: Mutex<BTreeSet<String>>,
    tasks: Mutex<BTreeMap<String, JoinHandle<()>>>,
    stop: Stop,
}

impl Webhooks {
    /// Reads the webhooks and starts to deliver.
    pub(crate) fn open(ports: Ports, options: Options<'_>) -> Result<Self, ManagementError> {
        let has_history = ports.broker.has_history();
        let file = WebhookFile::open(options.data, has_history)?;
        let all = file.all()?;
        let webhooks = Self(Arc::new(Inner {
            ports,
            client: Client::new(options.allow_private_addresses),
            file,
            retry_delays: options.retry_delays,
            writing: Mutex::new(()),
            webhooks: Mutex::new(all.into_iter().map(|w| (w.id.clone(), w)).collect()),
            noted: Mutex::default(),
            tasks: Mutex::default(),
            stop: Stop::new(),
        }));
        webhooks.all().iter().for_each(|webhook| webhooks.start(&webhook.id));
        tokio::spawn(keeping::run(webhooks.clone()));
        Ok(webhooks)
    }

    /// Ends all deliveries; those under way are repeated after the next start.
    pub(crate) async fn stop(&self) {
        self.0.stop.stop();
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        for (_, task) in tasks {
            task.abort();
            // It is meant to end, so being aborted is no error.
            let _ = task.await;
        }
        if let Err(error) = self.keep().await {
            tracing::error!("the last deliveries to webhooks will be repeated: {error}");
        }
    }

    /// All webhooks, in the order of their creation.
    pub(crate) fn all(&self) -> Vec<Webhook> {
        self.0.webhooks.lock().values().cloned().collect()
    }

    /// The webhook with an id.
    pub(crate) fn find(&self, id: &str) -> Option<Webhook> {
        self.0.webhooks.lock().get(id).cloned()
    }

    /// Adds a webhook, which is sent everything that is settled from now on.
    pub(crate) async fn add(&self, mut webhook: Webhook) -> Answer<Webhook> {
        let end = self.0.ports.messages.end().await?;
        webhook.cursor = end.map(|cursor| cursor.to_string());
        let this = self.clone();
        let added = tokio::task::spawn_blocking(move || {
            let _writing = this.0.writing.lock();
            if this.0.webhooks.lock().len() >= COUNT_MAX {
                let detail = format!("there may be {COUNT_MAX} webhooks; delete one");
                return Err(Problem::new(Kind::TooManyWebhooks, detail));
            }
            this.0.file.put(std::slice::from_ref(&webhook)).map_err(Problem::store)?;
            this.0.webhooks.lock().insert(webhook.id.clone(), webhook.clone());
            Ok(webhook)
        });
        let webhook = added.await.map_err(Problem::store)??;
        self.start(&webhook.id);
        Ok(webhook)
    }

    /// Deletes a webhook.
    pub(crate) async fn delete(&self, id: &str) -> Answer<()> {
        self.end(id);
        let (this, id) = (self.clone(), id.to_owned());
        let deleted = tokio::task::spawn_blocking(move || {
            let _writing = this.0.writing.lock();
            if this.0.webhooks.lock().remove(&id).is_none() {
                return Err(unknown(&id));
            }
            this.0.file.remove(&id).map_err(Problem::store)
        });
        deleted.await.map_err(Problem::store)?
    }

    /// Starts to deliver to a webhook; if delivery is under way already, starts it anew.
    pub(crate) fn start(&self, id: &str) {
        self.end(id);
        if self.0.stop.is_stopped() || self.find(id).is_none_or(|webhook| !webhook.enabled) {
            return;
        }
        let task = tokio::spawn(delivery::run(self.clone(), id.to_owned()));
        self.0.tasks.lock().insert(id.to_owned(), task);
    }

    fn end(&self, id: &str) {
        if let Some(task) = self.0.tasks.lock().remove(id) {
            task.abort();
        }
    }

    fn ports(&self) -> &Ports {
        &self.0.ports
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    fn retry_delays(&self) -> &[Duration] {
        &self.0.retry_delays
    }

    fn follower(&self, query: OutcomeQuery) -> Follower {
        Follower::new(Arc::clone(&self.0.ports.messages), self.0.stop.listen(), query)
    }
}

pub(crate) fn unknown(id: &str) -> Problem {
    Problem::new(Kind::UnknownWebhook, format!("there is no webhook '{id}'"))
}
