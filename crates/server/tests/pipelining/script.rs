//! Random steps of a client that makes no mistakes.
//!
//! Each channel gets from one queue of its own and consumes from another; all channels publish to
//! all queues. So the answers do not depend on who is faster. For the same reason, only messages
//! that were got are requeued one by one: in one batch, messages are enqueued before others are
//! requeued. And nobody settles what has not been delivered yet: where settling makes room for the
//! next delivery, a method follows that makes it take effect.

use amqp::{
    BasicAck, BasicCancel, BasicConsume, BasicGet, BasicNack, BasicPublish, BasicQos, BasicRecover,
    BasicReject, ChannelClose, ChannelOpen, ConfirmSelect, Method, QueueDeclare, QueueDelete,
    QueuePurge, TxCommit, TxRollback, TxSelect, write_body, write_content_header, write_method,
};

use crate::common::{FRAME_MAX, encoded};
use crate::heard::Heard;

pub(crate) const CHANNELS: u16 = 3;
/// Where the queues are declared, before anything else.
pub(crate) const DECLARING: u16 = 51;

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Plain,
    Confirm,
    Transaction,
}

/// A delivery that may be settled.
#[derive(Clone, Copy)]
struct Held {
    tag: u64,
    was_got: bool,
}

#[derive(Default)]
struct Channel {
    is_open: bool,
    mode: Mode,
    consumer: Option<String>,
    held: Vec<Held>,
    settled_in_transaction: Vec<Held>,
    /// The next message needs no settling.
    no_ack: bool,
    prefetch: u16,
    /// A limit was set that its consumer may have.
    is_limited: bool,
}

/// See the module's documentation.
pub(crate) struct Script {
    random: Random,
    channels: Vec<Channel>,
    serial: u64,
}

fn got_from(channel: u16) -> String {
    format!("got-{channel}")
}

fn consumed_from(channel: u16) -> String {
    format!("consumed-{channel}")
}

pub(crate) fn queue_names() -> Vec<String> {
    (1..=CHANNELS).flat_map(|channel| [got_from(channel), consumed_from(channel)]).collect()
}

fn declare(channel: u16, queue: &str) -> Vec<u8> {
    let declare = QueueDeclare { queue, durable: true, ..QueueDeclare::default() };
    encoded(channel, &declare.into())
}

fn qos(prefetch_count: u16) -> Method<'static> {
    BasicQos { prefetch_size: 0, prefetch_count, global: false }.into()
}

impl Script {
    pub(crate) fn new(random: Random) -> Self {
        let channels = (1..=CHANNELS).map(|_| Channel::default()).collect();
        Self { random, channels, serial: 0 }
    }

    pub(crate) fn declare_queues() -> Vec<u8> {
        queue_names().iter().flat_map(|queue| declare(DECLARING, queue)).collect()
    }

    /// The next step; empty when what was drawn makes no sense at the moment.
    pub(crate) fn step(&mut self, heard: &mut Heard) -> Vec<u8> {
        self.learn(heard);
        let number = 1 + self.random.below(CHANNELS.into()) as u16;
        if !self.channels[usize::from(number) - 1].is_open {
            self.channels[usize::from(number) - 1] =
                Channel { is_open: true, ..Channel::default() };
            return encoded(number, &ChannelOpen {}.into());
        }
        let drawn = self.random.below(100);
        let queue = got_from(number);
        let simple = |method: Method<'_>| encoded(number, &method);
        match drawn {
            0..=34 => self.publish(number, heard),
            35..=46 => self.get(number),
            47..=61 => self.settle(number),
            62..=67 => self.consume(number),
            68..=71 => self.cancel(number),
            72..=74 => declare(number, &queue),
            75 => {
                let delete = QueueDelete { queue: &queue, ..QueueDelete::default() };
                [simple(delete.into()), declare(number, &queue)].concat()
            }
            76 => simple(QueuePurge { queue: &queue, no_wait: false }.into()),
            77..=79 => {
                let prefetch = self.random.below(4) as u16;
                let channel = self.channel(number);
                channel.prefetch = prefetch;
                channel.is_limited |= prefetch > 0;
                simple(qos(prefetch))
            }
            80..=82 => self.recover(number),
            83..=88 => self.select(number),
            89..=97 => self.end_transaction(number),
            _ => self.close(number, heard),
        }
    }

    fn channel(&mut self, number: u16) -> &mut Channel {
        &mut self.channels[usize::from(number) - 1]
    }

    /// Takes note of deliveries.
    fn learn(&mut self, heard: &mut Heard) {
        for new in heard.new_tags.drain(..) {
            let channel = self.channel(new.channel);
            let needs_none = match new.was_got {
                true => channel.no_ack,
                false => channel.consumer.as_ref().is_some_and(|tag| tag.starts_with('n')),
            };
            if channel.is_open && !needs_none {
                channel.held.push(Held { tag: new.tag, was_got: new.was_got });
            }
        }
    }

    fn publish(&mut self, number: u16, heard: &mut Heard) -> Vec<u8> {
        self.serial += 1;
        let to = 1 + self.random.below(CHANNELS.into()) as u16;
        let routing_key = match self.random.below(10) {
            0 => "nowhere".to_owned(),
            1..=4 => got_from(to),
            _ => consumed_from(to),
        };
        let (mandatory, is_persistent) = (self.random.percent(50), self.random.percent(60));
        let body_bytes = if self.random.percent(20) { 9000 } else { self.random.below(60) };
        let body = vec![self.serial as u8; body_bytes as usize];
        let publish = BasicPublish {
            routing_key: routing_key.as_str().into(),
            mandatory,
            ..BasicPublish::default()
        };
        let mut bytes = encoded(number, &publish.into());
        // Nothing but the delivery mode.
        let properties = [0x10, 0, 1 + u8::from(is_persistent)];
        write_content_header(&mut bytes, number, body.len() as u64, &properties);
        write_body(&mut bytes, number, &body, FRAME_MAX);
        if self.channel(number).mode == Mode::Confirm {
            heard.published(number);
        }
        bytes
    }

    fn get(&mut self, number: u16) -> Vec<u8> {
        let no_ack = self.random.percent(30);
        self.channel(number).no_ack = no_ack;
        encoded(number, &BasicGet { queue: &got_from(number), no_ack }.into())
    }

    fn settle(&mut self, number: u16) -> Vec<u8> {
        let count = self.channel(number).held.len() as u64;
        if count == 0 {
            return Vec::new();
        }
        let at = self.random.below(count) as usize;
        let (drawn, multiple) = (self.random.below(4), self.random.percent(30));
        let channel = self.channel(number);
        let Held { tag: delivery_tag, was_got } = channel.held[at];
        let method: Method<'_> = match drawn {
            0 => BasicReject { delivery_tag, requeue: was_got }.into(),
            1 => BasicNack { delivery_tag, multiple: false, requeue: was_got }.into(),
            _ => BasicAck { delivery_tag, multiple }.into(),
        };
        let takes_all = multiple && drawn > 1;
        let is_settled =
            |held: &mut Held| held.tag == delivery_tag || takes_all && held.tag < delivery_tag;
        let settled: Vec<Held> = channel.held.extract_if(.., is_settled).collect();
        if channel.mode == Mode::Transaction {
            channel.settled_in_transaction.extend(settled);
        }
        let settle = encoded(number, &method);
        if !channel.is_limited {
            return settle;
        }
        [settle, encoded(number, &qos(channel.prefetch))].concat()
    }

    fn consume(&mut self, number: u16) -> Vec<u8> {
        self.serial += 1;
        let (serial, no_ack) = (self.serial, self.random.percent(30));
        let tag = format!("{}{serial}", if no_ack { 'n' } else { 'a' });
        let channel = self.channel(number);
        if channel.consumer.is_some() {
            return Vec::new();
        }
        channel.consumer = Some(tag.clone());
        let queue = consumed_from(number);
        let consume =
            BasicConsume { queue: &queue, consumer_tag: &tag, no_ack, ..BasicConsume::default() };
        encoded(number, &consume.into())
    }

    fn cancel(&mut self, number: u16) -> Vec<u8> {
        let Some(tag) = self.channel(number).consumer.take() else { return Vec::new() };
        encoded(number, &BasicCancel { consumer_tag: &tag, no_wait: false }.into())
    }

    fn recover(&mut self, number: u16) -> Vec<u8> {
        let channel = self.channel(number);
        if channel.mode == Mode::Transaction {
            return Vec::new();
        }
        channel.held.clear();
        encoded(number, &BasicRecover { requeue: true }.into())
    }

    fn select(&mut self, number: u16) -> Vec<u8> {
        let is_confirm = self.random.percent(50);
        let channel = self.channel(number);
        match channel.mode {
            Mode::Plain if is_confirm => {
                channel.mode = Mode::Confirm;
                encoded(number, &ConfirmSelect { no_wait: false }.into())
            }
            Mode::Plain => {
                channel.mode = Mode::Transaction;
                encoded(number, &TxSelect {}.into())
            }
            _ => Vec::new(),
        }
    }

    fn end_transaction(&mut self, number: u16) -> Vec<u8> {
        let commits = self.random.percent(70);
        let channel = self.channel(number);
        if channel.mode != Mode::Transaction {
            return Vec::new();
        }
        let settled = std::mem::take(&mut channel.settled_in_transaction);
        if commits {
            return encoded(number, &TxCommit {}.into());
        }
        channel.held.extend(settled);
        encoded(number, &TxRollback {}.into())
    }

    fn close(&mut self, number: u16, heard: &mut Heard) -> Vec<u8> {
        *self.channel(number) = Channel::default();
        heard.closing(number);
        let mut bytes = Vec::new();
        let close = ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        write_method(&mut bytes, number, &close.into());
        bytes
    }
}
