//! The ledger's events as the ports present them: cursors become text, positions in the log are
//! left out.

use outcome::{Event, What};

use crate::ports::{
    Cursor, CursorError, MessageEvent, MessagesError, OutcomeEvent, OutcomePage, OutcomeQuery,
};

pub(super) fn cursor(at: outcome::Cursor) -> Cursor {
    Cursor::new(at.to_string())
}

/// Reads a cursor that a client hands back.
pub(super) fn place(text: &str) -> Result<outcome::Cursor, CursorError> {
    text.parse::<outcome::Cursor>().map_err(|error| CursorError(error.to_string()))
}

/// The same query, as the ledger takes it.
pub(super) fn ledger_query(query: OutcomeQuery) -> Result<outcome::OutcomeQuery, MessagesError> {
    let after = query.after.map(|cursor| place(cursor.as_str())).transpose();
    Ok(outcome::OutcomeQuery {
        after: after.map_err(|error| MessagesError::Invalid(error.to_string()))?,
        limit: query.limit,
        vhost: query.vhost,
        queue: query.queue,
        outcome: query.outcome,
        since_ms: query.since_ms,
        until_ms: query.until_ms,
    })
}

pub(super) fn outcome_page(page: outcome::OutcomesPage) -> OutcomePage {
    OutcomePage {
        events: page.events.into_iter().filter_map(outcome_event).collect(),
        next: page.next.map(cursor),
        has_more: page.has_more,
    }
}

/// `None` if it is no outcome; a page of outcomes has none of those.
fn outcome_event(event: Event<'static>) -> Option<OutcomeEvent> {
    let MessageEvent { cursor, time_ms, what } = message_event(event)?;
    let What::Settled(settled) = what else { return None };
    Some(OutcomeEvent { cursor, time_ms, settled })
}

/// `None` if the event concerns nobody but the store.
pub(super) fn message_event(event: Event<'static>) -> Option<MessageEvent> {
    let Event { at, time_ms, mut what, .. } = event;
    match &mut what {
        What::Moved { .. } => return None,
        What::Published(published) => {
            published.position = 0;
            published.queues.iter_mut().for_each(|queue| queue.id = 0);
        }
        What::Settled(settled) => settled.message = None,
        _ => {}
    }
    Some(MessageEvent { cursor: cursor(at), time_ms, what })
}

#[cfg(test)]
mod tests {
    use outcome::{IdHash, Published, PublishedQueue};

    use super::*;

    fn event(what: What<'static>) -> Event<'static> {
        Event { at: outcome::Cursor { position: 12, nth: 3 }, id: IdHash(1), time_ms: 5, what }
    }

    #[test]
    fn an_event_tells_nothing_of_where_the_node_keeps_it() {
        let queue = PublishedQueue { id: 7, name: "q".into() };
        let published = Published { position: 12, queues: vec![queue], ..Published::default() };
        let told = message_event(event(What::Published(published))).expect("an event");
        assert_eq!((told.cursor.as_str(), told.time_ms), ("12-3", 5));
        let What::Published(published) = told.what else { panic!("it was published") };
        assert_eq!((published.position, published.queues[0].id), (0, 0));
        assert!(message_event(event(What::Moved { position: 12 })).is_none());
    }

    #[test]
    fn a_cursor_is_read_back() {
        assert_eq!(place("12-3").map(cursor), Ok(Cursor::new("12-3")));
        assert_eq!(place("012-3").map(cursor), Ok(Cursor::new("12-3")));
        for text in ["", "x", "12", "12-", "-3", "12-3-4"] {
            assert_eq!(place(text), Err(CursorError("a cursor looks like 1234-0".to_owned())));
        }
    }
}
