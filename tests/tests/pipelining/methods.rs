//! Random methods, most of them valid, and what their channel then awaits.

use crate::channel::{Awaited, Channel, Mode, State};
use end_to_end::{
    Random,
    raw::{Args, BODY, Frame, HEADER},
};
use std::collections::BTreeSet;

/// A method's name and bytes.
type Sent = (&'static str, Vec<u8>);

type Make = fn(&mut Methods, &mut Channel) -> Option<Sent>;

/// What an open channel sends, with weights.
const CHOICES: [(u64, Make); 20] = [
    (14, Methods::declare_queue),
    (3, Methods::ask_for_queue),
    (8, Methods::delete_queue),
    (3, Methods::purge),
    (4, |methods, channel| methods.bind(channel, "queue.bind", 20)),
    (3, |methods, channel| methods.bind(channel, "queue.unbind", 50)),
    (6, Methods::declare_exchange),
    (3, Methods::delete_exchange),
    (2, Methods::bind_exchange),
    (24, Methods::publish),
    (6, Methods::get),
    (5, Methods::consume),
    (4, Methods::cancel),
    (3, Methods::qos),
    (10, Methods::settle),
    (3, |methods, channel| methods.select(channel, Mode::Confirm)),
    (2, |methods, channel| methods.select(channel, Mode::Transaction)),
    (5, |methods, channel| methods.end_transaction(channel, "tx.commit", 20)),
    (2, |methods, channel| methods.end_transaction(channel, "tx.rollback", 30)),
    (3, Methods::close),
];

pub(crate) struct Methods {
    stem: String,
    random: Random,
    /// Queues and exchanges that exist, as far as the order across channels is known.
    queues: BTreeSet<String>,
    exchanges: BTreeSet<String>,
    consumers: u64,
}

impl Methods {
    pub(crate) fn new(stem: String, random: Random) -> Methods {
        let (queues, exchanges) = Default::default();
        Methods { stem, random, queues, exchanges, consumers: 0 }
    }

    /// A method that the channel may send now, if there is one.
    pub(crate) fn random(&mut self, channel: &mut Channel) -> Option<Sent> {
        match channel.state {
            State::Closing => None,
            State::Closed => {
                channel.state = State::Open;
                self.ask(channel, "channel.open", (20, 10), &[(20, 11)], &Args::new().short(""))
            }
            State::Open => {
                let sum: u64 = CHOICES.iter().map(|(weight, _)| weight).sum();
                let mut drawn = self.random.below(sum);
                let choice = CHOICES.iter().find(|(weight, _)| {
                    let is_it = drawn < *weight;
                    drawn = drawn.saturating_sub(*weight);
                    is_it
                });
                choice.and_then(|(_, make)| make(self, channel))
            }
        }
    }

    /// Opens the channel and deletes all names.
    pub(crate) fn delete_everything(&mut self, channel: &mut Channel) -> Vec<u8> {
        let mut bytes = self.random(channel).map_or_else(Vec::new, |(_, bytes)| bytes);
        for number in 0..8 {
            let (queue, exchange) = (self.queue_name(number), self.exchange_name(number));
            let queue = Args::new().u16(0).short(&queue).u8(0);
            let exchange = Args::new().u16(0).short(&exchange).u8(0);
            let both = [
                self.ask(channel, "queue.delete", (50, 40), &[(50, 41)], &queue),
                self.ask(channel, "exchange.delete", (40, 20), &[(40, 21)], &exchange),
            ];
            bytes.extend(both.into_iter().flatten().flat_map(|(_, bytes)| bytes));
        }
        bytes
    }

    /// An error shows that what was being declared does not exist: its channel was being closed.
    pub(crate) fn learn(&mut self, error: &str) {
        let name = error.split('\'').nth(1).unwrap_or_default();
        self.queues.remove(name);
        self.exchanges.remove(name);
    }

    /// A method with an answer.
    fn ask(
        &mut self,
        channel: &mut Channel,
        what: &'static str,
        (class, method): (u16, u16),
        answers: &'static [(u16, u16)],
        arguments: &Args,
    ) -> Option<Sent> {
        channel.await_answer(Awaited { what, answers, to_acknowledge: false });
        Some((what, Frame::method(channel.number(), class, method, arguments)))
    }

    /// Odd numbers are durable, even ones transient.
    fn queue_name(&self, number: u64) -> String {
        format!("{}-q{number}", self.stem)
    }

    fn exchange_name(&self, number: u64) -> String {
        format!("{}-x{number}", self.stem)
    }

    /// Usually one that exists.
    fn queue(&mut self) -> String {
        let any = self.random.below(8);
        let count = self.queues.len() as u64;
        if count == 0 || self.random.percent(3) {
            return self.queue_name(any);
        }
        let at = self.random.below(count) as usize;
        self.queues.iter().nth(at).cloned().unwrap_or_default()
    }

    /// As [`Methods::queue`]; `amq.direct` always exists.
    fn exchange(&mut self) -> String {
        let any = self.random.below(8);
        if self.random.percent(2) {
            return self.exchange_name(any);
        }
        let at = self.random.below(self.exchanges.len() as u64 + 1) as usize;
        self.exchanges.iter().nth(at).map_or_else(|| "amq.direct".to_owned(), String::clone)
    }

    fn declare_queue(&mut self, channel: &mut Channel) -> Option<Sent> {
        let number = self.random.below(8);
        let name = self.queue_name(number);
        let durable = (number % 2) as u8;
        let arguments = Args::new().u16(0).short(&name).u8(durable << 1).table(&Args::new());
        self.queues.insert(name);
        let what = if durable == 1 { "queue.declare, durable" } else { "queue.declare" };
        self.ask(channel, what, (50, 10), &[(50, 11)], &arguments)
    }

    fn ask_for_queue(&mut self, channel: &mut Channel) -> Option<Sent> {
        let name = self.queue();
        let arguments = Args::new().u16(0).short(&name).u8(1).table(&Args::new());
        self.ask(channel, "queue.declare, passive", (50, 10), &[(50, 11)], &arguments)
    }

    fn delete_queue(&mut self, channel: &mut Channel) -> Option<Sent> {
        let name = self.queue();
        self.queues.remove(&name);
        let arguments = Args::new().u16(0).short(&name).u8(0);
        self.ask(channel, "queue.delete", (50, 40), &[(50, 41)], &arguments)
    }

    fn purge(&mut self, channel: &mut Channel) -> Option<Sent> {
        let arguments = Args::new().u16(0).short(&self.queue()).u8(0);
        self.ask(channel, "queue.purge", (50, 30), &[(50, 31)], &arguments)
    }

    /// `queue.bind` or `queue.unbind`, which differ by a bit.
    fn bind(&mut self, channel: &mut Channel, what: &'static str, method: u16) -> Option<Sent> {
        let (queue, exchange) = (self.queue(), self.exchange());
        let arguments = Args::new().u16(0).short(&queue).short(&exchange).short("key");
        let arguments = if method == 20 { arguments.u8(0) } else { arguments };
        let answers: &[_] = if method == 20 { &[(50, 21)] } else { &[(50, 51)] };
        self.ask(channel, what, (50, method), answers, &arguments.table(&Args::new()))
    }

    fn declare_exchange(&mut self, channel: &mut Channel) -> Option<Sent> {
        let number = self.random.below(8);
        let name = self.exchange_name(number);
        let durable = (number % 2) as u8;
        let kind = if number < 4 { "fanout" } else { "direct" };
        let arguments = Args::new().u16(0).short(&name).short(kind).u8(durable << 1);
        self.exchanges.insert(name);
        let arguments = arguments.table(&Args::new());
        self.ask(channel, "exchange.declare", (40, 10), &[(40, 11)], &arguments)
    }

    fn delete_exchange(&mut self, channel: &mut Channel) -> Option<Sent> {
        let number = self.random.below(8);
        let name = self.exchange_name(number);
        self.exchanges.remove(&name);
        let arguments = Args::new().u16(0).short(&name).u8(0);
        self.ask(channel, "exchange.delete", (40, 20), &[(40, 21)], &arguments)
    }

    fn bind_exchange(&mut self, channel: &mut Channel) -> Option<Sent> {
        let (to, from) = (self.exchange(), self.exchange());
        let arguments = Args::new().u16(0).short(&to).short(&from).short("key").u8(0);
        let arguments = arguments.table(&Args::new());
        self.ask(channel, "exchange.bind", (40, 30), &[(40, 31)], &arguments)
    }

    /// To a queue or an exchange, persistent or not, mandatory or not, in up to three body frames.
    fn publish(&mut self, channel: &mut Channel) -> Option<Sent> {
        let (exchange, key) = match self.random.percent(70) {
            true => (String::new(), self.queue()),
            false => (self.exchange(), "key".to_owned()),
        };
        let bits = u8::from(self.random.percent(10));
        let method = Args::new().u16(0).short(&exchange).short(&key).u8(bits);
        let persistent = self.random.percent(60);
        let body = vec![b'x'; self.random.below(600) as usize];
        let header = Args::new().u16(60).u16(0).u64(body.len() as u64).u16(0x1000);
        let header = header.u8(1 + u8::from(persistent));
        let mut bytes = Frame::method(channel.number(), 60, 40, &method);
        bytes.extend(Frame::encode(HEADER, channel.number(), header.bytes()));
        for part in body.chunks(200.max(self.random.below(700) as usize)) {
            bytes.extend(Frame::encode(BODY, channel.number(), part));
        }
        channel.published();
        Some((if persistent { "basic.publish, persistent" } else { "basic.publish" }, bytes))
    }

    fn get(&mut self, channel: &mut Channel) -> Option<Sent> {
        let no_ack = self.random.percent(30);
        let arguments = Args::new().u16(0).short(&self.queue()).u8(no_ack.into());
        let answers = &[(60, 71), (60, 72)];
        channel.await_answer(Awaited { what: "basic.get", answers, to_acknowledge: !no_ack });
        Some(("basic.get", Frame::method(channel.number(), 60, 70, &arguments)))
    }

    fn consume(&mut self, channel: &mut Channel) -> Option<Sent> {
        let no_ack = self.random.percent(30);
        self.consumers += 1;
        let tag = format!("{}{}", if no_ack { 'n' } else { 'a' }, self.consumers);
        let arguments = Args::new().u16(0).short(&self.queue()).short(&tag);
        let arguments = arguments.u8(u8::from(no_ack) << 1).table(&Args::new());
        channel.consumers.push(tag);
        self.ask(channel, "basic.consume", (60, 20), &[(60, 21)], &arguments)
    }

    fn cancel(&mut self, channel: &mut Channel) -> Option<Sent> {
        let tag = take(&mut self.random, &mut channel.consumers)?;
        let arguments = Args::new().short(&tag).u8(0);
        self.ask(channel, "basic.cancel", (60, 30), &[(60, 31)], &arguments)
    }

    fn qos(&mut self, channel: &mut Channel) -> Option<Sent> {
        let count = self.random.below(6) as u16;
        let arguments = Args::new().u32(0).u16(count).u8(self.random.percent(30).into());
        self.ask(channel, "basic.qos", (60, 10), &[(60, 11)], &arguments)
    }

    /// `basic.ack`, `basic.nack` or `basic.reject` of one delivery or of all up to it.
    fn settle(&mut self, channel: &mut Channel) -> Option<Sent> {
        let tag = take(&mut self.random, &mut channel.unsettled)?;
        let multiple = u8::from(self.random.percent(30));
        let requeue = u8::from(self.random.percent(50));
        let one = Args::new().u64(tag);
        let (what, method, arguments, is_one) = match self.random.below(4) {
            0 => ("basic.nack", 120, one.u8(multiple | requeue << 1), multiple == 0),
            1 => ("basic.reject", 90, one.u8(requeue), true),
            _ => ("basic.ack", 80, one.u8(multiple), multiple == 0),
        };
        let unsettled = std::mem::take(&mut channel.unsettled);
        let stays = |other: &u64| is_one || *other > tag;
        let (unsettled, mut settled): (Vec<_>, Vec<_>) = unsettled.into_iter().partition(stays);
        channel.unsettled = unsettled;
        settled.push(tag);
        if channel.mode == Mode::Transaction {
            channel.settled_in_transaction.extend(settled);
        }
        Some((what, Frame::method(channel.number(), 60, method, &arguments)))
    }

    fn select(&mut self, channel: &mut Channel, mode: Mode) -> Option<Sent> {
        if channel.mode != mode && channel.mode != Mode::Plain {
            return None;
        }
        channel.mode = mode;
        match mode {
            Mode::Confirm => {
                let arguments = Args::new().u8(0);
                self.ask(channel, "confirm.select", (85, 10), &[(85, 11)], &arguments)
            }
            _ => self.ask(channel, "tx.select", (90, 10), &[(90, 11)], &Args::new()),
        }
    }

    fn end_transaction(
        &mut self,
        channel: &mut Channel,
        what: &'static str,
        method: u16,
    ) -> Option<Sent> {
        if channel.mode != Mode::Transaction {
            return None;
        }
        let settled = std::mem::take(&mut channel.settled_in_transaction);
        if method == 30 {
            channel.unsettled.extend(settled);
        }
        let answers: &[_] = if method == 20 { &[(90, 21)] } else { &[(90, 31)] };
        self.ask(channel, what, (90, method), answers, &Args::new())
    }

    fn close(&mut self, channel: &mut Channel) -> Option<Sent> {
        channel.leave();
        let arguments = Args::new().u16(200).short("bye").u16(0).u16(0);
        self.ask(channel, "channel.close", (20, 40), &[(20, 41)], &arguments)
    }
}

/// Removes and returns a random one.
fn take<T>(random: &mut Random, from: &mut Vec<T>) -> Option<T> {
    let at = random.below(from.len().max(1) as u64) as usize;
    (at < from.len()).then(|| from.swap_remove(at))
}
