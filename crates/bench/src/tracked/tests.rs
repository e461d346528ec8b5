//! Whole tracked runs against a broker in memory that sends outcomes, right or wrong ones.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use amqp::{FrameKind, Method, OwnedProperties};
use anyhow::Result;
use clap::Parser;

use super::drive;
use super::report::{Tally, TrackedReport};
use crate::args::BenchArgs;

/// What is wrong with the outcome of the fifth message that a worker acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    Missing,
    Twice,
    Failed,
    OfAnother,
}

/// Queues by name, shared by all connections; one consumer each, deliveries without regard to
/// prefetch.
struct Broker {
    fault: Fault,
    queues: HashMap<String, Queue>,
    acknowledged: u64,
    /// Properties of every message published to the queue of the run.
    published: Vec<OwnedProperties>,
    /// The most messages that were published and not yet acknowledged at a time.
    most_in_flight: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(OwnedProperties, Vec<u8>)>,
    consumer: Option<Arc<Mutex<Peer>>>,
}

/// A connection, as other connections write to it.
struct Peer {
    stream: TcpStream,
    delivered: u64,
    /// Unacknowledged deliveries, by tag.
    unacked: Vec<(u64, OwnedProperties)>,
}

fn broker(fault: Fault) -> (Arc<Mutex<Broker>>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("amqp://{}", listener.local_addr().unwrap());
    let broker = Arc::new(Mutex::new(Broker {
        fault,
        queues: HashMap::new(),
        acknowledged: 0,
        published: Vec::new(),
        most_in_flight: 0,
    }));
    let shared = broker.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let broker = shared.clone();
            std::thread::spawn(move || serve(stream, &broker));
        }
    });
    (broker, uri)
}

impl Broker {
    fn publish(&mut self, queue: &str, properties: OwnedProperties, body: Vec<u8>) {
        if queue == "wilco.bench" {
            self.published.push(properties.clone());
            let in_flight = self.published.len() as u64 - self.acknowledged;
            self.most_in_flight = self.most_in_flight.max(in_flight);
        }
        let queue = self.queues.entry(queue.to_owned()).or_default();
        queue.waiting.push_back((properties, body));
        queue.deliver();
    }

    /// Settles a message: its producer is sent the outcome if it asked.
    fn settle(&mut self, message: OwnedProperties) {
        if message.headers.as_ref().is_none_or(|headers| !headers.contains("x-notify")) {
            return;
        }
        self.acknowledged += 1;
        let fault = if self.acknowledged == 5 { self.fault } else { Fault::Nothing };
        let outcome = if fault == Fault::Failed { "failed" } else { "processed" };
        let mut correlation_id = message.message_id.unwrap();
        if fault == Fault::OfAnother {
            correlation_id[..4].copy_from_slice(b"none");
        }
        let times = match fault {
            Fault::Missing => 0,
            Fault::Twice => 2,
            _ => 1,
        };
        for _ in 0..times {
            let properties = OwnedProperties {
                kind: Some("outcome".to_owned().into()),
                correlation_id: Some(correlation_id.clone()),
                headers: Some([("x-queues", "1"), ("x-outcome", outcome)].into_iter().collect()),
                ..Default::default()
            };
            self.publish(&message.reply_to.as_ref().unwrap().to_string(), properties, Vec::new());
        }
    }
}

impl Queue {
    fn deliver(&mut self) {
        let Some(consumer) = &self.consumer else { return };
        let mut peer = consumer.lock().unwrap();
        for (properties, body) in self.waiting.drain(..) {
            peer.delivered += 1;
            let (mut encoded, mut out, tag) = (Vec::new(), Vec::new(), peer.delivered);
            properties.encode(&mut encoded);
            let method =
                amqp::BasicDeliver { consumer_tag: "c", delivery_tag: tag, ..Default::default() };
            let delivery = amqp::Delivery { method, properties: &encoded, body: &body };
            amqp::write_deliver(&mut out, 1, &delivery, 4096);
            // It does not matter here if the peer is gone.
            let _ = peer.stream.write_all(&out);
            peer.unacked.push((tag, properties));
        }
    }
}

fn serve(mut stream: TcpStream, broker: &Mutex<Broker>) {
    stream.set_nodelay(true).unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    let writer = stream.try_clone().unwrap();
    let peer = Arc::new(Mutex::new(Peer { stream: writer, delivered: 0, unacked: Vec::new() }));
    let mut out = Vec::new();
    amqp::write_method(&mut out, 0, &amqp::ConnectionStart::default().into());
    let (mut input, mut chunk) = (Vec::new(), vec![0; 65536]);
    let (mut published, mut confirmed, mut key) = (0, 0, String::new());
    let (mut properties, mut body, mut body_size) = (OwnedProperties::default(), Vec::new(), 0);
    loop {
        if published > confirmed {
            let ack = amqp::BasicAck { delivery_tag: published, multiple: true };
            amqp::write_method(&mut out, 1, &ack.into());
            confirmed = published;
        }
        if peer.lock().unwrap().stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(&chunk[..count]),
        }
        let mut at = 0;
        while let Some((frame, taken)) = amqp::decode_frame(&input[at..], 0).unwrap() {
            at += taken;
            match frame.kind {
                FrameKind::Method => match Method::decode(frame.payload).unwrap() {
                    Method::BasicPublish(publish) => key = publish.routing_key.to_string(),
                    Method::BasicConsume(consume) => {
                        let mut broker = broker.lock().unwrap();
                        let queue = broker.queues.entry(consume.queue.to_owned()).or_default();
                        queue.consumer = Some(peer.clone());
                        queue.deliver();
                    }
                    Method::BasicAck(ack) => settle(broker, &peer, &ack),
                    Method::QueueDelete(delete) => {
                        // With its consumer, or the next run's messages would go to a peer that is gone.
                        broker.lock().unwrap().queues.remove(delete.queue);
                        amqp::write_method(&mut out, 1, &amqp::QueueDeleteOk::default().into());
                    }
                    method => answer(&mut out, frame.channel, &method),
                },
                FrameKind::Header => {
                    let header = amqp::decode_content_header(frame.payload).unwrap();
                    properties = OwnedProperties::decode(header.properties).unwrap();
                    body_size = header.body_size;
                    body = Vec::new();
                }
                FrameKind::Body => {
                    body.extend_from_slice(frame.payload);
                    if body.len() as u64 == body_size {
                        published += 1;
                        let body = std::mem::take(&mut body);
                        broker.lock().unwrap().publish(&key, properties.clone(), body);
                    }
                }
                FrameKind::Heartbeat => {}
            }
        }
        input.drain(..at);
    }
}

fn settle(broker: &Mutex<Broker>, peer: &Mutex<Peer>, ack: &amqp::BasicAck) {
    let mut broker = broker.lock().unwrap();
    let named = |tag: u64| tag == ack.delivery_tag || ack.multiple && tag < ack.delivery_tag;
    let unacked = std::mem::take(&mut peer.lock().unwrap().unacked);
    let (settled, rest): (Vec<_>, _) = unacked.into_iter().partition(|(tag, _)| named(*tag));
    peer.lock().unwrap().unacked = rest;
    assert!(!settled.is_empty(), "{ack:?} acknowledges nothing");
    for (_, message) in settled {
        broker.settle(message);
    }
}

fn answer(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let answer: Method<'_> = match method {
        Method::ConnectionStartOk(_) => amqp::ConnectionTune::default().into(),
        Method::ConnectionOpen(_) => amqp::ConnectionOpenOk {}.into(),
        Method::ConnectionClose(_) => amqp::ConnectionCloseOk {}.into(),
        Method::ChannelOpen(_) => amqp::ChannelOpenOk {}.into(),
        Method::ConfirmSelect(_) => amqp::ConfirmSelectOk {}.into(),
        Method::BasicQos(_) => amqp::BasicQosOk {}.into(),
        Method::QueueDeclare(declare) => {
            assert!(declare.durable && !declare.exclusive);
            amqp::QueueDeclareOk::default().into()
        }
        Method::QueuePurge(_) => amqp::QueuePurgeOk::default().into(),
        _ => return,
    };
    amqp::write_method(out, channel, &answer);
}

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    bench: BenchArgs,
}

/// Runs the command line, split at blanks, against the broker.
fn bench(uri: &str, line: &str) -> Result<TrackedReport> {
    let line = format!("bench --quiet --uri {uri} {line}");
    let arguments = CommandLine::try_parse_from(line.split_whitespace())?.bench;
    arguments.check()?;
    drive(&arguments, arguments.tracked.unwrap())
}

#[test]
fn a_tracked_run_matches_every_outcome_of_the_broker() {
    let (broker, uri) = broker(Fault::Nothing);
    let report = bench(&uri, "--tracked --confirm 20 --count 500").unwrap();
    report.check().unwrap();
    assert_eq!((report.round_trips, report.published, report.confirmed), (500, 500, 500));
    assert!(report.latency_ms.unwrap().max < 60_000.0);
    let broker = broker.lock().unwrap();
    assert!(broker.most_in_flight <= 20, "{}", broker.most_in_flight);
    let published = &broker.published;
    assert_eq!(published.len(), 500);
    for message in published {
        assert_eq!(message.delivery_mode, Some(2));
        assert_eq!(message.correlation_id, message.message_id);
        assert_eq!(message.reply_to, Some("wilco.bench.outcomes.1".into()));
        let headers = message.headers.as_ref().unwrap();
        assert_eq!(headers.get("x-notify").unwrap().as_str(), Some("all"));
    }
    let mut ids: Vec<_> = published.iter().map(|message| &message.message_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 500);
}

#[test]
fn replies_of_the_worker_make_round_trips_without_outcomes() {
    let (broker, uri) = broker(Fault::Nothing);
    let report = bench(&uri, "--tracked=reply --confirm 20 --count 500").unwrap();
    report.check().unwrap();
    assert_eq!((report.round_trips, report.confirmed), (500, 500));
    assert_eq!(broker.lock().unwrap().acknowledged, 0);
    assert!(broker.lock().unwrap().published.iter().all(|message| message.headers.is_none()));
}

#[test]
fn a_window_of_one_has_one_message_in_flight_and_ends_in_time() {
    let (broker, uri) = broker(Fault::Nothing);
    let report = bench(&uri, "--tracked -c 1 --time 0.3 --warm-up 0.1").unwrap();
    report.check().unwrap();
    assert!(report.round_trips > 10, "{}", report.round_trips);
    assert_eq!(broker.lock().unwrap().most_in_flight, 1);
}

#[test]
fn acknowledgements_that_do_not_fill_are_not_held_back() {
    let (_broker, uri) = broker(Fault::Nothing);
    for by in ["", "=reply"] {
        let line = format!("--tracked{by} -c 50 -a 7 -C 100 --size 5000");
        let report = bench(&uri, &line).unwrap();
        report.check().unwrap();
        assert_eq!(report.round_trips, 100);
    }
}

#[test]
fn two_outcomes_of_one_message_fail_the_run() {
    let (_broker, uri) = broker(Fault::Twice);
    let report = bench(&uri, "--tracked -c 10 -C 100").unwrap();
    let expected = Tally { duplicate: 1, ..Tally::default() };
    assert_eq!((report.round_trips, report.tally), (100, expected));
    assert!(report.check().unwrap_err().to_string().contains("1 duplicate"));
}

#[test]
fn a_missing_outcome_is_waited_for_and_then_fails_the_run() {
    for fault in [Fault::Missing, Fault::OfAnother] {
        let (_broker, uri) = broker(fault);
        let report = bench(&uri, "--tracked -c 10 -C 20").unwrap();
        let unmatched = u64::from(fault == Fault::OfAnother);
        let expected = Tally { missing: 1, unmatched, ..Tally::default() };
        assert_eq!((report.round_trips, report.tally), (19, expected));
        assert!(report.check().unwrap_err().to_string().contains("1 missing"));
    }
}

#[test]
fn an_outcome_other_than_processed_ends_the_run_with_what_it_is() {
    let (_broker, uri) = broker(Fault::Failed);
    let error = bench(&uri, "--tracked -c 10 -C 100").unwrap_err();
    assert!(error.to_string().contains("x-outcome failed"), "{error:#}");
}

#[test]
fn what_makes_no_round_trip_is_refused() {
    let refused = |line| bench("amqp://127.0.0.1:1", line).unwrap_err().to_string();
    assert!(refused("--tracked -y 0").contains("consumers"));
    assert!(refused("--tracked -x 0").contains("publishers"));
    assert!(refused("--tracked -c 0").contains("--confirm"));
    assert!(refused("--tracked -a 0").contains("--ack-every"));
    assert!(refused("--tracked --rate 10").contains("--rate"));
    assert!(refused("--tracked --topology").contains("--topology"));
}
