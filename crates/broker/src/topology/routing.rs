//! From an exchange, a routing key and headers to queues.
//!
//! An exchange is visited once per message, however many paths lead there. Whether its alternate
//! exchange is used depends on its own bindings alone, as in RabbitMQ: a binding that selects an
//! exchange counts, even if the message reaches no queue from there.

use std::collections::HashSet;

use amqp::{BStr, ByteSlice, TableRef};

use super::state::{ExchangeEntry, Topology};
use crate::exchange::{ExchangeDefinition, RouteTarget};
use crate::headers_match::MessageHeaders;
use crate::{BrokerError, QueueId};

impl Topology {
    /// Appends the queues that a message goes to, each once, in no particular order.
    ///
    /// `extra_keys` are routing keys besides `routing_key` (CC and BCC). The headers are read only
    /// if a headers exchange is reached. Whether the exchange is internal is not checked here.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` if there is no such exchange, `SYNTAX_ERROR` if the headers had to be read and
    /// are malformed; then nothing is appended.
    pub fn route(
        &self,
        exchange: &str,
        routing_key: &BStr,
        extra_keys: &[&BStr],
        headers: Option<TableRef<'_>>,
        out: &mut Vec<QueueId>,
    ) -> Result<(), BrokerError> {
        let start = out.len();
        if exchange.is_empty() {
            // The most common case, and the shortest path.
            self.route_by_name(routing_key, extra_keys, out);
            if !extra_keys.is_empty() {
                sort_and_dedup(out, start);
            }
            return Ok(());
        }
        let place = self.exchanges.find(exchange).ok_or_else(|| self.no_exchange(exchange))?;
        let mut walk = Walk {
            topology: self,
            keys: (routing_key, extra_keys),
            headers,
            read_headers: None,
            first: place,
            seen: HashSet::new(),
            pending: Vec::new(),
            may_repeat: !extra_keys.is_empty(),
            out,
        };
        let result = walk.run();
        let may_repeat = walk.may_repeat;
        if result.is_err() {
            out.truncate(start);
        } else if may_repeat {
            sort_and_dedup(out, start);
        }
        result
    }

    /// Whether a route depends on the exchange and the routing key alone, so that it may be cached
    /// until the [`epoch`](Self::epoch) changes: no headers exchange can be reached. False for an
    /// exchange that does not exist.
    pub fn is_cacheable(&self, exchange: &str) -> bool {
        let Some(place) = self.exchanges.find(exchange) else { return false };
        let mut seen = HashSet::from([place]);
        let mut pending = vec![place];
        while let Some(place) = pending.pop() {
            let Some(entry) = self.exchanges.get(place) else { continue };
            if entry.routes.needs_headers() {
                return false;
            }
            let onward = entry.onward.keys().copied().chain(self.alternate(entry));
            pending.extend(onward.filter(|place| seen.insert(*place)));
        }
        true
    }

    /// What the default exchange does: the routing key is a queue's name.
    fn route_by_name(&self, routing_key: &BStr, extra_keys: &[&BStr], out: &mut Vec<QueueId>) {
        for name in std::iter::once(&routing_key).chain(extra_keys) {
            let queue = name.to_str().ok().and_then(|name| self.queue_named(name));
            out.extend(queue.map(|queue| queue.id));
        }
    }

    fn alternate(&self, entry: &ExchangeEntry) -> Option<u32> {
        self.exchanges.find(entry.definition.alternate.as_deref()?)
    }
}

/// The routing of one message.
struct Walk<'t, 'm, 'o> {
    topology: &'t Topology,
    keys: (&'m BStr, &'m [&'m BStr]),
    headers: Option<TableRef<'m>>,
    read_headers: Option<MessageHeaders<'m>>,
    /// Where it was published: visited from the start, but not in `seen`, which mostly stays empty.
    first: u32,
    seen: HashSet<u32>,
    pending: Vec<u32>,
    /// Whether `out` may hold a queue twice.
    may_repeat: bool,
    out: &'o mut Vec<QueueId>,
}

impl Walk<'_, '_, '_> {
    fn run(&mut self) -> Result<(), BrokerError> {
        self.visit(self.first)?;
        while let Some(place) = self.pending.pop() {
            self.may_repeat = true;
            self.visit(place)?;
        }
        Ok(())
    }

    fn visit(&mut self, place: u32) -> Result<(), BrokerError> {
        let topology = self.topology;
        let Some(entry) = topology.exchanges.get(place) else { return Ok(()) };
        if entry.definition.name.is_empty() {
            // Reached only as an alternate exchange: it cannot be bound.
            topology.route_by_name(self.keys.0, self.keys.1, self.out);
            return Ok(());
        }
        if entry.routes.needs_headers() && self.read_headers.is_none() {
            let read = MessageHeaders::read(self.headers).map_err(|error| {
                BrokerError::syntax_error(format!("malformed message headers: {error}"))
            })?;
            self.read_headers = Some(read);
        }
        let mut found_any = self.find(entry, self.keys.0);
        if entry.routes.looks_at_key() {
            for key in self.keys.1 {
                found_any |= self.find(entry, key);
            }
        }
        if !found_any && let Some(alternate) = topology.alternate(entry) {
            self.go_to(alternate);
        }
        Ok(())
    }

    /// Collects the targets of one exchange for one key; false if there are none.
    fn find(&mut self, entry: &ExchangeEntry, key: &BStr) -> bool {
        // Direct and fanout routes give each target once.
        self.may_repeat |= entry.routes.may_repeat();
        let none = MessageHeaders::default();
        let read_headers = self.read_headers.take();
        let mut found_any = false;
        entry.routes.find(key, read_headers.as_ref().unwrap_or(&none), |target| {
            found_any = true;
            match target {
                RouteTarget::Queue(id) => self.out.push(id),
                RouteTarget::Exchange(place) => self.go_to(place),
            }
        });
        self.read_headers = read_headers;
        found_any
    }

    fn go_to(&mut self, place: u32) {
        let name = self.topology.exchanges.get(place).map(|entry| &*entry.definition.name);
        if name.is_some_and(ExchangeDefinition::is_of_broker) {
            // A definition from before this was refused.
            return;
        }
        if place != self.first && self.seen.insert(place) {
            self.pending.push(place);
        }
    }
}

/// Leaves every value from `start` on only once.
fn sort_and_dedup(out: &mut Vec<QueueId>, start: usize) {
    if out.len() - start < 2 {
        return;
    }
    out[start..].sort_unstable();
    let mut kept = start + 1;
    for at in start + 1..out.len() {
        if out[at] != out[kept - 1] {
            out[kept] = out[at];
            kept += 1;
        }
    }
    out.truncate(kept);
}
