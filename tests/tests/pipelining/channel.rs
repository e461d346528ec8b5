//! One channel as its client sees it: what has yet to be answered, confirmed and settled.

use end_to_end::raw::{Args, BODY, Frame, HEADER, METHOD};
use std::collections::{BTreeSet, VecDeque};

/// What the client may send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Only `channel.open`.
    Closed,
    /// Everything; `channel.open` was sent, though perhaps not answered.
    Open,
    /// Nothing: `channel.close` was sent.
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Confirm,
    Transaction,
}

/// A method that waits for its answer.
#[derive(Clone, Copy)]
pub(crate) struct Awaited {
    pub(crate) what: &'static str,
    /// Ids of the answers it may get.
    pub(crate) answers: &'static [(u16, u16)],
    /// A delivery in the answer must be acknowledged.
    pub(crate) to_acknowledge: bool,
}

/// Which part of a message comes next.
enum Content {
    Header,
    Body(u64),
}

pub(crate) struct Channel {
    number: u16,
    pub(crate) state: State,
    pub(crate) mode: Mode,
    awaited: VecDeque<Awaited>,
    published: u64,
    unconfirmed: BTreeSet<u64>,
    /// Tags of deliveries that may be settled.
    pub(crate) unsettled: Vec<u64>,
    /// Tags settled since the transaction began.
    pub(crate) settled_in_transaction: Vec<u64>,
    /// Consumers that were requested; the tags of those that do not acknowledge contain an `n`.
    pub(crate) consumers: Vec<String>,
    /// Consumers that the server has confirmed.
    started: BTreeSet<String>,
    content: Option<Content>,
}

impl Channel {
    pub(crate) fn new(number: u16) -> Channel {
        Channel {
            number,
            state: State::Closed,
            mode: Mode::Plain,
            awaited: VecDeque::new(),
            published: 0,
            unconfirmed: BTreeSet::new(),
            unsettled: Vec::new(),
            settled_in_transaction: Vec::new(),
            consumers: Vec::new(),
            started: BTreeSet::new(),
            content: None,
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// A method was sent.
    pub(crate) fn await_answer(&mut self, awaited: Awaited) {
        self.awaited.push_back(awaited);
    }

    /// A message was sent.
    pub(crate) fn published(&mut self) {
        if self.mode == Mode::Confirm {
            self.published += 1;
            self.unconfirmed.insert(self.published);
        }
    }

    /// `channel.close` was sent: confirms that are under way are no longer awaited.
    pub(crate) fn leave(&mut self) {
        self.state = State::Closing;
        self.unconfirmed.clear();
    }

    pub(crate) fn awaits_something(&self) -> bool {
        !self.awaited.is_empty() || !self.unconfirmed.is_empty() || self.content.is_some()
    }

    pub(crate) fn awaited(&self) -> Option<String> {
        let methods: Vec<_> = self.awaited.iter().map(|awaited| awaited.what).collect();
        let text = format!(
            "channel {}: answers to {methods:?}, confirms of {:?}",
            self.number, self.unconfirmed
        );
        self.awaits_something().then_some(text)
    }

    /// Takes a frame from the server; returns what must be sent because of it.
    pub(crate) fn take(&mut self, frame: &Frame) -> Result<Vec<u8>, String> {
        if let Some(content) = self.content.take() {
            return self.take_content(&content, frame);
        }
        if self.state == State::Closed || frame.kind != METHOD {
            return Err(format!("on channel {}, {:?}: {frame:?}", self.number, self.state));
        }
        let mut fields = frame.fields();
        if frame.is(20, 40) {
            return Ok(self.closed_by_error());
        } else if frame.is(60, 80) || frame.is(60, 120) {
            self.confirm(fields.u64(), fields.u8() & 1 != 0)?;
        } else if frame.is(60, 30) {
            let tag = fields.short();
            self.consumers.retain(|other| *other != tag);
        } else if frame.is(60, 50) {
            self.content = Some(Content::Header);
        } else if frame.is(60, 60) {
            let (tag, delivery) = (fields.short(), fields.u64());
            if !self.started.contains(&tag) {
                return Err(format!("a delivery to '{tag}' before its consume-ok"));
            }
            if !tag.starts_with('n') {
                self.unsettled.push(delivery);
            }
            self.content = Some(Content::Header);
        } else {
            self.answer(frame)?;
        }
        Ok(Vec::new())
    }

    fn take_content(&mut self, content: &Content, frame: &Frame) -> Result<Vec<u8>, String> {
        let left = match (content, frame.kind) {
            (Content::Header, HEADER) => Some(frame.fields().u64()),
            (Content::Body(left), BODY) => left.checked_sub(frame.payload.len() as u64),
            _ => None,
        };
        let left = left.ok_or_else(|| format!("amid a message: {frame:?}"))?;
        self.content = (left > 0).then_some(Content::Body(left));
        Ok(Vec::new())
    }

    /// The oldest waiting method gets this answer.
    fn answer(&mut self, frame: &Frame) -> Result<(), String> {
        let awaited = self.awaited.pop_front();
        let awaited = awaited.ok_or_else(|| format!("nobody asked for {frame:?}"))?;
        if !awaited.answers.iter().any(|&(class, method)| frame.is(class, method)) {
            return Err(format!("'{}' is answered with {frame:?}", awaited.what));
        }
        let mut fields = frame.fields();
        if frame.is(60, 21) {
            self.started.insert(fields.short());
        } else if frame.is(60, 71) {
            self.content = Some(Content::Header);
            if awaited.to_acknowledge {
                self.unsettled.push(fields.u64());
            }
        } else if frame.is(20, 41) {
            *self = Channel::new(self.number);
        }
        Ok(())
    }

    /// Nothing else is answered any more, except a `channel.close` that crossed this one.
    fn closed_by_error(&mut self) -> Vec<u8> {
        let awaited = std::mem::take(&mut self.awaited);
        let close = awaited.into_iter().filter(|awaited| awaited.what == "channel.close");
        let awaited: VecDeque<_> = close.collect();
        let state = if awaited.is_empty() { State::Closed } else { State::Closing };
        *self = Channel { state, awaited, ..Channel::new(self.number) };
        Frame::method(self.number, 20, 41, &Args::new())
    }

    fn confirm(&mut self, tag: u64, multiple: bool) -> Result<(), String> {
        if self.state == State::Closing {
            return Ok(());
        }
        if multiple {
            self.unconfirmed = self.unconfirmed.split_off(&(tag + 1));
        } else if !self.unconfirmed.remove(&tag) {
            return Err(format!("channel {}: a confirm of {tag}, not awaited", self.number));
        }
        Ok(())
    }
}
