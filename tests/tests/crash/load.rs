//! Clients that work until the broker is gone and then report what they saw.

use crate::model::{Ack, Fact, Id};
use end_to_end::{
    Random,
    raw::{self, Args, Frame, Raw},
};
use std::collections::{BTreeMap, VecDeque};

/// How many unconfirmed publishes a publisher allows itself.
const WINDOW: usize = 200;
/// Publishes per round, so that reading them back stays quick.
const PUBLISH_COUNT_MAX: usize = 1200;

/// What a client does.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Persistent messages with confirms, to the keys in turn.
    Publisher { exchange: &'static str, keys: &'static [&'static str] },
    /// Transactions of several messages over several queues.
    Transaction { keys: &'static [&'static str] },
    /// Settles in every way, and now and then publishes a marker to learn what is durable.
    Consumer { queue: &'static str },
    /// Moves messages from queue to queue, with publish and ack in one transaction.
    Mover { from: &'static str, to: &'static str },
}

pub(crate) struct Client {
    index: usize,
    role: Role,
    raw: Raw,
    next: u64,
    random: Random,
    facts: Vec<Fact>,
}

/// The broker is gone.
struct Gone;

impl Client {
    pub(crate) fn new(index: usize, role: Role, raw: Raw, next: u64, random: Random) -> Client {
        Client { index, role, raw, next, random, facts: Vec::new() }
    }

    /// Works until the broker is gone.
    pub(crate) fn run(mut self) -> Vec<Fact> {
        let Gone = match self.role {
            Role::Publisher { exchange, keys } => self.publish(exchange, keys),
            Role::Transaction { keys } => self.transact(keys),
            Role::Consumer { queue } => self.consume(queue),
            Role::Mover { from, to } => self.move_over(from, to),
        }
        .err()
        .unwrap_or(Gone);
        self.facts
    }

    fn next_id(&mut self) -> Id {
        let id = Id { publisher: self.index, sequence: self.next };
        self.next += 1;
        id
    }

    fn padding(&mut self) -> usize {
        // Now and then a much longer body.
        let end = if self.random.percent(2) { 60_000 } else { 1500 };
        self.random.below(end) as usize
    }

    fn frame(&mut self) -> Result<Frame, Gone> {
        self.raw.next_frame().ok_or(Gone)
    }

    fn expect(&mut self, class: u16, method: u16) -> Result<Frame, Gone> {
        let frame = self.frame()?;
        assert!(frame.is(class, method), "expected {class}.{method}, got {frame:?}");
        Ok(frame)
    }

    fn call(&mut self, class: u16, method: u16, arguments: &Args) -> Result<(), Gone> {
        self.raw.method(1, class, method, arguments);
        self.expect(class, method + 1).map(drop)
    }

    fn start_consumer(&mut self, queue: &str, prefetch: u16) -> Result<(), Gone> {
        self.call(60, 10, &Args::new().u32(0).u16(prefetch).u8(0))?;
        let consume = Args::new().u16(0).short(queue).short("").u8(0).table(&Args::new());
        self.call(60, 20, &consume)
    }

    /// The tag and message of a delivery whose method has been read.
    fn delivery(&mut self, deliver: &Frame) -> Result<(u64, Id), Gone> {
        let mut fields = deliver.fields();
        fields.short();
        let tag = fields.u64();
        let header = self.frame()?;
        let size = header.fields().u64() as usize;
        let mut body = Vec::with_capacity(size);
        while body.len() < size {
            body.extend(self.frame()?.payload);
        }
        Ok((tag, Id::parse(&body).expect("a body as it was sent")))
    }

    fn publish(&mut self, exchange: &str, keys: &[&'static str]) -> Result<(), Gone> {
        self.call(85, 10, &Args::new().u8(0))?;
        let mut unconfirmed = BTreeMap::new();
        let mut tag = 0;
        for _ in 0..PUBLISH_COUNT_MAX {
            let key = keys[self.random.below(keys.len() as u64) as usize];
            let queues: &[&'static str] = match (exchange, key) {
                ("fan", _) => &["fan-1", "fan-2"],
                (_, "single") => &["single"],
                (_, "second") => &["second"],
                _ => &["work"],
            };
            let id = self.next_id();
            for queue in queues {
                self.facts.push(Fact::Published { queue, id });
            }
            let body = id.body(self.padding());
            self.raw.send(&raw::publish(1, exchange, key, &body));
            tag += 1;
            unconfirmed.insert(tag, (queues, id));
            if unconfirmed.len() >= WINDOW || self.random.percent(3) {
                let left = self.random.below(WINDOW as u64 / 2) as usize;
                self.read_confirms(&mut unconfirmed, left)?;
            }
        }
        self.read_confirms(&mut unconfirmed, 0)?;
        self.wait_for_the_end()
    }

    fn read_confirms(
        &mut self,
        unconfirmed: &mut BTreeMap<u64, (&[&'static str], Id)>,
        left: usize,
    ) -> Result<(), Gone> {
        while unconfirmed.len() > left {
            let confirm = self.expect(60, 80)?;
            for (queues, id) in confirmed(unconfirmed, &confirm) {
                for queue in queues {
                    self.facts.push(Fact::Confirmed { queue, id });
                }
            }
        }
        Ok(())
    }

    fn transact(&mut self, keys: &[&'static str]) -> Result<(), Gone> {
        self.call(90, 10, &Args::new())?;
        for _ in 0..PUBLISH_COUNT_MAX / 4 {
            let count = 1 + self.random.below(8);
            let published: Vec<_> = (0..count)
                .map(|_| {
                    let key = keys[self.random.below(keys.len() as u64) as usize];
                    (key, self.next_id())
                })
                .collect();
            let facts = Fact::Committing { published: published.clone(), acked: Vec::new() };
            self.facts.push(facts);
            for (key, id) in published {
                let body = id.body(self.padding());
                self.raw.send(&raw::publish(1, "", key, &body));
            }
            self.call(90, 20, &Args::new())?;
            self.facts.push(Fact::Committed);
        }
        self.wait_for_the_end()
    }

    fn move_over(&mut self, from: &'static str, to: &'static str) -> Result<(), Gone> {
        self.call(90, 10, &Args::new())?;
        self.start_consumer(from, 20)?;
        let mut waiting = VecDeque::new();
        loop {
            let deliver = self.expect(60, 60)?;
            waiting.push_back(self.delivery(&deliver)?);
            if self.random.percent(60) && waiting.len() < 20 {
                continue;
            }
            let acked = waiting.iter().map(|(_, id)| (from, *id)).collect();
            let published = waiting.iter().map(|(_, id)| (to, *id)).collect();
            self.facts.push(Fact::Committing { published, acked });
            for (tag, id) in waiting.drain(..) {
                self.raw.send(&raw::publish(1, "", to, &id.body(10)));
                self.raw.ack(1, tag, false);
            }
            self.raw.method(1, 90, 20, &Args::new());
            // Deliveries go on while the commit is under way.
            loop {
                let frame = self.frame()?;
                if frame.is(90, 21) {
                    break;
                }
                assert!(frame.is(60, 60), "{frame:?}");
                waiting.push_back(self.delivery(&frame)?);
            }
            self.facts.push(Fact::Committed);
        }
    }

    fn consume(&mut self, queue: &'static str) -> Result<(), Gone> {
        self.call(85, 10, &Args::new().u8(0))?;
        self.start_consumer(queue, 100)?;
        let mut unsettled: BTreeMap<u64, Id> = BTreeMap::new();
        // Acks that no marker covers yet, and those that each unconfirmed marker covers.
        let mut uncovered: Vec<Id> = Vec::new();
        let mut markers: BTreeMap<u64, (Id, Vec<Id>)> = BTreeMap::new();
        let mut marker_tag = 0;
        loop {
            let frame = self.frame()?;
            if frame.is(60, 80) {
                for (marker, covered) in confirmed(&mut markers, &frame) {
                    self.facts.push(Fact::Confirmed { queue: "markers", id: marker });
                    for id in covered {
                        self.facts.push(Fact::Acked { queue, id, ack: Ack::Durable });
                    }
                }
                continue;
            }
            assert!(frame.is(60, 60), "{frame:?}");
            let (tag, id) = self.delivery(&frame)?;
            unsettled.insert(tag, id);
            match self.random.below(100) {
                0..40 => {
                    let (tag, id) = self.pick(&unsettled);
                    unsettled.remove(&tag);
                    self.facts.push(Fact::Acked { queue, id, ack: Ack::Sent });
                    uncovered.push(id);
                    self.raw.ack(1, tag, false);
                }
                40..60 => {
                    let (tag, _) = self.pick(&unsettled);
                    let later = unsettled.split_off(&(tag + 1));
                    for id in std::mem::replace(&mut unsettled, later).into_values() {
                        self.facts.push(Fact::Acked { queue, id, ack: Ack::Sent });
                        uncovered.push(id);
                    }
                    self.raw.ack(1, tag, true);
                }
                60..65 => {
                    let (tag, _) = self.pick(&unsettled);
                    unsettled.remove(&tag);
                    // Not multiple, requeue.
                    self.raw.method(1, 60, 120, &Args::new().u64(tag).u8(0b10));
                }
                65..75 => {
                    let marker = self.next_id();
                    self.facts.push(Fact::Published { queue: "markers", id: marker });
                    marker_tag += 1;
                    markers.insert(marker_tag, (marker, std::mem::take(&mut uncovered)));
                    self.raw.send(&raw::publish(1, "", "markers", &marker.body(0)));
                }
                _ => {}
            }
        }
    }

    fn pick(&mut self, unsettled: &BTreeMap<u64, Id>) -> (u64, Id) {
        let index = self.random.below(unsettled.len() as u64) as usize;
        let (tag, id) = unsettled.iter().nth(index).expect("an index below the length");
        (*tag, *id)
    }

    fn wait_for_the_end(&mut self) -> Result<(), Gone> {
        let frame = self.frame()?;
        panic!("nothing was to come: {frame:?}");
    }
}

/// Takes out what a confirm covers.
fn confirmed<T>(unconfirmed: &mut BTreeMap<u64, T>, confirm: &Frame) -> Vec<T> {
    let mut fields = confirm.fields();
    let (tag, multiple) = (fields.u64(), fields.u8() & 1 == 1);
    if multiple {
        let later = unconfirmed.split_off(&(tag + 1));
        std::mem::replace(unconfirmed, later).into_values().collect()
    } else {
        vec![unconfirmed.remove(&tag).expect("a confirm for an unconfirmed publish")]
    }
}
