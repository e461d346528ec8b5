//! Whatever a client sends without waiting is answered: methods that wait for the disk next to
//! others that do not, on several channels, in one write or cut anywhere.
//!
//! One connection sends bursts of random methods and then only listens. The server has nothing else
//! to do, so an answer that was forgotten, or that waits for a wake-up nobody sends, does not come
//! by luck:
//!
//! - every method that has an answer is answered within a second, in order on its channel; an
//!   error that closes the channel answers everything on it;
//! - every publish on a channel in confirm mode is confirmed within a second;
//! - nothing comes on a closed channel, and nothing in the middle of a message.
//!
//! `WILCO_TEST_SEED` replays one seed instead of the list.

mod channel;
mod methods;

use channel::Channel;
use end_to_end::{
    Broker, Random,
    raw::{Args, Event, Raw},
    shared, unique,
};
use methods::Methods;
use std::{
    io::Write,
    time::{Duration, Instant},
};

const SEEDS: std::ops::Range<u64> = 1..61;

/// Bursts per seed.
const BURSTS: u32 = 60;

const CHANNELS: u16 = 5;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(1);

#[test]
fn whatever_is_pipelined_is_answered_in_order() {
    let broker = shared();
    let seeds = Random::given().map_or_else(|| SEEDS.collect(), |seed| vec![seed]);
    for seed in seeds {
        println!("WILCO_TEST_SEED={seed}");
        let mut raw = Raw::connect(broker.address());
        // The default login turns off heartbeats, which would wake the server now and then.
        raw.handshake();
        let mut client = Client::new(&broker, raw, Random::new(seed));
        for burst in 1..=BURSTS {
            let verdict = client.burst();
            verdict.unwrap_or_else(|wrong| {
                panic!("WILCO_TEST_SEED={seed}, burst {burst}: {wrong}\n{}", client.latest());
            });
        }
        let verdict = client.delete_everything();
        verdict.unwrap_or_else(|wrong| panic!("WILCO_TEST_SEED={seed}, at the end: {wrong}"));
    }
}

struct Client<'a> {
    broker: &'a Broker,
    raw: Raw,
    random: Random,
    methods: Methods,
    channels: Vec<Channel>,
    /// What was sent since everything was last answered.
    sent: Vec<String>,
}

impl<'a> Client<'a> {
    fn new(broker: &'a Broker, raw: Raw, mut random: Random) -> Client<'a> {
        let methods = Methods::new(unique("p"), Random::new(random.draw()));
        let channels = (1..=CHANNELS).map(Channel::new).collect();
        Client { broker, raw, random, methods, channels, sent: Vec::new() }
    }

    /// Sends some methods; usually waits for all answers.
    fn burst(&mut self) -> Result<(), String> {
        let mut bytes = Vec::new();
        let mut at = 0;
        for _ in 0..=self.random.below(16) {
            // Often on the same channel again.
            if self.random.percent(60) {
                at = self.random.below(CHANNELS.into()) as usize;
            }
            let channel = &mut self.channels[at];
            let Some((what, method)) = self.methods.random(channel) else { continue };
            self.sent.push(format!("{}: {what}", channel.number()));
            bytes.extend(method);
        }
        self.write(&bytes);
        if self.random.percent(75) { self.settle() } else { Ok(()) }
    }

    /// Writes the bytes in up to four pieces, cut anywhere.
    fn write(&mut self, bytes: &[u8]) {
        let mut cuts = vec![0, bytes.len()];
        for _ in 0..self.random.below(4) {
            cuts.push(self.random.below(bytes.len() as u64 + 1) as usize);
        }
        cuts.sort_unstable();
        let mut writer = self.raw.writer();
        for piece in cuts.windows(2) {
            // Reading shows whether the connection is closed.
            let _ = writer.write_all(&bytes[piece[0]..piece[1]]);
            if piece[1] < bytes.len() && self.random.percent(70) {
                std::thread::sleep(Duration::from_micros(self.random.below(2000)));
            }
        }
    }

    /// Reads until nothing is awaited any more.
    fn settle(&mut self) -> Result<(), String> {
        let mut deadline = Instant::now() + LIMIT;
        let mut excuses = 5;
        while self.channels.iter().any(Channel::awaits_something) {
            match self.raw.read(deadline.saturating_duration_since(Instant::now())) {
                Event::Frame(frame) if frame.is(10, 50) => {
                    return Err(format!("{} {}", frame.reply_code(), frame.reply_text()));
                }
                Event::Frame(frame) => {
                    let channel = usize::from(frame.channel).checked_sub(1);
                    let Some(channel) = channel.and_then(|at| self.channels.get_mut(at)) else {
                        return Err(format!("not on a channel of ours: {frame:?}"));
                    };
                    if frame.is(20, 40) {
                        self.methods.learn(&frame.reply_text());
                    }
                    let answer = channel.take(&frame)?;
                    self.raw.send(&answer);
                }
                Event::Closed => return Err("the socket was closed".to_owned()),
                Event::Silence if excuses > 0 && self.others_wait_too() => {
                    excuses -= 1;
                    deadline = Instant::now() + LIMIT;
                }
                Event::Silence => {
                    let awaited: Vec<_> =
                        self.channels.iter().filter_map(Channel::awaited).collect();
                    return Err(format!("not within {LIMIT:?}: {}", awaited.join("; ")));
                }
            }
        }
        self.sent.clear();
        Ok(())
    }

    /// Whether it is the machine that is slow: then another connection waits for the disk as well.
    fn others_wait_too(&self) -> bool {
        let start = Instant::now();
        let (mut raw, queue) = (self.broker.raw(), unique("other"));
        raw.declare(1, &queue);
        raw.method(1, 50, 40, &Args::new().u16(0).short(&queue).u8(0));
        raw.expect(50, 41);
        start.elapsed() > LIMIT / 4
    }

    /// Deletes everything in one write. The names are this connection's own.
    fn delete_everything(&mut self) -> Result<(), String> {
        self.settle()?;
        let mut last = Channel::new(CHANNELS + 1);
        let bytes = self.methods.delete_everything(&mut last);
        self.channels.push(last);
        self.raw.send(&bytes);
        self.settle()
    }

    fn latest(&self) -> String {
        self.sent.join("\n")
    }
}
