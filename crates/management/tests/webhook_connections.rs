//! What webhooks cost and repeat: one connection serves many deliveries, none is kept for ever, and
//! after a crash only the last deliveries are repeated.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver as Calls, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use common::Fixture;
use node::Settlement;
use serde_json::{Value, json};

/// How a receiver treats its connections.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Keeps,
    /// Closes after each answer, without saying so.
    Closes,
    /// Closes after each answer, and says so.
    SaysItCloses,
    /// Answers after this long.
    Slow(Duration),
    /// Promises a longer answer than it gives.
    GoesOn,
    /// Answers its second call with something that is no HTTP.
    Garbles,
}

/// A call: the message's id and the header `webhook-id`.
type Call = (String, String);

/// A receiver that accepts everything.
struct Receiver {
    url: String,
    calls: Calls<Call>,
    /// How many connections were ever opened, and how many are open.
    opened: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Receiver {
    fn new(habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let (opened, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (send, calls) = channel();
        let counts = (Arc::clone(&opened), Arc::clone(&open));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (send, open) = (send.clone(), Arc::clone(&counts.1));
                counts.0.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    converse(stream, habit, &send);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, calls, opened, open }
    }

    fn next(&self) -> Call {
        self.calls.recv_timeout(Duration::from_secs(20)).expect("a call")
    }

    fn ids(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().0).collect()
    }

    fn hears_nothing(&self) {
        let heard = self.calls.recv_timeout(Duration::from_millis(300));
        assert!(matches!(heard, Err(RecvTimeoutError::Timeout)), "{heard:?}");
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

/// One connection, until either side closes it.
fn converse(stream: TcpStream, habit: Habit, calls: &Sender<Call>) {
    let mut reader = BufReader::new(stream);
    let mut call_count = 0;
    while let Some(call) = read(&mut reader) {
        call_count += 1;
        if let Habit::Slow(delay) = habit {
            std::thread::sleep(delay);
        }
        let closing = if habit == Habit::SaysItCloses { "connection: close\r\n" } else { "" };
        // With a body, so that it must be read before the next call.
        let length = if habit == Habit::GoesOn { 1000 } else { 5 };
        let answer = match habit == Habit::Garbles && call_count == 2 {
            true => "thank you\r\n\r\n".to_owned(),
            false => {
                format!("HTTP/1.1 200 OK\r\n{closing}content-length: {length}\r\n\r\nthank")
            }
        };
        // Sent before the answer, after which the next call may come over another connection.
        let is_heard = calls.send(call).is_ok();
        let is_sent = reader.get_mut().write_all(answer.as_bytes()).is_ok();
        let is_closed = matches!(habit, Habit::Closes | Habit::SaysItCloses);
        if !is_heard || !is_sent || is_closed {
            return;
        }
    }
}

/// `None` at the end of the connection.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Call> {
    let (mut length, mut id) = (0, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(("webhook-id", value)) => id = Some(value.to_owned()),
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    Some((body["data"]["message_id"].as_str().expect("an id").to_owned(), id?))
}

fn hook(fixture: &Fixture, receiver: &Receiver) -> String {
    let reply = fixture.post("/v1/webhooks", json!({"url": receiver.url}));
    assert_eq!(reply.status, 201, "{reply:?}");
    format!("/v1/webhooks/{}", reply.json["id"].as_str().expect("an id"))
}

/// Publishes messages with these numbers as their ids, each one settled before the next.
fn publish(fixture: &Fixture, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers
        .map(|number| {
            let id = number.to_string();
            let message = json!({"routing_key": "q", "payload": "x", "message_id": id});
            assert_eq!(fixture.post("/v1/messages?wait=20", message).status, 200);
            id
        })
        .collect()
}

/// Waits until the answer to the last call has been noted.
fn settled(fixture: &Fixture, path: &str) {
    let page = fixture.get("/v1/outcomes?limit=1000").json;
    let last = page["outcomes"].as_array().and_then(|all| all.last()).expect("an outcome");
    fixture.eventually(path, |reply| reply.json["cursor"] == last["cursor"]);
}

fn many_deliveries_go_over_one_connection(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let receiver = Receiver::new(Habit::Keeps);
    let path = hook(fixture, &receiver);
    let ids = publish(fixture, 0..50);
    assert_eq!(receiver.ids(50), ids);
    assert_eq!(receiver.opened(), 1);
    settled(fixture, &path);
    // A kept connection is not used for another endpoint.
    let other = Receiver::new(Habit::Keeps);
    assert_eq!(fixture.call("PATCH", &path, Some(json!({"url": other.url}))).status, 200);
    let next = publish(fixture, 50..52);
    assert_eq!(other.ids(2), next);
    receiver.hears_nothing();
    assert_eq!((receiver.opened(), receiver.open.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(fixture.call("DELETE", &path, None).status, 204);
    let start = Instant::now();
    while other.open.load(Ordering::SeqCst) > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "it is closed with its webhook");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_receiver_that_closes_after_each_gets_each_once(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let receivers = [Habit::Closes, Habit::SaysItCloses].map(Receiver::new);
    let paths = receivers.each_ref().map(|receiver| hook(fixture, receiver));
    let ids = publish(fixture, 0..20);
    for (receiver, path) in receivers.iter().zip(&paths) {
        assert_eq!(receiver.ids(20), ids);
        receiver.hears_nothing();
        assert_eq!(receiver.opened(), 20);
        let status = fixture.get(path).json["status"].clone();
        assert_eq!(status["last_failure_at"], Value::Null, "it is no failure: {status}");
    }
}

fn an_answer_that_is_no_http_is_a_failure_and_not_repeated_at_once(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let receiver = Receiver::new(Habit::Garbles);
    let path = hook(fixture, &receiver);
    for number in 0..2 {
        let ids = publish(fixture, number..number + 1);
        assert_eq!(receiver.ids(1), ids);
    }
    receiver.hears_nothing();
    fixture.eventually(&path, |reply| reply.json["status"]["last_failure_at"] != Value::Null);
}

fn a_slow_receiver_keeps_its_own_deliveries_waiting_only(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let slow = Receiver::new(Habit::Slow(Duration::from_millis(700)));
    let quick = Receiver::new(Habit::Keeps);
    hook(fixture, &slow);
    hook(fixture, &quick);
    let start = Instant::now();
    let ids = publish(fixture, 0..3);
    assert_eq!(quick.ids(3), ids);
    assert!(start.elapsed() < Duration::from_millis(2100), "the quick one waits for nobody");
    assert_eq!(slow.ids(3), ids);
    assert!(start.elapsed() >= Duration::from_millis(2100), "one after the other");
    slow.hears_nothing();
    assert_eq!(slow.opened(), 1);
}

fn an_answer_that_does_not_end_holds_nothing_up(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let receiver = Receiver::new(Habit::GoesOn);
    hook(fixture, &receiver);
    let ids = publish(fixture, 0..3);
    assert_eq!(receiver.ids(3), ids);
    receiver.hears_nothing();
    assert_eq!(receiver.opened(), 3, "none can be used again");
}

fn deliveries_are_not_written_down_one_by_one(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let receiver = Receiver::new(Habit::Keeps);
    let path = hook(fixture, &receiver);
    let file = fixture.directory().join("management.redb");
    let written_at = || std::fs::metadata(&file).and_then(|it| it.modified()).expect("a time");
    let (start, mut times) = (Instant::now(), std::collections::HashSet::new());
    for number in 0..100 {
        publish(fixture, number..number + 1);
        receiver.next();
        times.insert(written_at());
    }
    // A write may be visible while it is under way.
    let expected = 3 * (start.elapsed().as_secs() as usize + 2);
    assert!(times.len() <= expected, "{} writes", times.len());
    // How far it has come is shown all the same.
    settled(fixture, &path);
}

common::over_both! {
    many_deliveries_go_over_one_connection,
    a_receiver_that_closes_after_each_gets_each_once,
    an_answer_that_is_no_http_is_a_failure_and_not_repeated_at_once,
    a_slow_receiver_keeps_its_own_deliveries_waiting_only,
    an_answer_that_does_not_end_holds_nothing_up,
    deliveries_are_not_written_down_one_by_one,
}

#[test]
fn a_crash_repeats_at_most_what_was_delivered_since_the_last_write() {
    let fixture = Fixture::new();
    fixture.declare("q");
    let worker = fixture.worker("q", Settlement::Ack);
    let receiver = Receiver::new(Habit::Keeps);
    hook(&fixture, &receiver);
    publish(&fixture, 0..5);
    receiver.ids(5);
    // Longer than the file may lag behind.
    std::thread::sleep(Duration::from_millis(1500));
    publish(&fixture, 5..10);
    let last: Vec<Call> = (0..5).map(|_| receiver.next()).collect();
    drop(worker);
    let fixture = fixture.kill_and_restart(|_| {});
    let worker = fixture.worker("q", Settlement::Ack);
    publish(&fixture, 10..11);
    let mut repeated = Vec::new();
    loop {
        let call = receiver.next();
        if call.0 == "10" {
            break;
        }
        repeated.push(call);
    }
    assert!(last.ends_with(&repeated), "{repeated:?} of {last:?}");
    receiver.hears_nothing();
    // Without a crash nothing is repeated.
    drop(worker);
    let fixture = fixture.restart(|_| {});
    receiver.hears_nothing();
    drop(fixture);
}
