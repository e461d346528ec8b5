//! What a caller sees of messages and outcomes: the one place where that is decided.
//!
//! A [`Sight`] is given by a caller ([`crate::auth::Caller::sight`]), a [`Seen`] by a sight; every
//! view is made of one of them. Events of queues that the caller may not read are taken out
//! *before* the story is told, so nothing that is computed of it (state, worst outcome, recovered,
//! which queue is meant, what is waited for) can depend on them. Permissions are asked at every
//! look: what is taken away is hidden at once.
//!
//! *Invariant:* what cannot be attributed to a queue that the caller may read is hidden.

use std::collections::HashSet;
use std::sync::Arc;

use ledger::{Event, Publication, Published, Settled, Timeline, What};
use node::Node;

use super::own::{Own, OwnStory};
use crate::auth::Caller;

/// How a name begins that stands for a queue that was deleted before its name was looked up.
const DELETED: &str = "(deleted queue ";

/// The eyes of a caller in a virtual host.
#[derive(Clone)]
pub(crate) struct Sight {
    node: Arc<Node>,
    caller: Caller,
    vhost: String,
    /// What it has published itself just now: all of that and nothing else is looked at.
    own: Option<Own>,
}

/// What a caller sees of a message: nothing here is of a queue that it may not read.
pub(crate) struct Seen {
    pub(super) vhost: String,
    pub(super) id: String,
    pub(super) timeline: Timeline,
    /// Routing keys that name queues which are hidden.
    hidden_keys: HashSet<String>,
}

impl Sight {
    /// What a caller sees in a virtual host; nothing if it has no permissions there.
    pub(crate) fn new(node: &Arc<Node>, caller: &Caller, vhost: &str) -> Self {
        let (node, caller) = (Arc::clone(node), caller.clone());
        Self { node, caller, vhost: vhost.to_owned(), own: None }
    }

    /// The same for what it has published itself, whatever queues that went to.
    pub(crate) fn of_own(&self, own: Own) -> Self {
        Self { own: Some(own), ..self.clone() }
    }

    /// The virtual host.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Whether what happens in a queue is seen. What reached no queue, whose queue has no name, is
    /// seen by who oversees all: nobody knows any more whose it could have been.
    pub(crate) fn sees(&self, queue: &str) -> bool {
        match queue {
            "" => self.caller.oversees(&self.node, &self.vhost),
            _ if queue.starts_with(DELETED) => {
                self.caller.may_read(&self.node, &self.vhost, queue)
                    && self.caller.oversees(&self.node, &self.vhost)
            }
            _ => self.caller.may_read(&self.node, &self.vhost, queue),
        }
    }

    /// An outcome, if it is seen.
    pub(super) fn outcome<'e>(&self, event: &'e Event<'_>) -> Option<&'e Settled<'e>> {
        let What::Settled(settled) = &event.what else { return None };
        (*settled.vhost == *self.vhost && self.sees(&settled.queue)).then_some(settled)
    }

    /// What is seen of a message, of all its events.
    pub(crate) fn look(&self, id: &str, events: Vec<Event<'static>>) -> Seen {
        look(&self.vhost, id, events, self.own, |queue| self.sees(queue))
    }
}

impl Seen {
    /// The newest publication.
    pub(crate) fn newest(&self) -> Option<&Publication> {
        self.timeline.newest()
    }

    /// The publication that begins there.
    pub(crate) fn at(&self, at: ledger::Cursor) -> Option<&Publication> {
        self.timeline.publications.iter().find(|publication| publication.at == at)
    }

    /// Forgets all publications but that.
    pub(crate) fn only(mut self, at: ledger::Cursor) -> Self {
        self.timeline.publications.retain(|publication| publication.at == at);
        self
    }

    /// The routing key of a publication or copy, unless it is the name of a hidden queue.
    pub(super) fn routing_key(&self, published: &Published<'_>) -> Option<String> {
        let is_hidden = self.hidden_keys.contains(&*published.routing_key);
        (!is_hidden).then(|| published.routing_key.clone().into_owned())
    }
}

#[cfg(test)]
impl Seen {
    /// What is seen by who sees these queues, of a message `m` in `/`.
    pub(super) fn by(
        events: Vec<Event<'static>>,
        own: Option<Own>,
        sees: impl Fn(&str) -> bool,
    ) -> Self {
        look("/", "m", events, own, sees)
    }
}

/// See [`Sight::look`]. `sees` is asked by name of the queue.
fn look(
    vhost: &str,
    id: &str,
    mut events: Vec<Event<'static>>,
    own: Option<Own>,
    sees: impl Fn(&str) -> bool,
) -> Seen {
    name_the_nameless(&mut events);
    let own_story = own.map(|own| OwnStory::find(own, &events));
    let hidden_keys = hidden_keys(&events, own_story.is_some(), &sees);
    let is_own = |event: &Event<'_>| match &own_story {
        Some(Some(own)) => own.has(event),
        _ => false,
    };
    let shown = |event: Event<'static>| {
        if is_own(&event) { Some(event) } else { shown(event, &sees) }
    };
    let timeline = Timeline::new(events.into_iter().filter_map(shown).collect());
    let seen = Seen { vhost: vhost.to_owned(), id: id.to_owned(), timeline, hidden_keys };
    match own_story {
        None => seen,
        // Not followed yet, or forgotten already: there is no publication at the end of all.
        Some(own) => seen.only(own.map_or(NOWHERE, |own| own.at())),
    }
}

const NOWHERE: ledger::Cursor = ledger::Cursor { position: u64::MAX, nth: u32::MAX };

/// What is seen of an event; `None` if that is nothing.
fn shown(mut event: Event<'static>, sees: &impl Fn(&str) -> bool) -> Option<Event<'static>> {
    let is_seen = match &mut event.what {
        What::Published(published) if published.queues.is_empty() => sees(""),
        What::Published(published) => {
            published.queues.retain(|queue| sees(&queue.name));
            !published.queues.is_empty()
        }
        What::Settled(settled) => sees(&settled.queue),
        What::Delivered { queue, .. } | What::Requeued { queue, .. } | What::Received { queue } => {
            sees(queue)
        }
        // Nothing to be shown.
        What::Moved { .. } => false,
    };
    is_seen.then_some(event)
}

/// Routing keys that would tell a hidden queue's name: through the default exchange they are names.
fn hidden_keys(
    events: &[Event<'_>],
    is_own: bool,
    sees: &impl Fn(&str) -> bool,
) -> HashSet<String> {
    if is_own {
        // The caller gave it itself.
        return HashSet::new();
    }
    let published = || {
        events.iter().filter_map(|event| match &event.what {
            What::Published(published) => Some(published),
            _ => None,
        })
    };
    let names = published().flat_map(|it| it.queues.iter().map(|queue| &*queue.name));
    let hidden: HashSet<&str> = names.filter(|name| !sees(name)).collect();
    let is_hidden = |it: &&Published<'_>| {
        let key = &*it.routing_key;
        hidden.contains(key) || (it.exchange.is_empty() && !key.is_empty() && !sees(key))
    };
    published().filter(is_hidden).map(|it| it.routing_key.clone().into_owned()).collect()
}

/// Gives queues their names that were deleted before those were looked up: their outcomes have
/// them. A permission is for a name.
fn name_the_nameless(events: &mut [Event<'static>]) {
    let published = events.iter().filter_map(|event| match &event.what {
        What::Published(published) => Some(published),
        _ => None,
    });
    let (nameless, named): (Vec<_>, Vec<_>) =
        published.flat_map(|it| &it.queues).partition(|queue| queue.name.starts_with(DELETED));
    if nameless.is_empty() {
        return;
    }
    let named: HashSet<&str> = named.iter().map(|queue| &*queue.name).collect();
    let settled = events.iter().filter_map(|event| match &event.what {
        What::Settled(settled) => Some(settled.queue.clone().into_owned()),
        _ => None,
    });
    let mut seen = HashSet::new();
    let unclaimed = settled.filter(|name| !name.is_empty() && !named.contains(name.as_str()));
    let unclaimed: Vec<String> = unclaimed.filter(|name| seen.insert(name.clone())).collect();
    let mut ids: Vec<u32> = nameless.iter().map(|queue| queue.id).collect();
    ids.dedup();
    let names: Vec<(u32, String)> = ids.into_iter().zip(unclaimed).collect();
    for event in events {
        let What::Published(published) = &mut event.what else { continue };
        for queue in &mut published.queues {
            if let Some((_, name)) = names.iter().find(|(id, _)| *id == queue.id)
                && queue.name.starts_with(DELETED)
            {
                queue.name = name.clone().into();
            }
        }
    }
}

#[cfg(test)]
mod tests;
