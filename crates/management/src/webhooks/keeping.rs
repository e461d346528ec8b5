//! When the file is written: at once for what matters, now and then for how far deliveries have
//! come.
//!
//! *Invariants:* what is written is the state of memory at that moment, so a later change is never
//! overwritten by an earlier one; what could not be written is written later.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::Webhook;
use super::{Webhooks, unknown};
use crate::error::ManagementError;
use crate::problem::{Answer, Problem};

/// How far the file may lag behind.
const KEEP_EVERY: Duration = Duration::from_secs(1);

impl Webhooks {
    /// Changes a webhook, in memory and in the file.
    pub(crate) async fn update<T: Send + 'static>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Webhook) -> T,
    ) -> Answer<T> {
        let answer = self.note(id, change).ok_or_else(|| unknown(id))?;
        let (this, id) = (self.clone(), id.to_owned());
        let written = tokio::task::spawn_blocking(move || this.write(BTreeSet::from([id])));
        written.await.map_err(Problem::store)?.map_err(Problem::store)?;
        Ok(answer)
    }

    /// Changes a webhook in memory; the file follows soon. `None` when the webhook has been
    /// deleted.
    pub(super) fn note<T>(&self, id: &str, change: impl FnOnce(&mut Webhook) -> T) -> Option<T> {
        let answer = self.0.webhooks.lock().get_mut(id).map(change)?;
        self.0.noted.lock().insert(id.to_owned());
        Some(answer)
    }

    /// Writes all webhooks for which the file is out of date.
    pub(super) async fn keep(&self) -> Result<(), ManagementError> {
        let noted = self.0.noted.lock().clone();
        if noted.is_empty() {
            return Ok(());
        }
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write(noted)).await;
        // It panicked: then that is all there is to report.
        written.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
    }

    /// Writes these webhooks as they are now, including any changes made in between.
    fn write(&self, ids: BTreeSet<String>) -> Result<(), ManagementError> {
        let _writing = self.0.writing.lock();
        self.0.noted.lock().retain(|id| !ids.contains(id));
        let webhooks: Vec<Webhook> = ids.iter().filter_map(|id| self.find(id)).collect();
        let written = self.0.file.put(&webhooks);
        if written.is_err() {
            self.0.noted.lock().extend(ids);
        }
        written
    }
}

/// Writes noted changes now and then, until the server stops.
pub(super) async fn run(webhooks: Webhooks) {
    let mut stopping = webhooks.0.stop.listen();
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(KEEP_EVERY) => {}
            () = stopping.stopped() => return,
        }
        let kept = webhooks.keep().await;
        if let Err(error) = &kept
            && !is_failing
        {
            tracing::error!("how far webhooks are delivered is not written down: {error}");
        }
        is_failing = kept.is_err();
    }
}
