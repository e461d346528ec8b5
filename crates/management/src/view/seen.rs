//! What a caller sees of a message, and where in the order of events each part of it stands.
//!
//! `Timeline` tells the story, and wants numbers as positions: it gets indices into a list of
//! cursors that is kept here.

use std::collections::HashSet;

use crate::ports::{
    BString, Cursor, Entry, Event, IdHash, MessageEvent, Place, Publication, Published, Timeline,
};

/// What a caller sees of a message: nothing here concerns a queue that it may not read.
pub(crate) struct Seen {
    pub(super) vhost: String,
    pub(super) id: String,
    pub(super) timeline: Timeline,
    /// The cursor of each event, indexed by its position in the timeline.
    cursors: Vec<Cursor>,
    /// Routing keys that are names of hidden queues.
    hidden_keys: HashSet<BString>,
}

impl Seen {
    /// From the events that are seen, which are all that the story is made from.
    pub(super) fn new(
        vhost: &str,
        id: &str,
        events: impl Iterator<Item = MessageEvent>,
        hidden_keys: HashSet<BString>,
    ) -> Self {
        let hash = IdHash::new(vhost, id);
        let mut cursors = Vec::new();
        let mut numbered = Vec::new();
        for MessageEvent { cursor, time_ms, what } in events {
            let at = Place { position: cursors.len() as u64, nth: 0 };
            cursors.push(cursor);
            numbered.push(Event { at, id: hash, time_ms, what });
        }
        let timeline = Timeline::new(numbered);
        Self { vhost: vhost.to_owned(), id: id.to_owned(), timeline, cursors, hidden_keys }
    }

    /// The newest publication.
    pub(crate) fn newest(&self) -> Option<&Publication> {
        self.timeline.newest()
    }

    /// By what the newest publication can be found again, whatever is published meanwhile.
    pub(crate) fn newest_at(&self) -> Option<&Cursor> {
        self.cursor(self.newest()?.at)
    }

    /// The publication that begins at a cursor.
    pub(crate) fn at(&self, at: &Cursor) -> Option<&Publication> {
        self.timeline.publications.iter().find(|it| self.cursor(it.at) == Some(at))
    }

    /// Forgets all publications except the one that begins at a cursor.
    pub(crate) fn only(mut self, at: &Cursor) -> Self {
        let cursors = &self.cursors;
        let is_it = |it: &Publication| cursors.get(it.at.position as usize) == Some(at);
        self.timeline.publications.retain(is_it);
        self
    }

    /// The cursor of an entry of a timeline.
    pub(super) fn cursor_of(&self, entry: &Entry) -> String {
        self.cursor(entry.at).map(Cursor::to_string).unwrap_or_default()
    }

    /// The routing key of a publication or copy, unless it is the name of a hidden queue.
    pub(super) fn routing_key(&self, published: &Published<'_>) -> Option<String> {
        let is_hidden = self.hidden_keys.contains(&**published.routing_key);
        (!is_hidden).then(|| published.routing_key.to_string())
    }

    fn cursor(&self, at: Place) -> Option<&Cursor> {
        self.cursors.get(usize::try_from(at.position).ok()?)
    }
}
