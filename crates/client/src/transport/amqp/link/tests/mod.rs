//! The link against a small broker in memory, with the socket cut wherever it can be.

mod peer;

use std::time::{Duration, Instant};

use amqp::Properties;
use bytes::Bytes;

use self::peer::Peer;
use super::*;
use crate::url::Mechanism;

type TestLink = Link<u32, &'static str>;

/// In these tests somebody waits for everything, but for what has this number.
const ABANDONED: u32 = 1000;

impl Token for u32 {
    fn is_abandoned(&self) -> bool {
        *self == ABANDONED
    }
}

impl Token for &'static str {
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// A link and its broker, joined by a socket that is cut after so many bytes.
struct World {
    link: TestLink,
    peer: Peer,
    now: Instant,
    /// Bytes still to pass to the broker, and to the link, before the cut.
    cut_after: (usize, usize),
    published: Vec<(u32, Result<Published, Refusal>)>,
    called: Vec<(&'static str, Result<Reply, Refusal>)>,
    delivered: Vec<Delivery>,
    downs: Vec<Down>,
    cancelled: Vec<Option<Refusal>>,
    missing: Vec<ConsumerId>,
    released: Vec<ConsumerId>,
    /// What is delivered is not settled.
    takes_long: bool,
}

const NEVER: usize = usize::MAX;

fn publish(number: u32, routing_key: &str) -> Publish {
    let id = format!("m{number}");
    let mut properties = Vec::new();
    Properties { message_id: Some(id.as_str().into()), ..Properties::default() }
        .encode(&mut properties);
    let body = Bytes::from(vec![number as u8; number as usize % 3 * 3000]);
    Publish {
        exchange: "".into(),
        routing_key: routing_key.into(),
        properties: properties.into(),
        body,
    }
}

impl World {
    fn new() -> Self {
        let login = Login {
            user: "guest".to_owned(),
            password: "guest".to_owned(),
            mechanism: Mechanism::Plain,
            virtual_host: "/".to_owned(),
            connection_name: "test".to_owned(),
        };
        let now = Instant::now();
        let times = Times { heartbeat: Duration::from_secs(1), ..Times::default() };
        Self {
            link: Link::new(login, times, now),
            peer: Peer::default(),
            now,
            cut_after: (NEVER, NEVER),
            published: Vec::new(),
            called: Vec::new(),
            delivered: Vec::new(),
            downs: Vec::new(),
            cancelled: Vec::new(),
            missing: Vec::new(),
            released: Vec::new(),
            takes_long: false,
        }
    }

    /// Lets both talk until neither has anything to say; cut sockets are made anew.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if let Some(at) = self.link.reconnect_at() {
                self.now = self.now.max(at);
                self.link.connected(self.now);
                self.peer.connected();
            }
            let mut output = Vec::new();
            self.link.take_output(&mut output, self.now);
            let passes = output.len().min(self.cut_after.0);
            self.peer.received(&output[..passes]);
            let answer = self.peer.take_output();
            let answered = answer.len().min(self.cut_after.1);
            self.link.received(&answer[..answered], self.now);
            let is_cut = passes < output.len() || answered < answer.len();
            if self.cut_after.0 != NEVER {
                self.cut_after.0 -= passes;
            }
            if self.cut_after.1 != NEVER {
                self.cut_after.1 -= answered;
            }
            self.take_events();
            if is_cut || self.link.failure().is_some() {
                self.cut_after = (NEVER, NEVER);
                self.link.disconnected(Down::Socket("cut".to_owned()), self.now);
                self.peer.disconnected();
                self.take_events();
            } else if output.is_empty() && answer.is_empty() {
                return;
            }
        }
        panic!("they talk for ever");
    }

    fn take_events(&mut self) {
        let mut events = Vec::new();
        self.link.take_events(&mut events);
        for event in events {
            match event {
                Event::Published { token, result } => self.published.push((token, result)),
                Event::Called { token, result } => self.called.push((token, result)),
                Event::Delivered(delivery) => {
                    if !self.takes_long {
                        self.link.settle(delivery.tag, Settlement::Ack);
                    }
                    self.delivered.push(delivery);
                }
                Event::Cancelled { why, .. } => self.cancelled.push(why),
                Event::Down(down) => self.downs.push(down),
                Event::Missing(consumer) => self.missing.push(consumer),
                Event::Released(consumer) => self.released.push(consumer),
                Event::Up | Event::Blocked(_) => {}
            }
        }
    }

    /// A bit of everything.
    fn scenario(&mut self) {
        for number in 0..3 {
            self.link.publish(publish(number, "q"), number);
        }
        self.link.call(Call::Inspect("q".to_owned()), "inspect");
        self.link.call(Call::Inspect("missing".to_owned()), "missing");
        self.settle();
        let consumer = Consumer::of("q", 2);
        self.link.consume(consumer).expect("a channel");
        self.settle();
        self.link.publish(publish(3, "nowhere"), 3);
        self.link.publish(publish(4, "forbidden"), 4);
        self.link.publish(publish(5, "q"), 5);
        self.settle();
    }

    /// What must be so however the socket was cut.
    fn check(&self, cut: &str) {
        let mut tokens: Vec<_> = self.published.iter().map(|(token, _)| *token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [0, 1, 2, 3, 4, 5], "{cut}: each is answered once");
        for (token, result) in &self.published {
            let expected = match token {
                3 => Ok(Published { is_routed: false }),
                4 => Err(403),
                _ => Ok(Published { is_routed: true }),
            };
            assert_eq!(result.as_ref().copied().map_err(|refusal| refusal.code), expected, "{cut}");
        }
        let called: Vec<_> = self.called.iter().map(|(token, _)| *token).collect();
        assert_eq!(called, ["inspect", "missing"], "{cut}");
        assert!(self.called[0].1.is_ok() && self.called[1].1.is_err(), "{cut}");
        assert_eq!(self.peer.unsettled(), 0, "{cut}: everything is settled");
        let bodies = self.delivered.iter().map(|delivery| delivery.body.len());
        assert!(bodies.into_iter().all(|bytes| bytes % 3000 == 0), "{cut}: bodies are whole");
        for id in ["m0", "m1", "m2", "m5"] {
            let acked = self.peer.acked(id);
            assert!(acked >= 1, "{cut}: {id} was never worked on");
            assert!(acked <= self.peer.stored(id), "{cut}: {id} was acked more often than stored");
        }
    }
}

#[test]
fn everything_goes_on_wherever_the_socket_is_cut() {
    let mut whole = World::new();
    whole.scenario();
    whole.check("no cut");
    assert_eq!(whole.peer.stored("m0"), 1, "without a cut nothing is published twice");
    let (to_broker, to_link) = whole.peer.bytes();
    assert!(to_broker > 6000 && to_link > 6000);
    for bytes in 0..to_broker {
        let mut world = World::new();
        world.cut_after.0 = bytes;
        world.scenario();
        world.check(&format!("cut after {bytes} bytes to the broker"));
        assert_eq!(world.downs.len(), 1);
    }
    for bytes in 0..to_link {
        let mut world = World::new();
        world.cut_after.1 = bytes;
        world.scenario();
        world.check(&format!("cut after {bytes} bytes to the link"));
        assert_eq!(world.downs.len(), 1);
    }
}

#[test]
fn messages_that_were_under_way_keep_their_order() {
    let mut world = World::new();
    world.settle();
    world.peer.confirms = false;
    for number in 0..100 {
        world.link.publish(publish(number, "q"), number);
        if number % 30 == 29 {
            world.settle();
            world.link.disconnected(Down::Socket("cut".to_owned()), world.now);
            world.peer.disconnected();
        }
    }
    world.peer.confirms = true;
    world.settle();
    let confirmed: Vec<_> = world.published.iter().map(|(token, _)| *token).collect();
    assert_eq!(confirmed, (0..100).collect::<Vec<_>>());
    let last: Vec<_> = world.peer.order().iter().rev().take(100).rev().cloned().collect();
    let expected: Vec<_> = (0..100).map(|number| format!("m{number}")).collect();
    assert_eq!(last, expected);
}

#[test]
fn silence_ends_a_connection_and_signs_of_life_keep_it() {
    let mut world = World::new();
    world.settle();
    for _ in 0..10 {
        world.now = world.link.wake_at().expect("heartbeats");
        world.link.tick(world.now);
        assert!(!world.link.output().is_empty(), "a sign of life");
        let mut beat = Vec::new();
        amqp::write_heartbeat(&mut beat);
        world.link.received(&beat, world.now);
        world.settle();
    }
    assert!(world.link.failure().is_none());
    world.now += Duration::from_secs(2);
    world.link.tick(world.now);
    assert!(matches!(world.link.failure(), Some(Down::Silent(_))));
}

#[test]
fn attempts_that_fail_wait_longer_and_longer() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..12 {
        world.link.connected(world.now);
        world.link.disconnected(Down::Socket("refused".to_owned()), world.now);
        let at = world.link.reconnect_at().expect("it tries again");
        waits.push(at - world.now);
        world.now = at;
    }
    assert_eq!(waits[0], Duration::from_millis(100));
    assert!(waits.is_sorted());
    assert_eq!(waits[11], Duration::from_secs(10));
}

#[test]
fn a_connection_that_was_good_is_made_again_soon() {
    let mut world = World::new();
    for _ in 0..5 {
        world.settle();
        world.link.disconnected(Down::Socket("cut".to_owned()), world.now);
        world.peer.disconnected();
        let at = world.link.reconnect_at().expect("it tries again");
        assert_eq!(at - world.now, Duration::from_millis(100));
    }
}

#[test]
fn a_broker_that_hangs_up_on_a_login_may_have_refused_it() {
    let mut world = World::new();
    world.link.connected(world.now);
    world.peer.connected();
    let mut output = Vec::new();
    world.link.take_output(&mut output, world.now);
    world.peer.received(&output);
    world.link.received(&world.peer.take_output(), world.now);
    world.link.disconnected(Down::Socket("end of file".to_owned()), world.now);
    world.take_events();
    let [down] = &world.downs[..] else { panic!("{:?}", world.downs) };
    assert!(down.to_string().contains("password may be wrong"), "{down}");
}

#[test]
fn a_login_that_is_not_offered_is_not_tried() {
    let mut world = World::new();
    world.link.login.mechanism = Mechanism::External;
    world.link.connected(world.now);
    world.peer.connected();
    let mut header = Vec::new();
    world.link.take_output(&mut header, world.now);
    world.peer.received(&header);
    world.link.received(&world.peer.take_output(), world.now);
    let Some(Down::Login(why)) = world.link.failure() else { panic!("{:?}", world.link.failure()) };
    assert!(why.contains("EXTERNAL") && why.contains("PLAIN"), "{why}");
}

#[test]
fn what_is_not_amqp_is_told_apart() {
    for (answer, expected) in [
        (&b"AMQP\0\x01\0\0"[..], "another version"),
        (&[21, 3, 1, 0, 2, 2, 70][..], "amqps://"),
        (b"HTTP/1.1 400 Bad Request\r\n", "frame"),
    ] {
        let mut world = World::new();
        world.link.connected(world.now);
        world.link.received(answer, world.now);
        let Some(Down::NotAmqp(why)) = world.link.failure() else { panic!("{answer:?}") };
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_consumer_of_a_missing_queue_ends_alone() {
    let mut world = World::new();
    for queue in ["missing", "q"] {
        let consumer = Consumer::of(queue, 1);
        world.link.consume(consumer).expect("a channel");
    }
    world.link.publish(publish(1, "q"), 1);
    world.settle();
    let [Some(refusal)] = &world.cancelled[..] else { panic!("{:?}", world.cancelled) };
    assert_eq!(refusal.code, 404);
    assert_eq!((world.delivered.len(), world.downs.len()), (1, 0));
}

#[test]
fn what_takes_too_long_for_the_broker_comes_again() {
    let mut world = World::new();
    world.takes_long = true;
    world.link.consume(Consumer::of("q", 2)).expect("a channel");
    (1..=3).for_each(|number| world.link.publish(publish(number, "q"), number));
    world.settle();
    assert_eq!(world.delivered.len(), 2);
    for times in 2..4 {
        world.peer.time_out();
        world.settle();
        assert_eq!((world.delivered.len(), world.cancelled.len()), (2 * times, 0));
    }
    let (stale, held) = world.delivered.split_at(4);
    // The same numbers on the same channel.
    for delivery in stale {
        assert!(!world.link.settle(delivery.tag, Settlement::Ack), "{delivery:?}");
    }
    for delivery in held {
        assert!(world.link.settle(delivery.tag, Settlement::Ack));
    }
    world.takes_long = false;
    world.settle();
    assert_eq!((world.delivered.len(), world.peer.unsettled()), (7, 0));
}

#[test]
fn no_bytes_make_it_panic() {
    // Each byte of a good conversation replaced, one at a time, by a few others.
    let mut whole = World::new();
    whole.scenario();
    let mut conversation = Vec::new();
    std::mem::swap(&mut conversation, &mut whole.peer.transcript);
    for at in 0..conversation.len().min(4000) {
        for value in [0, 1, 0x7F, 0xCE, 0xFF] {
            let mut world = World::new();
            world.link.connected(world.now);
            for number in 0..3 {
                world.link.publish(publish(number, "q"), number);
            }
            let mut bytes = conversation.clone();
            bytes[at] = value;
            world.link.received(&bytes, world.now);
            world.take_events();
            world.link.disconnected(Down::Socket("over".to_owned()), world.now);
        }
    }
}

#[test]
fn a_queue_that_is_gone_on_a_new_socket_is_told_and_consumed_from_again() {
    let mut world = World::new();
    let consumer = Consumer::of("q", 1);
    let id = world.link.consume(consumer).expect("a channel");
    world.settle();
    world.peer.lacks_queue = true;
    world.link.disconnected(Down::Socket("cut".to_owned()), world.now);
    world.peer.disconnected();
    world.settle();
    assert_eq!((&world.missing[..], world.cancelled.len()), (&[id][..], 0));
    world.peer.lacks_queue = false;
    world.link.resume(id);
    world.link.publish(publish(1, "q"), 1);
    world.settle();
    assert_eq!(world.delivered.len(), 1);
}

#[test]
fn a_consumer_that_is_released_is_never_taken_for_the_next_one() {
    let mut world = World::new();
    let consumer = || Consumer::of("q", 2);
    let first = world.link.consume(consumer()).expect("a channel");
    world.settle();
    world.link.publish(publish(1, "q"), 1);
    // Delivered, and not settled.
    let mut output = Vec::new();
    world.link.take_output(&mut output, world.now);
    world.peer.received(&output);
    world.link.received(&world.peer.take_output(), world.now);
    let mut events = Vec::new();
    world.link.take_events(&mut events);
    let delivered = events.iter().find_map(|event| match event {
        Event::Delivered(delivery) => Some(delivery.tag),
        _ => None,
    });
    let tag = delivered.expect("it is delivered");
    world.link.release(first);
    assert!(!world.link.settle(tag, Settlement::Ack), "it is back in its queue");
    let second = world.link.consume(consumer()).expect("a channel");
    assert_ne!(first, second);
    world.settle();
    assert_eq!(world.released, [first]);
    let third = world.link.consume(consumer()).expect("the channel that is free again");
    assert!(!world.link.settle(tag, Settlement::Ack), "whoever has its channel now");
    assert_ne!(first, third);
    world.settle();
    assert_eq!((world.delivered.len(), world.peer.unsettled()), (1, 0));
}

#[test]
fn what_nobody_waits_for_is_not_published_again() {
    let mut world = World::new();
    world.settle();
    world.peer.confirms = false;
    world.link.publish(publish(0, "q"), ABANDONED);
    world.link.publish(publish(1, "q"), 1);
    world.settle();
    assert_eq!(world.peer.order(), ["m1"], "given up before it was published");
    world.link.disconnected(Down::Socket("cut".to_owned()), world.now);
    world.peer.disconnected();
    world.peer.confirms = true;
    world.settle();
    assert_eq!(world.peer.order(), ["m1", "m1"]);
    assert_eq!(world.published.len(), 1);
}

#[test]
fn a_good_bye_that_is_not_answered_ends_in_time() {
    let mut world = World::new();
    world.settle();
    world.link.close(world.now);
    let mut beat = Vec::new();
    amqp::write_heartbeat(&mut beat);
    for _ in 0..20 {
        world.now += Duration::from_secs(1);
        world.link.received(&beat, world.now);
        world.link.tick(world.now);
    }
    assert!(world.link.failure().is_some());
    world.link.disconnected(Down::Socket("closed".to_owned()), world.now);
    assert_eq!(world.link.reconnect_at(), None);
}
