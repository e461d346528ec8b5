//! The ledger's events as the ports present them: cursors become text, virtual hosts have their names,
//! positions in the log are left out.

use node::Node;
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

/// The same query, as the ledger takes it: it knows virtual hosts by their realms.
pub(super) fn ledger_query(
    node: &Node,
    query: OutcomeQuery,
) -> Result<outcome::OutcomeQuery, MessagesError> {
    let realm = |vhost: String| node.realm(&vhost).map_or(vhost, |realm| realm.to_string());
    let after = query.after.map(|cursor| place(cursor.as_str())).transpose();
    Ok(outcome::OutcomeQuery {
        after: after.map_err(|error| MessagesError::Invalid(error.to_string()))?,
        limit: query.limit,
        vhost: query.vhost.map(realm),
        queue: query.queue,
        outcome: query.outcome,
        since_ms: query.since_ms,
        until_ms: query.until_ms,
    })
}

pub(super) fn outcome_page(node: &Node, page: outcome::OutcomesPage) -> OutcomePage {
    let name = |realm: &str| node.vhost_of_realm(realm).map(str::to_owned);
    let events = page.events.into_iter();
    OutcomePage {
        events: events.filter_map(|event| outcome_event(event, name)).collect(),
        next: page.next.map(cursor),
        has_more: page.has_more,
    }
}

/// `None` if it is no outcome (a page of outcomes has none of those), or one of a virtual host that is
/// gone.
fn outcome_event(
    event: Event<'static>,
    name: impl Fn(&str) -> Option<String>,
) -> Option<OutcomeEvent> {
    let MessageEvent { cursor, time_ms, what } = message_event(event, name)?;
    let What::Settled(settled) = what else { return None };
    Some(OutcomeEvent { cursor, time_ms, settled })
}

/// `None` if the event concerns nobody but the store, or a virtual host that is gone. `name` is that of
/// the virtual host with a realm.
pub(super) fn message_event(
    event: Event<'static>,
    name: impl Fn(&str) -> Option<String>,
) -> Option<MessageEvent> {
    let Event { at, time_ms, mut what, .. } = event;
    match &mut what {
        What::Moved { .. } => return None,
        What::Published(published) => {
            published.position = 0;
            published.vhost = name(&published.vhost).unwrap_or_default().into();
            published.queues.iter_mut().for_each(|queue| queue.id = 0);
        }
        What::Settled(settled) => {
            settled.message = None;
            settled.vhost = name(&settled.vhost)?.into();
        }
        _ => {}
    }
    Some(MessageEvent { cursor: cursor(at), time_ms, what })
}

#[cfg(test)]
mod tests {
    use outcome::{Details, Flags, IdHash, Outcome, Published, PublishedQueue, Settled, Verdict};

    use super::*;

    fn known(realm: &str) -> Option<String> {
        (realm != "gone").then(|| realm.to_owned())
    }

    fn event(what: What<'static>) -> Event<'static> {
        Event { at: outcome::Cursor { position: 12, nth: 3 }, id: IdHash(1), time_ms: 5, what }
    }

    fn settled(vhost: &'static str, queue: &'static str) -> Settled<'static> {
        let verdict = Verdict {
            outcome: Outcome::Failed,
            reason: None,
            attempts: 1,
            queue_count: 1,
            published_at_ms: 0,
            flags: Flags::NONE,
        };
        let (vhost, queue) = (vhost.into(), queue.into());
        Settled { vhost, queue, verdict, details: Details::default(), message: None }
    }

    #[test]
    fn an_event_tells_nothing_of_where_the_node_keeps_it() {
        let queue = PublishedQueue { id: 7, name: "q".into() };
        let published = Published { position: 12, queues: vec![queue], ..Published::default() };
        let told = message_event(event(What::Published(published)), known).expect("an event");
        assert_eq!((told.cursor.as_str(), told.time_ms), ("12-3", 5));
        let What::Published(published) = told.what else { panic!("it was published") };
        assert_eq!((published.position, published.queues[0].id), (0, 0));
        assert!(message_event(event(What::Moved { position: 12 }), known).is_none());
        let settled = |vhost| event(What::Settled(Box::new(settled(vhost, "q"))));
        assert!(message_event(settled("gone"), known).is_none());
        assert!(message_event(settled("/"), known).is_some());
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
