//! The record kinds that outcomes add to the message log, byte by byte (little-endian).
//!
//! | kind | payload |
//! |---|---|
//! | 5 outcomes | queue id `u32` (all ones: reached no queue), virtual host and queue `short` each, time `u64` (ms since the epoch), then [`Outcomes`] entries: flags `u16`, outcome `u8`, reason `u8`, position `u64` (all ones: not in the log), attempts `u16`, queues `u16`, published at `u64`, message id `short`; by flags: worker `short`, error `long`, content type `short`, result `long`, dead-letter exchange `short`, message `long` |
//! | 6 notes | type `u8`, queue id `u32`, queue `short`, worker `short`, time `u64`, then [`Note`]s: id hash 16 bytes, attempts `u16`, retry at `u64` |
//! | 7 missed | queue id `u32`, then positions `u64` of messages whose deadline was told |
//!
//! A `short` is a length `u8` followed by that many bytes, a `long` a length `u32` followed by that
//! many bytes.
//!
//! *Invariant:* an outcome record is settlement and outcome in one: if its entry *settles*, the
//! message at that position has left the queue. Reason 0 means that the reason is not the queue's
//! own.

use amqp::BStr;
use broker::{Position, QueueId};
use outcome::{Details, Flags, Outcome, Reason, Verdict};
use segment_log::Batch;

/// Kind of [`Outcomes`].
pub(crate) const OUTCOMES: u8 = 5;
/// Kind of [`Notes`].
pub(crate) const NOTES: u8 = 6;
/// Kind of the record that notes missed deadlines whose outcome is logged.
pub(crate) const MISSED: u8 = 7;

/// Stands for the position of a message that is not in the log.
const NO_POSITION: u64 = u64::MAX;

/// Stands for the queue of a message that reached none.
pub(crate) const NO_QUEUE: QueueId = QueueId(u32::MAX);

/// What applies to all entries of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutcomesHead<'a> {
    pub queue_id: QueueId,
    pub vhost: &'a str,
    pub queue: &'a str,
    pub time_ms: u64,
}

/// The outcome of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutcomeEntry<'a> {
    /// The message's position in the log, if it is there.
    pub position: Option<Position>,
    /// Whether the message has left the queue.
    pub settles: bool,
    pub verdict: Verdict,
    pub details: Details<'a>,
    /// Head and content, stored so that the message can be tried again.
    pub message: Option<&'a [u8]>,
}

impl OutcomeEntry<'_> {
    /// The position of the message if it has left its queue with this entry.
    pub(crate) fn settled_position(&self) -> Option<u64> {
        self.position.filter(|_| self.settles).map(Position::get)
    }
}

const SETTLES: u16 = 1;
/// The four bits from here on are the stored flags of the verdict.
const FLAGS_SHIFT: u32 = 1;
const HAS_WORKER: u16 = 32;
const HAS_ERROR: u16 = 64;
const HAS_CONTENT_TYPE: u16 = 128;
const HAS_RESULT: u16 = 256;
const HAS_DEAD_LETTER: u16 = 512;
const HAS_MESSAGE: u16 = 1024;

/// Builds a record in a buffer.
pub(crate) struct OutcomesWriter<'a> {
    out: &'a mut Vec<u8>,
    head_bytes: usize,
}

impl<'a> OutcomesWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, head: &OutcomesHead<'_>) -> Self {
        out.clear();
        out.extend_from_slice(&head.queue_id.0.to_le_bytes());
        short(out, head.vhost);
        short(out, head.queue);
        out.extend_from_slice(&head.time_ms.to_le_bytes());
        let head_bytes = out.len();
        Self { out, head_bytes }
    }

    pub(crate) fn push(&mut self, entry: &OutcomeEntry<'_>) {
        let OutcomeEntry { position, settles, verdict, details, message } = entry;
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let flags = flag(*settles, SETTLES)
            | u16::from(verdict.flags.kept_bits()) << FLAGS_SHIFT
            | flag(!details.worker.is_empty(), HAS_WORKER)
            | flag(details.error.is_some(), HAS_ERROR)
            | flag(details.content_type.is_some(), HAS_CONTENT_TYPE)
            | flag(details.result.is_some(), HAS_RESULT)
            | flag(details.dead_letter_exchange.is_some(), HAS_DEAD_LETTER)
            | flag(message.is_some(), HAS_MESSAGE);
        let out = &mut *self.out;
        out.extend_from_slice(&flags.to_le_bytes());
        out.push(verdict.outcome as u8);
        out.push(verdict.reason.map_or(0, |reason| reason as u8));
        out.extend_from_slice(&position.map_or(NO_POSITION, Position::get).to_le_bytes());
        out.extend_from_slice(&verdict.attempts.to_le_bytes());
        out.extend_from_slice(&verdict.queue_count.to_le_bytes());
        out.extend_from_slice(&verdict.published_at_ms.to_le_bytes());
        short_bytes(out, &details.message_id);
        if !details.worker.is_empty() {
            short(out, &details.worker);
        }
        if let Some(error) = &details.error {
            long(out, error);
        }
        if let Some(content_type) = &details.content_type {
            short_bytes(out, content_type);
        }
        if let Some(result) = &details.result {
            long(out, result);
        }
        if let Some(exchange) = &details.dead_letter_exchange {
            short(out, exchange);
        }
        if let Some(message) = message {
            long(out, message);
        }
    }

    /// Appends the record, if there is anything in it.
    pub(crate) fn append(self, batch: &mut Batch) {
        const KEPT_CAPACITY_BYTES: usize = 1 << 20;
        if self.out.len() > self.head_bytes {
            batch.append(OUTCOMES, 0, &[self.out]);
        }
        self.out.clear();
        self.out.shrink_to(KEPT_CAPACITY_BYTES);
    }
}

/// Parses a record of outcomes.
pub(crate) fn parse_outcomes(
    payload: &[u8],
) -> Option<(OutcomesHead<'_>, impl Iterator<Item = OutcomeEntry<'_>>)> {
    let mut rest = Fields(payload);
    let head = OutcomesHead {
        queue_id: QueueId(u32::from_le_bytes(rest.array()?)),
        vhost: rest.short()?,
        queue: rest.short()?,
        time_ms: rest.u64()?,
    };
    Some((head, std::iter::from_fn(move || rest.entry())))
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum NoteKind {
    Delivered = 1,
    Requeued = 2,
    Received = 3,
    /// The worker's text is in the place of its name, thousandths in that of the time of a retry.
    Progress = 4,
}

/// What applies to all notes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotesHead<'a> {
    pub kind: NoteKind,
    pub queue_id: QueueId,
    pub queue: &'a str,
    pub worker: &'a str,
    pub time_ms: u64,
}

/// Something that happened to a message without ending its stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub id: u128,
    pub attempts: u16,
    pub retry_at_ms: u64,
}

/// Appends notes, if there are any.
pub(crate) fn append_notes(
    batch: &mut Batch,
    head: &NotesHead<'_>,
    notes: impl Iterator<Item = Note>,
    scratch: &mut Vec<u8>,
) {
    scratch.clear();
    scratch.push(head.kind as u8);
    scratch.extend_from_slice(&head.queue_id.0.to_le_bytes());
    short(scratch, head.queue);
    short(scratch, head.worker);
    scratch.extend_from_slice(&head.time_ms.to_le_bytes());
    let head_bytes = scratch.len();
    for note in notes {
        scratch.extend_from_slice(&note.id.to_le_bytes());
        scratch.extend_from_slice(&note.attempts.to_le_bytes());
        scratch.extend_from_slice(&note.retry_at_ms.to_le_bytes());
    }
    if scratch.len() > head_bytes {
        batch.append(NOTES, 0, &[scratch]);
    }
}

/// Parses a record of notes.
pub(crate) fn parse_notes(payload: &[u8]) -> Option<(NotesHead<'_>, impl Iterator<Item = Note>)> {
    let mut rest = Fields(payload);
    let kind = match rest.u8()? {
        1 => NoteKind::Delivered,
        2 => NoteKind::Requeued,
        3 => NoteKind::Received,
        4 => NoteKind::Progress,
        _ => return None,
    };
    let head = NotesHead {
        kind,
        queue_id: QueueId(u32::from_le_bytes(rest.array()?)),
        queue: rest.short()?,
        worker: rest.short()?,
        time_ms: rest.u64()?,
    };
    let notes = std::iter::from_fn(move || {
        Some(Note {
            id: u128::from_le_bytes(rest.array()?),
            attempts: rest.u16()?,
            retry_at_ms: rest.u64()?,
        })
    });
    Some((head, notes))
}

/// Appends that the missed deadlines of these messages have their outcome, if there are any.
pub(crate) fn append_missed(
    batch: &mut Batch,
    queue: QueueId,
    positions: impl Iterator<Item = u64>,
    scratch: &mut Vec<u8>,
) {
    scratch.clear();
    scratch.extend_from_slice(&queue.0.to_le_bytes());
    positions.for_each(|position| scratch.extend_from_slice(&position.to_le_bytes()));
    if scratch.len() > 4 {
        batch.append(MISSED, 0, &[scratch]);
    }
}

/// Parses a record of missed deadlines: queue and positions.
pub(crate) fn parse_missed(payload: &[u8]) -> Option<(QueueId, impl Iterator<Item = u64>)> {
    let mut rest = Fields(payload);
    let queue = QueueId(u32::from_le_bytes(rest.array()?));
    Some((queue, std::iter::from_fn(move || rest.u64())))
}

fn short(out: &mut Vec<u8>, text: &str) {
    short_bytes(out, &text.as_bytes()[..text.floor_char_boundary(255)]);
}

fn short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(255)];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads fields from the front; `None` at the end, or if they do not fit.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn short(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short_bytes()?).ok()
    }

    /// What a client wrote, which need not be UTF-8.
    fn short_bytes(&mut self) -> Option<&'a BStr> {
        let len = usize::from(self.u8()?);
        self.bytes(len).map(BStr::new)
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        self.bytes(len)
    }

    fn entry(&mut self) -> Option<OutcomeEntry<'a>> {
        let flags = self.u16()?;
        let outcome = Outcome::from_number(self.u8()?)?;
        let reason = Reason::from_number(self.u8()?);
        let position = Some(self.u64()?).filter(|position| *position != NO_POSITION);
        let position = position.map(Position::new);
        let verdict = Verdict {
            outcome,
            reason,
            attempts: self.u16()?,
            queue_count: self.u16()?,
            published_at_ms: self.u64()?,
            flags: Flags::from_kept_bits((flags >> FLAGS_SHIFT) as u8),
        };
        let details = self.details(flags)?;
        let message = if flags & HAS_MESSAGE != 0 { Some(self.long()?) } else { None };
        let settles = flags & SETTLES != 0;
        Some(OutcomeEntry { position, settles, verdict, details, message })
    }

    fn details(&mut self, flags: u16) -> Option<Details<'a>> {
        let has = |flag: u16| flags & flag != 0;
        let mut details = Details { message_id: self.short_bytes()?.into(), ..Details::default() };
        if has(HAS_WORKER) {
            details.worker = self.short()?.into();
        }
        if has(HAS_ERROR) {
            details.error = Some(BStr::new(self.long()?).into());
        }
        if has(HAS_CONTENT_TYPE) {
            details.content_type = Some(self.short_bytes()?.into());
        }
        if has(HAS_RESULT) {
            details.result = Some(self.long()?.into());
        }
        if has(HAS_DEAD_LETTER) {
            details.dead_letter_exchange = Some(self.short()?.into());
        }
        Some(details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> OutcomeEntry<'static> {
        OutcomeEntry {
            position: Some(Position::new(77)),
            settles: true,
            verdict: Verdict {
                outcome: Outcome::Processed,
                reason: Some(Reason::Acked),
                attempts: 2,
                queue_count: 3,
                published_at_ms: 1_000,
                flags: Flags::NOTIFIED,
            },
            details: Details { message_id: BStr::new("m-1").into(), ..Details::default() },
            message: None,
        }
    }

    fn full() -> OutcomeEntry<'static> {
        let mut full = entry();
        full.verdict.outcome = Outcome::Failed;
        full.verdict.reason = Some(Reason::Rejected);
        full.verdict.flags = Flags::UNVERIFIED.with(Flags::LATE).with(Flags::COPY);
        full.details = Details {
            message_id: BStr::new("m-1").into(),
            worker: "w".into(),
            error: Some(BStr::new("no such customer").into()),
            content_type: Some(BStr::new("text/plain").into()),
            result: Some(b"body".as_slice().into()),
            dead_letter_exchange: Some("".into()),
        };
        full.message = Some(b"head and content");
        full
    }

    #[test]
    fn outcomes_come_back() {
        let mut missed = OutcomeEntry { settles: false, ..entry() };
        (missed.verdict.outcome, missed.verdict.reason) = (Outcome::DeadlineMissed, None);
        let entries = [entry(), full(), missed];
        let head = OutcomesHead { queue_id: QueueId(9), vhost: "/", queue: "tasks", time_ms: 5 };
        let (mut batch, mut scratch) = (Batch::new(0), Vec::new());
        let mut writer = OutcomesWriter::new(&mut scratch, &head);
        entries.iter().for_each(|entry| writer.push(entry));
        writer.append(&mut batch);
        let record = batch.read(0).expect("one record");
        let (back, read) = parse_outcomes(record.payload).expect("well-formed");
        assert_eq!((record.kind, back), (OUTCOMES, head));
        assert_eq!(read.collect::<Vec<_>>(), entries);
    }

    #[test]
    fn an_entry_has_the_bytes_that_the_format_says() {
        let head = OutcomesHead { queue_id: QueueId(9), vhost: "/", queue: "q", time_ms: 5 };
        let (mut batch, mut scratch) = (Batch::new(0), Vec::new());
        let mut writer = OutcomesWriter::new(&mut scratch, &head);
        writer.push(&full());
        writer.append(&mut batch);
        let record = batch.read(0).expect("one record");
        let mut expected = Vec::new();
        expected.extend_from_slice(&[9, 0, 0, 0, 1, b'/', 1, b'q', 5, 0, 0, 0, 0, 0, 0, 0]);
        // Settles, unverified, late, copy; worker to message.
        expected.extend_from_slice(&(15_u16 + 32 + 64 + 128 + 256 + 512 + 1024).to_le_bytes());
        expected.extend_from_slice(&[5, 3, 77, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0]);
        expected.extend_from_slice(&1_000_u64.to_le_bytes());
        expected.extend_from_slice(b"\x03m-1\x01w\x10\0\0\0no such customer\x0atext/plain");
        expected.extend_from_slice(b"\x04\0\0\0body\0\x10\0\0\0head and content");
        assert_eq!(record.payload, expected);
    }

    #[test]
    fn notes_and_missed_deadlines_come_back() {
        let (mut batch, mut scratch) = (Batch::new(0), Vec::new());
        let head = NotesHead {
            kind: NoteKind::Requeued,
            queue_id: QueueId(9),
            queue: "tasks",
            worker: "w",
            time_ms: 5,
        };
        let notes = [1u128, u128::MAX].map(|id| Note { id, attempts: 3, retry_at_ms: 99 });
        append_notes(&mut batch, &head, notes.into_iter(), &mut scratch);
        let end = batch.end();
        append_missed(&mut batch, QueueId(4), [7, 1 << 50].into_iter(), &mut scratch);
        append_missed(&mut batch, QueueId(4), std::iter::empty(), &mut scratch);
        let record = batch.read(0).expect("notes");
        let (back, read) = parse_notes(record.payload).expect("well-formed");
        assert_eq!((back, read.collect::<Vec<_>>()), (head, notes.to_vec()));
        let record = batch.read(end).expect("missed");
        let (queue, positions) = parse_missed(record.payload).expect("well-formed");
        assert_eq!((queue, positions.collect::<Vec<_>>()), (QueueId(4), vec![7, 1 << 50]));
        assert_eq!(record.end(), batch.end(), "what has nothing to say is not written");
    }

    proptest::proptest! {
        #[test]
        fn damaged_records_are_read_without_panic(payload: Vec<u8>, cut in 0usize..200) {
            let head = OutcomesHead { queue_id: QueueId(9), vhost: "/", queue: "q", time_ms: 5 };
            let (mut batch, mut scratch) = (Batch::new(0), Vec::new());
            let mut writer = OutcomesWriter::new(&mut scratch, &head);
            writer.push(&full());
            writer.append(&mut batch);
            let whole = batch.read(0).expect("one record").payload;
            let mut damaged = whole[..cut.min(whole.len())].to_vec();
            damaged.extend(&payload);
            for bytes in [&payload, &damaged] {
                if let Some((_, entries)) = parse_outcomes(bytes) {
                    proptest::prop_assert!(entries.count() <= bytes.len());
                }
                let _ = parse_notes(bytes).map(|(_, notes)| notes.count());
                let _ = parse_missed(bytes).map(|(_, positions)| positions.count());
            }
        }
    }
}
