//! The deliveries of one channel that wait for their settlement, by delivery tag.
//!
//! Tags only grow and mostly leave in order, so this is a ring sorted by tag: removing from the
//! front costs nothing, anything else is found by binary search and leaves a gap, and gaps are
//! swept out when they outnumber what is left.

use std::collections::VecDeque;

use broker::queue::{ConsumerKey, DeliveryId};

/// One delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsettled {
    pub tag: u64,
    pub id: DeliveryId,
    pub consumer: ConsumerKey,
    /// Index into the channel's list of queues.
    pub queue: u32,
    /// Whether it counts against the channel-wide prefetch.
    pub counted: bool,
    /// The key by which a report about its message is matched; 0 when there can be none.
    pub report: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct UnsettledRing {
    ring: VecDeque<Option<Unsettled>>,
    /// The tag of each place, kept for gaps too.
    tags: VecDeque<u64>,
    count: usize,
}

impl UnsettledRing {
    pub(crate) fn push(&mut self, unsettled: Unsettled) {
        debug_assert!(self.tags.back().is_none_or(|&tag| tag < unsettled.tag));
        self.tags.push_back(unsettled.tag);
        self.ring.push_back(Some(unsettled));
        self.count += 1;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The tag of the first open delivery with this report key. Workers mostly report on their
    /// oldest one.
    pub(crate) fn tag_of(&self, report: u64, is_open: impl Fn(u64) -> bool) -> Option<u64> {
        let is_it = |unsettled: &&Unsettled| unsettled.report == report && is_open(unsettled.tag);
        self.ring.iter().flatten().find(is_it).map(|unsettled| unsettled.tag)
    }

    /// The open delivery with this tag.
    pub(crate) fn get(&self, tag: u64) -> Option<&Unsettled> {
        let place = self.tags.binary_search(&tag).ok()?;
        self.ring.get(place)?.as_ref()
    }

    /// Takes out one tag, or with `multiple` every tag up to it (all of them for 0), in order.
    /// `false` when the tag does not exist.
    pub(crate) fn take(&mut self, tag: u64, multiple: bool, out: &mut Vec<Unsettled>) -> bool {
        if tag == 0 && multiple {
            self.take_all(out);
            return true;
        }
        let place = match self.tags.front() {
            Some(&front) if front == tag => 0,
            _ => match self.tags.binary_search(&tag) {
                Ok(place) => place,
                Err(_) => return false,
            },
        };
        if self.ring[place].is_none() {
            return false;
        }
        if multiple {
            self.tags.drain(..=place);
            let before = out.len();
            out.extend(self.ring.drain(..=place).flatten());
            self.count -= out.len() - before;
        } else {
            out.extend(self.ring[place].take());
            self.count -= 1;
        }
        self.sweep();
        true
    }

    /// The delivery that this is true of no longer counts against the channel-wide prefetch. `false`
    /// if there is none, or it did not count.
    pub(crate) fn uncount(&mut self, is_it: impl Fn(&Unsettled) -> bool) -> bool {
        let found = self.ring.iter_mut().flatten().find(|unsettled| is_it(unsettled));
        found.is_some_and(|unsettled| std::mem::replace(&mut unsettled.counted, false))
    }

    /// Takes out everything, in order.
    pub(crate) fn take_all(&mut self, out: &mut Vec<Unsettled>) {
        out.extend(self.ring.drain(..).flatten());
        self.tags.clear();
        self.count = 0;
    }

    /// Lets go of memory that it does not need at the moment.
    pub(crate) fn trim_memory(&mut self) {
        self.ring.shrink_to_fit();
        self.tags.shrink_to_fit();
    }

    fn sweep(&mut self) {
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.tags.pop_front();
        }
        if self.ring.len() > 64 + 2 * self.count {
            self.ring.retain(Option::is_some);
            self.tags = self.ring.iter().flatten().map(|unsettled| unsettled.tag).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn unsettled(tag: u64) -> Unsettled {
        // Any delivery id will do; this takes one from a queue.
        let mut queue = broker::queue::Queue::<Nowhere>::new(
            broker::QueueId(1),
            broker::queue::Settings::default(),
            0,
        );
        let properties = amqp::Properties::default();
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let content = ("", "q", encoded.as_slice(), &b"x"[..]);
        let message = broker::Message::new(0, &properties, content, &mut Vec::new());
        let incoming = broker::queue::Incoming { message, position: None, keep_body: true };
        let mut effects = Default::default();
        queue.publish(0, incoming, &mut effects);
        let id = queue.get(0, false, &mut effects).expect("just published").id;
        Unsettled { tag, id, consumer: ConsumerKey::GET, queue: 0, counted: false, report: 0 }
    }

    #[derive(Clone)]
    struct Nowhere;
    impl broker::queue::Endpoint for Nowhere {
        fn reserve(&self, _: u32) -> bool {
            false
        }
    }

    proptest! {
        #[test]
        fn takes_what_a_sorted_set_takes(steps in prop::collection::vec((0u64..40, any::<bool>(), any::<bool>()), 1..200)) {
            let mut ring = UnsettledRing::default();
            let mut model = BTreeSet::new();
            let mut next = 1;
            for (pick, push, multiple) in steps {
                if push {
                    ring.push(unsettled(next));
                    model.insert(next);
                    next += 1;
                    continue;
                }
                let tag = pick;
                let mut out = Vec::new();
                let found = ring.take(tag, multiple, &mut out);
                let taken: Vec<u64> = out.iter().map(|u| u.tag).collect();
                if tag == 0 && multiple {
                    prop_assert_eq!(taken, std::mem::take(&mut model).into_iter().collect::<Vec<_>>());
                } else if !model.contains(&tag) {
                    prop_assert!(!found && taken.is_empty());
                } else if multiple {
                    let rest = model.split_off(&(tag + 1));
                    prop_assert_eq!(taken, std::mem::replace(&mut model, rest).into_iter().collect::<Vec<_>>());
                } else {
                    model.remove(&tag);
                    prop_assert_eq!(taken, vec![tag]);
                }
                prop_assert_eq!(ring.is_empty(), model.is_empty());
            }
        }
    }
}
