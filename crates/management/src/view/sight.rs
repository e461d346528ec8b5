//! What a caller sees of messages and outcomes: the only place where that is decided.
//!
//! A [`Sight`] is made for a caller ([`crate::app::App::sight`]), a [`Seen`] by a sight; every view
//! is made from one of them. Events of queues that the caller may not read are taken out *before*
//! the story is told, so nothing computed from it (state, worst outcome, recovered, which queue is
//! meant, what is waited for) can depend on them. Permissions are looked up each time: what is
//! taken away is hidden at once.
//!
//! *Invariant:* an event that cannot be attributed to a queue the caller may read is hidden.

use std::collections::HashSet;

use super::Seen;
use super::own::OwnStory;
use crate::caller::Caller;
use crate::ports::{
    Access, BString, ByteSlice, Changed, Freshness, MessageEvent, MessagesError, NAMELESS_QUEUE,
    OutcomeEvent, Ports, Published, Receipt, Settled, What,
};

/// A caller's view of a virtual host.
#[derive(Clone)]
pub(crate) struct Sight {
    ports: Ports,
    caller: Caller,
    vhost: String,
    /// What the caller has just published itself: all of that is looked at, and nothing else.
    own: Option<Receipt>,
}

impl Sight {
    /// What a caller sees in a virtual host; nothing if it has no permissions there.
    pub(crate) fn new(ports: &Ports, caller: &Caller, vhost: &str) -> Self {
        let (ports, caller) = (ports.clone(), caller.clone());
        Self { ports, caller, vhost: vhost.to_owned(), own: None }
    }

    /// The same for what the caller has published itself, whatever queues it went to.
    pub(crate) fn of_own(&self, own: Receipt) -> Self {
        Self { own: Some(own), ..self.clone() }
    }

    /// The virtual host.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Whether events of a queue are seen. A message that reached no queue has the empty name for
    /// one; only users who oversee everything see it, since nobody knows whose queue it should have
    /// reached.
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

    /// Whether the user still exists and may enter the virtual host. What goes on for a long time ends
    /// when this is no more so.
    pub(crate) fn is_open(&self) -> bool {
        self.caller.may_enter(&self.ports, &self.vhost)
    }

    /// Completes when [`Sight::is_open`] may have changed since this call.
    pub(crate) fn may_close(&self) -> Changed {
        self.ports.broker.revoked()
    }

    /// Whether what concerns queues that the caller may not read is told, too: how many there are.
    pub(super) fn oversees(&self) -> bool {
        self.caller.oversees(&self.ports, &self.vhost)
    }

    /// Who sees.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
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

    /// What is seen of a message, as far as anybody has been told. The outcome of one that reached no
    /// queue is in the log a moment after its confirm: it is found, too.
    pub(crate) async fn find(&self, id: &str) -> Result<Seen, MessagesError> {
        let seen = self.look(id, Freshness::Told).await?;
        if seen.newest().is_none() { self.look(id, Freshness::Now).await } else { Ok(seen) }
    }
}

#[cfg(test)]
impl Seen {
    /// What a caller who sees these queues sees of a message `m` in `/`.
    pub(super) fn by(
        events: Vec<MessageEvent>,
        own: Option<&Receipt>,
        sees: impl Fn(&str) -> bool,
    ) -> Self {
        look("/", "m", events, own, sees)
    }
}

/// See [`Sight::look`]. `sees` is called with the name of a queue.
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
        // Not known yet, or already forgotten.
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

/// The visible part of an event; `None` if nothing of it is visible.
fn shown(mut event: MessageEvent, sees: &impl Fn(&str) -> bool) -> Option<MessageEvent> {
    let is_seen = match &mut event.what {
        What::Published(published) if published.queues.is_empty() => sees(""),
        What::Published(published) => {
            published.queues.retain(|queue| sees(&queue.name));
            !published.queues.is_empty()
        }
        What::Settled(settled) => sees(&settled.queue),
        What::Delivered { queue, .. }
        | What::Requeued { queue, .. }
        | What::Progress { queue, .. }
        | What::Received { queue } => sees(queue),
        // There is nothing to show.
        What::Moved { .. } => false,
    };
    is_seen.then_some(event)
}

/// Routing keys that would reveal the name of a hidden queue: to the default exchange they are
/// names.
fn hidden_keys(
    events: &[MessageEvent],
    is_own: bool,
    sees: &impl Fn(&str) -> bool,
) -> HashSet<BString> {
    if is_own {
        // The caller itself has set the key.
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
        // What is not UTF-8 is no queue's name.
        let Ok(key) = it.routing_key.to_str() else { return false };
        hidden.contains(key) || (it.exchange.is_empty() && !key.is_empty() && !sees(key))
    };
    published().filter(is_hidden).map(|it| it.routing_key.clone().into_owned()).collect()
}

/// Names the queues that were deleted before their names were looked up: their outcomes carry the
/// names. Permissions are by name.
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
