//! What a client has heard, channel by channel, in a form that can be compared; and what it must
//! know about that to go on.

use std::collections::{BTreeMap, BTreeSet};

use amqp::{FrameKind, Method, decode_content_header};

use crate::common::Received;

/// Everything that was heard on one channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OfChannel {
    replies: Vec<String>,
    deliveries: Vec<String>,
    returns: Vec<String>,
    /// Since the channel was opened.
    confirmed: BTreeSet<u64>,
}

#[derive(Default)]
struct State {
    told: OfChannel,
    /// Content on its way: its method, and how much of it is still to come.
    content: Option<(Stream, String, Option<u64>)>,
    published_count: usize,
}

#[derive(Clone, Copy)]
enum Stream {
    Reply,
    Delivery,
    Return,
}

/// A delivery that its client has yet to settle.
pub(crate) struct Tag {
    pub channel: u16,
    pub tag: u64,
    pub was_got: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Heard {
    channels: BTreeMap<u16, State>,
    /// Deliveries since this was last taken.
    pub new_tags: Vec<Tag>,
}

impl Heard {
    pub(crate) fn on(&self, channel: u16) -> Option<&OfChannel> {
        self.channels.get(&channel).map(|state| &state.told)
    }

    /// How many replies, deliveries, returns and confirms there were.
    pub(crate) fn counts(&self) -> [usize; 4] {
        let of = |told: &OfChannel| {
            let OfChannel { replies, deliveries, returns, confirmed } = told;
            [replies.len(), deliveries.len(), returns.len(), confirmed.len()]
        };
        let add = |a: [usize; 4], b: [usize; 4]| std::array::from_fn(|at| a[at] + b[at]);
        self.channels.values().map(|state| of(&state.told)).fold([0; 4], add)
    }

    /// A message was published in confirm mode.
    pub(crate) fn published(&mut self, channel: u16) {
        self.channels.entry(channel).or_default().published_count += 1;
    }

    /// Confirms that are under way when a channel is closed may or may not arrive.
    pub(crate) fn confirmed_count(&self) -> usize {
        self.channels.values().map(|state| state.told.confirmed.len()).sum()
    }

    pub(crate) fn confirmed_count_when_done(&self) -> usize {
        self.channels.values().map(|state| state.published_count).sum()
    }

    /// Forgets the confirms of a channel that is to be closed.
    pub(crate) fn closing(&mut self, channel: u16) {
        let state = self.channels.entry(channel).or_default();
        state.published_count = 0;
        state.told.confirmed.clear();
    }

    pub(crate) fn take(&mut self, received: &Received) {
        let channel = received.channel;
        let state = self.channels.entry(channel).or_default();
        if received.kind != FrameKind::Method {
            return state.take_content(received);
        }
        let method = received.method();
        let text = format!("{method:?}");
        let mut begin = |stream| state.content = Some((stream, text.clone(), None));
        match &method {
            Method::BasicDeliver(delivery) => {
                begin(Stream::Delivery);
                let tag = delivery.delivery_tag;
                self.new_tags.push(Tag { channel, tag, was_got: false });
            }
            Method::BasicGetOk(got) => {
                begin(Stream::Reply);
                self.new_tags.push(Tag { channel, tag: got.delivery_tag, was_got: true });
            }
            Method::BasicReturn(_) => begin(Stream::Return),
            Method::BasicAck(ack) if ack.multiple => {
                state.told.confirmed.extend(1..=ack.delivery_tag);
            }
            Method::BasicAck(ack) => drop(state.told.confirmed.insert(ack.delivery_tag)),
            Method::ChannelCloseOk(_) => {
                state.told.confirmed.clear();
                state.told.replies.push(text);
            }
            _ => state.told.replies.push(text),
        }
    }
}

impl State {
    fn take_content(&mut self, received: &Received) {
        let (stream, mut text, left) = self.content.take().expect("content after its method");
        let left = match left {
            None => {
                let header = decode_content_header(&received.payload).expect("a header");
                text += &format!(" {:?} {} bytes", header.properties, header.body_size);
                header.body_size
            }
            Some(left) => {
                text += &format!(" {:?}", received.payload.first());
                left.checked_sub(received.payload.len() as u64).expect("as announced")
            }
        };
        if left > 0 {
            self.content = Some((stream, text, Some(left)));
            return;
        }
        match stream {
            Stream::Reply => self.told.replies.push(text),
            Stream::Delivery => self.told.deliveries.push(text),
            Stream::Return => self.told.returns.push(text),
        }
    }
}
