//! All pages: those on disk, those written but not yet flushed, and the one being written.
//!
//! Owns the open page and the order in which pages become durable. Never holds its lock while the
//! disk is at work. Invariants: a page's position is fixed when its first event comes, so the index
//! can refer to it before it is written; a page can be found at every moment, in memory or on disk.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use segment_log::{LogError, RECORD_HEADER_SIZE};

use crate::device::ReadDevice;
use crate::directory::{Directory, Stretch};
use crate::page::{PageWriter, Summary};
use outcome::{Cursor, Event, What};

/// Damaged pages that are logged one by one; after that many, it is clear that the disk is dying.
const WARNINGS_MAX: usize = 256;

/// All pages.
pub(crate) struct Pages {
    state: RwLock<State>,
    reader: Box<dyn ReadDevice>,
    page_bytes: usize,
    /// Damaged pages that were logged.
    warned: Mutex<HashSet<u64>>,
}

struct State {
    directory: Directory,
    /// Complete, not yet known to be durable; oldest first.
    sealed: VecDeque<Arc<SealedPage>>,
    open: PageWriter,
    /// The position the open page will have.
    open_position: u64,
    /// The last event.
    last: Option<Cursor>,
}

/// A page that is complete but not yet flushed.
#[derive(Debug)]
pub(crate) struct SealedPage {
    pub(crate) position: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) summary: Summary,
}

impl SealedPage {
    /// The position after its record.
    pub(crate) fn end(&self) -> u64 {
        self.position + (RECORD_HEADER_SIZE + self.bytes.len()) as u64
    }
}

/// Where the events after a cursor are.
pub(crate) enum Candidate {
    /// On disk.
    Stretch(Stretch),
    /// In memory.
    Page(Vec<u8>, Summary),
    /// There are none; this is the last event of all.
    End(Option<Cursor>),
}

/// The pages of one flush.
pub(crate) struct Sealed {
    pub(crate) pages: Vec<Arc<SealedPage>>,
    pub(crate) last: Option<Cursor>,
}

impl Pages {
    /// Starts from the pages in `directory`; the next group of records begins at `next_position`.
    pub(crate) fn new(
        reader: Box<dyn ReadDevice>,
        directory: Directory,
        last: Option<Cursor>,
        next_position: u64,
        page_bytes: usize,
    ) -> Self {
        let state = State {
            directory,
            sealed: VecDeque::new(),
            open: PageWriter::new(),
            open_position: first_page_position(next_position),
            last,
        };
        Self { state: RwLock::new(state), reader, page_bytes, warned: Mutex::default() }
    }

    /// Appends an event. Returns the position of its page if its message is new to that page,
    /// otherwise `None`; `Err` if the event is not after the last one.
    pub(crate) fn append(&self, event: &Event<'_>) -> Result<Option<u64>, NotAfter> {
        let mut state = self.state.write();
        let state = &mut *state;
        if state.last.is_some_and(|last| event.at <= last) {
            return Err(NotAfter);
        }
        let len = state.open.len_bytes();
        if !state.open.is_empty() && len + size_hint(&event.what) > self.page_bytes {
            state.seal();
        }
        state.last = Some(event.at);
        let position = state.open.append(event).then_some(state.open_position);
        // A query copies the open page, so it should not be large.
        if state.open.len_bytes() >= self.page_bytes {
            state.seal();
        }
        Ok(position)
    }

    /// Closes the open page for a flush. Returns all pages not yet durable. In the flush these
    /// pages are followed by `tail_bytes` of other records; the records of the next flush begin
    /// after that.
    pub(crate) fn seal(&self, start: u64, tail_bytes: u64) -> Sealed {
        let mut state = self.state.write();
        state.seal();
        let end = state.sealed.back().map_or(first_page_position(start), |page| page.end());
        state.open_position = first_page_position(end + tail_bytes);
        Sealed { pages: state.sealed.iter().cloned().collect(), last: state.last }
    }

    /// Notes that the oldest pages, up to this position, are on disk now, in the segment with that
    /// base.
    pub(crate) fn flushed(&self, end: u64, segment: u64) {
        let mut state = self.state.write();
        let state = &mut *state;
        while let Some(page) = state.sealed.pop_front_if(|page| page.position < end) {
            state.directory.push(segment, page.position..page.end(), page.summary);
        }
    }

    /// The last event of all.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.state.read().last
    }

    /// Whether there is something to flush.
    pub(crate) fn has_unflushed(&self) -> bool {
        let state = self.state.read();
        !state.open.is_empty() || !state.sealed.is_empty()
    }

    /// Calls the function with the directory.
    pub(crate) fn with_directory<T>(&self, call: impl FnOnce(&mut Directory) -> T) -> T {
        call(&mut self.state.write().directory)
    }

    /// Puts the page at a position into `buffer`; `false` if there is none (any more), or a damaged
    /// one.
    pub(crate) fn read(&self, position: u64, buffer: &mut Vec<u8>) -> Result<bool, LogError> {
        {
            let state = self.state.read();
            if state.open_position == position && !state.open.is_empty() {
                *buffer = state.open.assemble();
                return Ok(true);
            }
            let at = state.sealed.binary_search_by_key(&position, |page| page.position);
            if let Ok(at) = at {
                let page = Arc::clone(&state.sealed[at]);
                drop(state);
                buffer.clone_from(&page.bytes);
                return Ok(true);
            }
        }
        self.judge(position, self.reader.read(position, buffer))
    }

    /// Puts the records of a stretch into `buffer`; damage may cut them short. `false` if there are
    /// none.
    pub(crate) fn read_stretch(
        &self,
        stretch: &Stretch,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, LogError> {
        let bytes = usize::try_from(stretch.end - stretch.position).unwrap_or(usize::MAX);
        self.judge(stretch.position, self.reader.read_range(stretch.position, bytes, buffer))
    }

    fn judge(&self, position: u64, read: Result<(), LogError>) -> Result<bool, LogError> {
        match read {
            Ok(()) => Ok(true),
            // Its segment has been deleted in the meantime.
            Err(LogError::NotFound(_)) => Ok(false),
            Err(LogError::Corrupt { .. }) => {
                self.warn_of_damage(position);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Logs a damaged page, once.
    pub(crate) fn warn_of_damage(&self, position: u64) {
        let mut warned = self.warned.lock();
        if warned.len() < WARNINGS_MAX && warned.insert(position) {
            tracing::warn!(position, "a page of the ledger is damaged; its events are left out");
        }
    }

    /// Where the first events after a cursor are for which the predicate may hold.
    pub(crate) fn next(
        &self,
        after: Option<Cursor>,
        is_wanted: impl Fn(&Summary) -> bool,
    ) -> Candidate {
        let state = self.state.read();
        if let Some(stretch) = state.directory.next(after, &is_wanted) {
            return Candidate::Stretch(stretch);
        }
        let is_wanted = |summary: &Summary| Some(summary.last) > after && is_wanted(summary);
        if let Some(page) = state.sealed.iter().find(|page| is_wanted(&page.summary)) {
            let page = Arc::clone(page);
            drop(state);
            return Candidate::Page(page.bytes.clone(), page.summary);
        }
        let open = &state.open;
        if !open.is_empty() && is_wanted(open.summary()) {
            return Candidate::Page(open.assemble(), *open.summary());
        }
        Candidate::End(state.last)
    }
}

impl State {
    fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let (bytes, summary) = (self.open.assemble(), *self.open.summary());
        let page = SealedPage { position: self.open_position, bytes, summary };
        self.open_position = page.end();
        self.sealed.push_back(Arc::new(page));
        self.open.clear();
    }
}

/// The event is not after the last one.
#[derive(Debug)]
pub(crate) struct NotAfter;

/// Pages are members of a group, whose header comes first.
fn first_page_position(group: u64) -> u64 {
    group + RECORD_HEADER_SIZE as u64
}

/// Roughly how much an event adds to a page.
fn size_hint(what: &What<'_>) -> usize {
    const PLAIN_BYTES: usize = 128;
    PLAIN_BYTES
        + match what {
            What::Published(published) => published.queues.len() * 8,
            What::Settled(settled) => {
                let blob = |bytes: &Option<std::borrow::Cow<'_, [u8]>>| {
                    bytes.as_ref().map_or(0, |bytes| bytes.len())
                };
                let error = settled.details.error.as_ref().map_or(0, |error| error.len());
                blob(&settled.details.result) + blob(&settled.message) + error
            }
            What::Progress { text, .. } => text.len(),
            What::Delivered { .. }
            | What::Requeued { .. }
            | What::Received { .. }
            | What::Moved { .. } => 0,
        }
}
