//! What a worker reports about a message before it settles it: a result or an error text, published
//! to `amq.wilco.report` with the message's id as routing key, on the channel that holds the
//! message.

use std::sync::Arc;

use amqp::{Properties, ValueRef};
use broker::BrokerError;
use outcome::{DEADLINE_MS_DEFAULT, IdHash, REPORT_BYTES_MAX, Report};

use crate::auth::Access;
use crate::names::REPORT_EXCHANGE;
use crate::registry::report_key;
use crate::session::channel::NotedProgress;
use crate::session::headers::Headers;
use crate::session::publishes::Publish;
use crate::session::state::Session;

/// All of it, in thousandths.
const PERMILLE_MAX: u16 = 1000;
/// Bytes of a text on progress that are kept.
const TEXT_BYTES_MAX: usize = 255;
/// The most bytes of reports a channel may hold about messages it has not settled.
const REPORTS_BYTES_MAX: usize = 16 << 20;

impl Session {
    /// Takes in a report. One about a message that this channel does not hold is ignored with a
    /// warning: it is refused in confirm mode, and returned when it is mandatory.
    ///
    /// # Errors
    /// `ACCESS_REFUSED`, `PRECONDITION_FAILED` for an invalid `x-outcome`.
    pub(super) fn report(
        &mut self,
        number: u16,
        publish: &Publish<'_>,
        properties: &Properties<'_>,
        headers: &Headers,
    ) -> Result<(), BrokerError> {
        self.check(Access::Write, "exchange", REPORT_EXCHANGE)?;
        let is_error = is_error(properties)?;
        let progress = progress(properties)?;
        let id = IdHash::new(&self.vhost.realm, publish.routing_key).0;
        let key = report_key(id);
        let outbox = self.outbox.lock();
        let channel = outbox.channels.get(&number);
        let is_open = |tag| self.is_open(number, tag);
        let tag = channel.and_then(|channel| channel.unsettled.tag_of(key, is_open));
        drop(outbox);
        let has_room = self.channel(number)?.reports.bytes() < REPORTS_BYTES_MAX;
        let Some(tag) = tag.filter(|_| has_room) else {
            self.refuse_report(number, publish);
            return self.refuse_in_turn(number);
        };
        if let Some(permille) = progress {
            self.note_progress((number, tag), id, permille, publish.body)?;
            return self.confirm_in_turn(number);
        }
        let bytes_published = publish.body.len() as u64;
        if bytes_published > REPORT_BYTES_MAX as u64 {
            tracing::warn!(bytes = bytes_published, "a report is cut to 64 KiB");
        }
        let mut report = Report {
            is_error,
            content_type: properties.content_type.map(ToOwned::to_owned),
            body: publish.body[..publish.body.len().min(REPORT_BYTES_MAX)].to_vec(),
            bytes_published,
            ticket: None,
        };
        if self.waits_for_ack(number, headers.request)
            && let Some(message) = self.next_confirm(number)
        {
            let deadline_ms = headers.request.deadline_ms.unwrap_or(DEADLINE_MS_DEFAULT);
            let deadline_at_ms = self.engine.now_ms().saturating_add(deadline_ms);
            report.ticket = self.hold_confirm(number, message, 1, deadline_at_ms);
            self.confirm_also(number, message);
        } else {
            self.confirm_in_turn(number)?;
        }
        self.keep_report(number, tag, report)
    }

    /// What a worker in this process reports about a delivery to it, before it settles that; ignored if the
    /// channel does not hold it, or nothing is known of its message later.
    ///
    /// # Errors
    /// `CHANNEL_ERROR` when the channel is not open.
    pub fn report_on(&mut self, number: u16, tag: u64, report: Report) -> Result<(), BrokerError> {
        let outbox = self.outbox.lock();
        let channel = outbox.channels.get(&number);
        let unsettled = channel.and_then(|channel| channel.unsettled.get(tag));
        // Without a key nothing is known of the message, and nobody asks.
        let is_held = unsettled.is_some_and(|unsettled| unsettled.report != 0);
        drop(outbox);
        if is_held && self.is_open(number, tag) {
            self.keep_report(number, tag, report)?;
        }
        Ok(())
    }

    /// Whether a delivery has not been settled: what came first counts, even within one batch.
    fn is_open(&self, number: u16, tag: u64) -> bool {
        !self.settles.iter().any(|settle| settle.covers(number, tag))
    }

    fn keep_report(&mut self, number: u16, tag: u64, report: Report) -> Result<(), BrokerError> {
        if let Some(before) = self.channel(number)?.reports.insert(tag, report) {
            // The worker changed its mind.
            self.forget_report(&before);
        }
        Ok(())
    }

    /// Notes how far a worker has got: not each time, and not short of disk or memory, since nothing depends
    /// on it.
    fn note_progress(
        &mut self,
        (number, tag): (u16, u64),
        id: u128,
        permille: u16,
        text: &[u8],
    ) -> Result<(), BrokerError> {
        let now_ms = self.engine.now_ms();
        let noted = &mut self.channel(number)?.progress;
        let before = noted.get(&tag).copied();
        if before.is_some_and(|before| !before.is_due(now_ms)) {
            return Ok(());
        }
        let first_at_ms = before.map_or(now_ms, |before| before.first_at_ms);
        noted.insert(tag, NotedProgress { first_at_ms, last_at_ms: now_ms });
        if self.engine.holds_publishers() {
            return Ok(());
        }
        let outbox = self.outbox.lock();
        let channel = outbox.channels.get(&number);
        let found = channel.and_then(|channel| {
            let unsettled = channel.unsettled.get(tag)?;
            let queue = channel.queues.get(unsettled.queue as usize)?;
            Some((Arc::clone(queue), unsettled.id.attempt()))
        });
        drop(outbox);
        let Some((queue, attempt)) = found else { return Ok(()) };
        let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]);
        self.engine.note_progress(&queue, id, attempt, permille, &text);
        Ok(())
    }

    /// Forgets a report that will reach nobody.
    pub(super) fn forget_report(&self, report: &Report) {
        self.engine.settle_now(report.ticket, false);
    }

    fn refuse_report(&self, number: u16, publish: &Publish<'_>) {
        self.engine.outcomes.count_ignored_report();
        tracing::warn!(
            message_id = %publish.routing_key,
            "a report is ignored: its channel holds no message with this id, or too many reports"
        );
        if publish.mandatory {
            self.send_return(number, publish);
        }
    }
}

/// A header of a report.
fn header<'p>(
    properties: &Properties<'p>,
    name: &str,
) -> Result<Option<ValueRef<'p>>, BrokerError> {
    let Some(headers) = properties.headers else { return Ok(None) };
    headers.get(name).map_err(|error| BrokerError::syntax_error(error.to_string()))
}

/// How far the worker has got, in thousandths, if that is what it reports.
fn progress(properties: &Properties<'_>) -> Result<Option<u16>, BrokerError> {
    let Some(value) = header(properties, "x-progress")? else { return Ok(None) };
    let permille = value.as_i64().and_then(|permille| u16::try_from(permille).ok());
    match permille.filter(|permille| *permille <= PERMILLE_MAX) {
        Some(permille) => Ok(Some(permille)),
        None => Err(BrokerError::precondition_failed(
            "header 'x-progress' of a report: it must be an integer from 0 to 1000, thousandths",
        )),
    }
}

/// Whether the body is an error text.
fn is_error(properties: &Properties<'_>) -> Result<bool, BrokerError> {
    match header(properties, "x-outcome")?.map(|value| value.as_str()) {
        None | Some(Some("processed")) => Ok(false),
        Some(Some("failed")) => Ok(true),
        Some(_) => Err(BrokerError::precondition_failed(
            "header 'x-outcome' of a report: it must be 'failed' or 'processed'",
        )),
    }
}
