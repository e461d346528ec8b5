//! Whole runs against a broker too small to have interesting bugs: one queue in memory, deliveries
//! without regard to prefetch, one confirm for everything that a read brought.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use amqp::{FrameKind, Method};
use anyhow::Result;
use clap::Parser;

use super::*;
use crate::report::Report;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    bench: BenchArgs,
}

/// The bodies in the queue, and a condition variable for those who wait for them.
#[derive(Default)]
struct Queue {
    bodies: Mutex<VecDeque<Vec<u8>>>,
    bell: Condvar,
}

/// Starts the broker and returns its queue and URI.
fn broker() -> (Arc<Queue>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("amqp://{}", listener.local_addr().unwrap());
    let queue = Arc::new(Queue::default());
    let shared = queue.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let queue = shared.clone();
            std::thread::spawn(move || serve(stream, &queue));
        }
    });
    (queue, uri)
}

fn serve(mut stream: TcpStream, queue: &Arc<Queue>) {
    stream.read_exact(&mut [0; 8]).unwrap();
    let mut out = Vec::new();
    amqp::write_method(&mut out, 0, &amqp::ConnectionStart::default().into());
    let (mut input, mut chunk) = (Vec::new(), vec![0; 65536]);
    let (mut confirms, mut published) = (false, 0);
    let (mut body, mut body_size) = (Vec::new(), 0);
    loop {
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(count) => input.extend_from_slice(&chunk[..count]),
        }
        let before = published;
        let mut at = 0;
        while let Some((frame, taken)) = amqp::decode_frame(&input[at..], 0).unwrap() {
            at += taken;
            match frame.kind {
                FrameKind::Method => match Method::decode(frame.payload).unwrap() {
                    Method::ConfirmSelect(_) => {
                        confirms = true;
                        amqp::write_method(&mut out, 1, &amqp::ConfirmSelectOk {}.into());
                    }
                    Method::BasicConsume(consume) => {
                        let tag = consume.consumer_tag.to_owned();
                        let (stream, queue) = (stream.try_clone().unwrap(), queue.clone());
                        std::thread::spawn(move || deliver(stream, &queue, &tag));
                    }
                    method => answer(&mut out, frame.channel, &method),
                },
                FrameKind::Header => {
                    body_size = amqp::decode_content_header(frame.payload).unwrap().body_size;
                    body = Vec::new();
                }
                FrameKind::Body => {
                    body.extend_from_slice(frame.payload);
                    if body.len() as u64 == body_size {
                        published += 1;
                        queue.bodies.lock().unwrap().push_back(std::mem::take(&mut body));
                        queue.bell.notify_all();
                    }
                }
                FrameKind::Heartbeat => {}
            }
        }
        input.drain(..at);
        if confirms && published > before {
            let ack = amqp::BasicAck { delivery_tag: published, multiple: true };
            amqp::write_method(&mut out, 1, &ack.into());
        }
    }
}

fn answer(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    let answer: Method<'_> = match method {
        Method::ConnectionStartOk(_) => amqp::ConnectionTune::default().into(),
        Method::ConnectionOpen(_) => amqp::ConnectionOpenOk {}.into(),
        Method::ConnectionClose(_) => amqp::ConnectionCloseOk {}.into(),
        Method::ChannelOpen(_) => amqp::ChannelOpenOk {}.into(),
        Method::BasicQos(_) => amqp::BasicQosOk {}.into(),
        Method::QueueDeclare(declare) if declare.queue.starts_with("refused") => {
            amqp::ChannelClose {
                reply_code: 403,
                reply_text: "ACCESS_REFUSED - not that one",
                ..Default::default()
            }
            .into()
        }
        Method::QueueDeclare(_) => amqp::QueueDeclareOk::default().into(),
        Method::QueueDelete(_) => amqp::QueueDeleteOk::default().into(),
        Method::QueueBind(_) => amqp::QueueBindOk {}.into(),
        _ => return,
    };
    amqp::write_method(out, channel, &answer);
}

fn deliver(mut stream: TcpStream, queue: &Queue, consumer_tag: &str) {
    let mut out = Vec::new();
    for delivery_tag in 1.. {
        let waiting = queue.bodies.lock().unwrap();
        let mut bodies = queue.bell.wait_while(waiting, |bodies| bodies.is_empty()).unwrap();
        let body = bodies.pop_front().unwrap();
        drop(bodies);
        out.clear();
        let method = amqp::BasicDeliver { consumer_tag, delivery_tag, ..Default::default() };
        let delivery = amqp::Delivery { method, properties: &[0, 0], body: &body };
        amqp::write_deliver(&mut out, 1, &delivery, 4096);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// Runs the command line, split at blanks, against the broker.
fn bench(uri: &str, line: &str) -> Result<Report> {
    let line = format!("bench --quiet --uri {uri} {line}");
    let arguments = CommandLine::try_parse_from(line.split_whitespace()).unwrap().bench;
    arguments.check()?;
    drive::drive(&arguments)
}

#[test]
fn a_run_by_count_publishes_and_consumes_exactly_that() {
    let (queue, uri) = broker();
    let report = bench(&uri, "-x 2 --count 700 --size 20000 --confirm 50 --ack-every 10").unwrap();
    let counts = report.counts;
    assert_eq!((counts.published, counts.confirmed, counts.consumed), (1400, 1400, 1400));
    let latency = report.latency_ms.unwrap();
    assert!(latency.min <= latency.p50 && latency.p50 <= latency.max && latency.max < 60_000.0);
    assert!(report.confirm_latency_ms.is_some());
    assert!(queue.bodies.lock().unwrap().is_empty());
}

#[test]
fn a_backlog_is_published_and_drained() {
    let (queue, uri) = broker();
    let filled = bench(&uri, "-y 0 --count 300 --size 4").unwrap();
    assert_eq!(filled.counts.published, 300);
    assert!(filled.latency_ms.is_none() && filled.confirm_latency_ms.is_none());
    assert_eq!(queue.bodies.lock().unwrap().len(), 300);
    let drained = bench(&uri, "-x 0 --count 300 --size 4 --ack-every 7").unwrap();
    assert_eq!((drained.counts.published, drained.counts.consumed), (0, 300));
}

#[test]
fn what_a_fanout_exchange_copies_is_waited_for() {
    let parsed = |line: &str| {
        let words = format!("bench {line}");
        CommandLine::try_parse_from(words.split_whitespace()).unwrap().bench
    };
    let fanout = parsed("-x 2 -C 100 -n 4 -e x -t fanout");
    assert_eq!((fanout.copies(), fanout.consume_target()), (4, Some(800)));
    let drain = parsed("-x 0 -C 100 -n 4 -e x -t fanout");
    assert_eq!(drain.consume_target(), Some(100));
    let direct = parsed("-x 2 -C 100 -n 4 -e x");
    assert_eq!((direct.copies(), direct.consume_target()), (1, Some(200)));
}

#[test]
fn a_paced_run_keeps_its_rate() {
    let (_queue, uri) = broker();
    let report = bench(&uri, "--rate 500 --time 1 --confirm 100").unwrap();
    assert!((400..=520).contains(&report.counts.published), "{}", report.counts.published);
}

#[test]
fn a_refusal_by_the_broker_ends_the_run_with_its_text() {
    let (_queue, uri) = broker();
    let error = bench(&uri, "--queue refused --count 1").unwrap_err();
    assert!(format!("{error:#}").contains("ACCESS_REFUSED - not that one"), "{error:#}");
}

#[test]
fn contradictory_arguments_are_refused() {
    let refused = |line| bench("amqp://127.0.0.1:1", line).unwrap_err().to_string();
    assert!(refused("-x 0 -y 0").contains("nothing to do"));
    assert!(refused("--ack-every 10 --prefetch 5").contains("wait for ever"));
    assert!(refused("--rate=-1").contains("--rate"));
    assert!(refused("--count 0").contains("--count"));
}
