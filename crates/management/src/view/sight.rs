//! What a caller sees of messages and outcomes: the one place where that is decided.
//!
//! A [`Sight`] is given for a caller ([`crate::app::App::sight`]), a [`Seen`] by a sight; every
//! view is made of one of them. Events of queues that the caller may not read are taken out
//! *before* the story is told, so nothing that is computed of it (state, worst outcome, recovered,
//! which queue is meant, what is waited for) can depend on them. Permissions are asked at every
//! look: what is taken away is hidden at once.
//!
//! *Invariant:* what cannot be attributed to a queue that the caller may read is hidden.

use std::collections::HashSet;

use super::Seen;
use super::own::OwnStory;
use crate::caller::Caller;
use crate::ports::{
    Access, Freshness, MessageEvent, MessagesError, NAMELESS_QUEUE, OutcomeEvent, Ports, Published,
    Receipt, Settled, What,
};

/// The eyes of a caller in a virtual host.
#[derive(Clone)]
pub(crate) struct Sight {
    ports: Ports,
    caller: Caller,
    vhost: String,
    /// What it has published itself just now: all of that and nothing else is looked at.
    own: Option<Receipt>,
}

impl Sight {
    /// What a caller sees in a virtual host; nothing if it has no permissions there.
    pub(crate) fn new(ports: &Ports, caller: &Caller, vhost: &str) -> Self {
        let (ports, caller) = (ports.clone(), caller.clone());
        Self { ports, caller, vhost: vhost.to_owned(), own: None }
    }

    /// The same for what it has published itself, whatever queues that went to.
    pub(crate) fn of_own(&self, own: Receipt) -> Self {
        Self { own: Some(own), ..self.clone() }
    }

    /// The virtual host.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Whether what happens in a queue is seen. What reached no queue, whose queue has no name, is
    /// seen by who oversees all: nobody knows any more whose it could have been.
    pub(crate) fn sees(&self, queue: &str) -> bool {
        let may_read = || self.caller.may(&self.ports, &self.vhost, Access::Read, queue);
        match queue {
            "" => self.caller.oversees(&self.ports, &self.vhost),
            _ if queue.starts_with(NAMELESS_QUEUE) => {
                may_read() && self.caller.oversees(&self.ports, &self.vhost)
            }
            _ => may_read(),
        }
    }

    /// An outcome, if it is seen.
    pub(super) fn outcome<'e>(&self, event: &'e OutcomeEvent) -> Option<&'e Settled<'static>> {
        let settled = &*event.settled;
        (*settled.vhost == *self.vhost && self.sees(&settled.queue)).then_some(settled)
    }

    /// What is seen of a message.
    pub(crate) async fn look(&self, id: &str, freshness: Freshness) -> Result<Seen, MessagesError> {
        let events = self.ports.messages.events(&self.vhost, id, freshness).await?;
        Ok(look(&self.vhost, id, events, self.own.as_ref(), |queue| self.sees(queue)))
    }

    /// What is seen of a message, but perhaps for the last moment. Who was just told that a
    /// message is published finds it, though.
    pub(crate) async fn look_for_known(&self, id: &str) -> Result<Seen, MessagesError> {
        let seen = self.look(id, Freshness::Known).await?;
        if seen.newest().is_none() { self.look(id, Freshness::Now).await } else { Ok(seen) }
    }
}

#[cfg(test)]
impl Seen {
    /// What is seen by who sees these queues, of a message `m` in `/`.
    pub(super) fn by(
        events: Vec<MessageEvent>,
        own: Option<&Receipt>,
        sees: impl Fn(&str) -> bool,
    ) -> Self {
        look("/", "m", events, own, sees)
    }
}

/// See [`Sight::look`]. `sees` is asked by name of the queue.
fn look(
    vhost: &str,
    id: &str,
    mut events: Vec<MessageEvent>,
    own: Option<&Receipt>,
    sees: impl Fn(&str) -> bool,
) -> Seen {
    name_the_nameless(&mut events);
    let own_story = own.map(|own| OwnStory::find(own, &events));
    let hidden_keys = hidden_keys(&events, own_story.is_some(), &sees);
    let Some(own_story) = own_story else {
        let events = events.into_iter().filter_map(|event| shown(event, &sees));
        return Seen::new(vhost, id, events, hidden_keys);
    };
    let Some(own) = own_story else {
        // Not known yet, or forgotten already.
        return Seen::new(vhost, id, std::iter::empty(), hidden_keys);
    };
    let begins_at = events[own.first()].cursor.clone();
    let events = events.into_iter().enumerate();
    let seen =
        events.filter_map(
            |(nth, event)| {
                if own.has(nth, &event) { Some(event) } else { shown(event, &sees) }
            },
        );
    Seen::new(vhost, id, seen, hidden_keys).only(&begins_at)
}

/// What is seen of an event; `None` if that is nothing.
fn shown(mut event: MessageEvent, sees: &impl Fn(&str) -> bool) -> Option<MessageEvent> {
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
    events: &[MessageEvent],
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
fn name_the_nameless(events: &mut [MessageEvent]) {
    let published = events.iter().filter_map(|event| match &event.what {
        What::Published(published) => Some(published),
        _ => None,
    });
    let (nameless, named): (Vec<_>, Vec<_>) = published
        .flat_map(|it| &it.queues)
        .partition(|queue| queue.name.starts_with(NAMELESS_QUEUE));
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
    let mut stand_ins: Vec<String> = nameless.iter().map(|it| it.name.to_string()).collect();
    stand_ins.dedup();
    let names: Vec<(String, String)> = stand_ins.into_iter().zip(unclaimed).collect();
    for event in events {
        let What::Published(published) = &mut event.what else { continue };
        for queue in &mut published.queues {
            if let Some((_, name)) = names.iter().find(|(stand_in, _)| *stand_in == *queue.name) {
                queue.name = name.clone().into();
            }
        }
    }
}

#[cfg(test)]
mod tests;
