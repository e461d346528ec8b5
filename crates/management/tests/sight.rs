//! A caller that may not read a queue learns nothing about it, whatever it asks: every call, with
//! various permissions.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use amqp::{FieldTable, FieldValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Fixture, Reply};
use node::definitions::Permissions;
use node::embedded::{Event, Link};
use node::{Consume, Destination, Properties, Settlement};
use serde_json::{Value, json};

/// What occurs only in the queue `payroll`: its name, what its worker said, who the worker is.
const SECRETS: [&str; 6] =
    ["payroll", "4200 euro", "NDIwMCBldXJv", "no money", "paymaster", "graveyard"];

/// A worker that reports on each message, settles it, and leaves.
fn work(fixture: &Fixture, queue: &str, tag: &str, said: (&str, bool), count: usize) {
    let mut link = Link::open(fixture.node(), "/", "guest").expect("a link");
    let channel = link.open_channel().expect("a channel");
    let options = Consume { tag, ..Consume::default() };
    link.consume(channel, queue, &options).expect("a consumer");
    for _ in 0..count {
        let event = link.next_event(Some(Duration::from_secs(20)));
        let Some(Event::Delivered(delivery)) = event else { panic!("no message in {queue}") };
        let properties = delivery.message.properties().expect("properties");
        let id = properties.message_id.expect("an id");
        // So that no time in one queue is also one in the other.
        std::thread::sleep(Duration::from_millis(5));
        let mut headers = FieldTable::new();
        let (text, is_good) = said;
        if !is_good {
            headers.insert("x-outcome", FieldValue::from("failed".to_owned()));
        }
        let mut encoded = Vec::new();
        let report = amqp::OwnedProperties {
            headers: Some(headers),
            content_type: Some("text/plain".to_owned().into()),
            ..amqp::OwnedProperties::default()
        };
        report.encode(&mut encoded);
        let publish = node::Publish {
            exchange: "amq.wilco.report",
            routing_key: id,
            mandatory: false,
            properties: &encoded,
            body: text.as_bytes(),
        };
        link.session().publish(channel, &publish).expect("reported");
        let settlement = if is_good { Settlement::Ack } else { Settlement::Reject };
        link.settle(channel, delivery.tag, settlement).expect("settled");
    }
    link.close();
    std::thread::sleep(Duration::from_millis(5));
}

fn publish(fixture: &Fixture, exchange: &str, key: &str, id: &str) {
    let mut link = Link::open(fixture.node(), "/", "guest").expect("a link");
    let channel = link.open_channel().expect("a channel");
    let properties =
        Properties { message_id: Some(id.into()), delivery_mode: Some(2), ..Properties::default() };
    link.publish(channel, exchange, key, &properties, b"x").expect("published");
    link.close();
}

/// A node on which much has happened in `payroll`, and some of it also in `open`.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let to = |name: &str| FieldValue::from(name.to_owned());
    let dead = [("x-dead-letter-exchange", to("")), ("x-dead-letter-routing-key", to("graveyard"))];
    fixture.declare("graveyard");
    fixture.declare_with("open", &dead);
    let dedup = ("x-message-deduplication", FieldValue::Bool(true));
    fixture.declare_with("payroll", &[dead[0].clone(), dead[1].clone(), dedup]);
    let mut link = Link::open(fixture.node(), "/", "guest").expect("a link");
    link.open_channel().expect("a channel");
    for queue in ["open", "payroll"] {
        let queue = Destination::Queue(queue.into());
        link.session().bind("amq.fanout", &queue, "", &FieldTable::new()).expect("bound");
    }
    link.close();
    let (good, bad) = (("4200 euro", true), ("no money", false));
    publish(&fixture, "", "payroll", "hidden-good");
    work(&fixture, "payroll", "paymaster", good, 1);
    publish(&fixture, "", "payroll", "hidden-bad");
    work(&fixture, "payroll", "paymaster", bad, 1);
    work(&fixture, "graveyard", "paymaster", good, 1);
    // Routed to both by a key that is a queue's name, and failed in one of them.
    publish(&fixture, "amq.fanout", "payroll", "both");
    work(&fixture, "open", "clerk", ("fine", true), 1);
    work(&fixture, "payroll", "paymaster", bad, 1);
    publish(&fixture, "amq.fanout", "", "both-open");
    work(&fixture, "open", "clerk", ("fine", true), 1);
    // Its dead-letter copy is processed in a hidden queue.
    publish(&fixture, "", "open", "dead");
    work(&fixture, "open", "clerk", ("oh", false), 1);
    work(&fixture, "graveyard", "paymaster", good, 2);
    publish(&fixture, "", "payroll", "hidden-queued");
    publish(&fixture, "amq.fanout", "payroll", "cancelled");
    publish(&fixture, "amq.direct", "payroll", "unroutable");
    let last = "/v1/messages/unroutable";
    fixture.eventually(last, |reply| reply.json["state"] == "settled");
    let made_good = |reply: &Reply| reply.json["recovered"] == true;
    fixture.eventually("/v1/messages/dead", made_good);
    fixture
}

const IDS: [&str; 8] = [
    "hidden-good",
    "hidden-bad",
    "hidden-queued",
    "both",
    "both-open",
    "dead",
    "cancelled",
    "unroutable",
];

/// All times in hidden queues: of outcomes, and of entries in timelines.
fn hidden_times(fixture: &Fixture) -> Vec<String> {
    let mut times = Vec::new();
    let mut shown_times = Vec::new();
    for id in IDS {
        let message = fixture.get(&format!("/v1/messages/{id}")).json;
        for line in message["timeline"].as_array().expect("a timeline") {
            let is_published = line["event"] == "published" && line["copy"] == false;
            let is_open = line["queue"] == "open" || is_published && !id.starts_with("hidden");
            let time = line["time"].as_str().expect("a time").to_owned();
            if is_open { shown_times.push(time) } else { times.push(time) }
        }
    }
    times.retain(|time| !shown_times.contains(time));
    assert!(times.len() > 10, "{times:?}");
    times
}

#[test]
fn no_call_tells_anything_of_a_queue_that_may_not_be_read() {
    let mut fixture = fixture();
    let times = hidden_times(&fixture);
    fixture.add_user("eve", &[], "", "");
    fixture.user = "eve:eve".to_owned();
    let check = |what: &str, text: &str| {
        for secret in SECRETS.iter().copied().chain(times.iter().map(String::as_str)) {
            assert!(!text.contains(secret), "{what} tells {secret}: {text}");
        }
    };
    // From all permissions but reading the queue, down to none.
    for (write, read) in [
        (".*", "^open$"),
        ("^(open|amq.default)$", "^open$"),
        ("^amq.default$", "^open$"),
        ("^$", "^open$"),
        (".*", "^amq.*"),
        ("^amq.default$", "^$"),
        ("", ""),
    ] {
        let permissions =
            Permissions { configure: ".*".into(), write: write.into(), read: read.into() };
        fixture.node().set_permissions("/", "eve", permissions).expect("permissions");
        let sees_open = read == "^open$";
        let mut calls = vec![
            ("GET", "/v1/outcomes".to_owned()),
            ("GET", "/v1/outcomes?limit=1".to_owned()),
            ("GET", "/v1/outcomes?outcome=failed".to_owned()),
        ];
        for id in IDS {
            calls.extend([
                ("GET", format!("/v1/messages/{id}")),
                ("GET", format!("/v1/messages/{id}/outcome")),
                ("DELETE", format!("/v1/messages/{id}?queue=payroll")),
                ("POST", format!("/v1/messages/{id}/retry?queue=payroll")),
                ("DELETE", format!("/v1/messages/{id}?queue=graveyard")),
            ]);
            if id != "cancelled" || write != ".*" {
                // Where it is allowed, it changes what the next user finds.
                calls.push(("DELETE", format!("/v1/messages/{id}")));
            }
            if !(write.contains("open") || write == ".*") {
                calls.push(("POST", format!("/v1/messages/{id}/retry")));
            }
        }
        for (method, path) in calls {
            let reply = fixture.call(method, &path, None);
            check(&format!("{method} {path} with {write} {read}"), &reply.text);
            let names_hidden = path.contains("queue=") || path.contains("/hidden-");
            let is_hidden = names_hidden || path.contains("unroutable") || !sees_open;
            if path.starts_with("/v1/messages") && is_hidden {
                reply.problem(404, "unknown-message");
            }
        }
        for path in ["/v1/outcomes?queue=payroll", "/v1/outcomes?queue=none&outcome=failed"] {
            let reply = fixture.get(path);
            assert_eq!(reply.json, json!({"outcomes": [], "has_more": false}), "{path}");
        }
        let feed = read_feed(&fixture, "/v1/events?after=0-0");
        check("the feed", &feed);
        assert_eq!(feed.contains("clerk"), sees_open, "{feed}");
        let feed = read_feed(&fixture, "/v1/events?after=0-0&queue=payroll&outcome=failed");
        assert!(!feed.contains("event:"), "{feed}");
        if sees_open {
            let both = fixture.get("/v1/messages/both").json;
            assert_eq!(
                (&both["outcome"], &both["routing_key"]),
                (&json!("processed"), &Value::Null)
            );
            assert_eq!(fixture.get("/v1/messages/both-open").json["state"], "settled");
            assert_eq!(fixture.get("/v1/messages/dead").json["recovered"], false);
            assert_eq!(fixture.get("/v1/messages/dead").json["copies"], json!([]));
        }
        for id in IDS {
            for (key, path) in [
                ("amq.rabbitmq.reply-to.x", "/v1/messages?wait=0"),
                ("amq.rabbitmq.reply-to.x", "/v1/messages"),
                ("nowhere", "/v1/messages?wait=0"),
                ("nowhere", "/v1/messages"),
            ] {
                let message = json!({"routing_key": key, "payload": "", "message_id": id});
                let reply = fixture.post(path, message);
                check(&format!("published to {key} at {path} with {write} {read}"), &reply.text);
            }
        }
    }
}

#[test]
fn publishing_an_id_again_tells_nothing_of_who_had_it_before() {
    let mut fixture = fixture();
    let times = hidden_times(&fixture);
    fixture.add_user("eve", &[], ".*", "^$");
    fixture.user = "eve:eve".to_owned();
    for id in ["hidden-good", "hidden-bad", "hidden-queued", "both"] {
        for path in ["/v1/messages?wait=1", "/v1/messages?wait=0", "/v1/messages"] {
            let message = json!({"routing_key": "payroll", "payload": "", "message_id": id});
            let start = Instant::now();
            let reply = fixture.post(path, message);
            // A duplicate: the answer says that it was taken, and no more.
            let expected = json!({"message_id": id, "routed": true, "state": "queued"});
            assert_eq!((reply.status, &reply.json), (202, &expected), "{path}");
            assert!(start.elapsed() < Duration::from_millis(900), "nothing is waited for");
        }
        // That queue does not look for duplicates: it is a message of its own, and only that is
        // seen.
        let message = json!({"routing_key": "graveyard", "payload": "", "message_id": id});
        let reply = fixture.post("/v1/messages?wait=0", message);
        assert_eq!((reply.status, &reply.json["duplicate"]), (202, &json!(false)), "{reply:?}");
        assert_eq!(reply.json["queues"][0]["queue"], "graveyard");
        assert_eq!(reply.json["earlier"], json!([]));
        assert_eq!(reply.json["timeline"].as_array().map(Vec::len), Some(1), "{reply:?}");
        for secret in ["payroll", "4200", "no money", "paymaster"] {
            assert!(!reply.text.contains(secret), "{secret}: {reply:?}");
        }
        assert!(times.iter().all(|time| !reply.text.contains(time)), "{reply:?}");
    }
}

#[test]
fn a_publisher_sees_what_becomes_of_its_own_where_it_may_not_read() {
    let mut fixture = fixture();
    fixture.declare("mine");
    fixture.add_user("eve", &[], "^(amq.default|amq.fanout)$", "^$");
    fixture.user = "eve:eve".to_owned();
    // Somebody else has published this id before, and it is being worked on.
    publish(&fixture, "", "mine", "m");
    work(&fixture, "mine", "clerk", ("theirs", true), 1);
    std::thread::scope(|scope| {
        let reply = scope.spawn(|| {
            let message = json!({"routing_key": "mine", "payload": "", "message_id": "m"});
            fixture.post("/v1/messages?wait=20", message)
        });
        work(&fixture, "mine", "clerk", ("for eve", true), 1);
        let reply = reply.join().expect("an answer");
        assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("processed")), "{reply:?}");
        assert_eq!(reply.json["queues"][0]["result"], "for eve");
        assert_eq!(reply.json["earlier"], json!([]));
        assert!(!reply.text.contains("theirs"), "{reply:?}");
    });
    fixture.get("/v1/messages/m").problem(404, "unknown-message");
    let lost = json!({"routing_key": "nowhere", "payload": "", "message_id": "lost"});
    let reply = fixture.post("/v1/messages?wait=0", lost);
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("unroutable")), "{reply:?}");
    assert_eq!(reply.json["timeline"][0]["event"], "settled", "{reply:?}");
    fixture.get("/v1/messages/lost").problem(404, "unknown-message");
}

#[test]
fn of_two_who_publish_an_id_at_once_each_is_shown_its_own() {
    let mut fixture = Fixture::new();
    fixture.declare("a");
    fixture.declare("b");
    fixture.add_user("eve", &[], "^amq.default$", "^$");
    fixture.user = "eve:eve".to_owned();
    let publish = |queue: &str, id: &str| {
        let message = json!({"routing_key": queue, "payload": queue, "message_id": id});
        fixture.post("/v1/messages?wait=0", message)
    };
    for number in 0..20 {
        let id = number.to_string();
        std::thread::scope(|scope| {
            let both = ["a", "b"].map(|queue| (queue, scope.spawn(|| publish(queue, &id))));
            for (queue, reply) in both {
                let reply = reply.join().expect("an answer");
                let shown = reply.json["queues"].as_array().expect("queues");
                assert_eq!((shown.len(), &shown[0]["queue"]), (1, &json!(queue)), "{reply:?}");
                assert_eq!(reply.json["routing_key"], queue, "{reply:?}");
            }
        });
    }
}

#[test]
fn waiting_for_what_may_not_be_read_ends_at_once() {
    let mut fixture = fixture();
    fixture.add_user("eve", &[], ".*", "^open$");
    fixture.user = "eve:eve".to_owned();
    for id in ["hidden-queued", "no-such"] {
        let start = Instant::now();
        let reply = fixture.get(&format!("/v1/messages/{id}/outcome?wait=5"));
        reply.problem(404, "unknown-message");
        assert!(start.elapsed() < Duration::from_secs(2), "{id}");
    }
    // The hidden part of a message is not waited for.
    let start = Instant::now();
    let reply = fixture.get("/v1/messages/both-open/outcome?wait=5");
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("processed")), "{reply:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
    // A permission that is taken away during the wait counts.
    publish(&fixture, "", "open", "waited-for");
    fixture.eventually("/v1/messages/waited-for", |reply| reply.status == 200);
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| fixture.get("/v1/messages/waited-for/outcome?wait=20"));
        std::thread::sleep(Duration::from_millis(200));
        let none = Permissions { configure: "".into(), write: "".into(), read: "".into() };
        fixture.node().set_permissions("/", "eve", none).expect("permissions");
        work(&fixture, "open", "clerk", ("fine", true), 2);
        poll.join().expect("an answer").problem(404, "unknown-message");
    });
}

#[test]
fn a_page_is_filled_with_what_may_be_read() {
    let mut fixture = Fixture::new();
    fixture.declare("open");
    fixture.declare("payroll");
    fixture.add_user("eve", &[], "", "^open$");
    for number in 0..40 {
        let queue = if number % 10 == 9 { "open" } else { "payroll" };
        publish(&fixture, "", queue, &format!("{queue}-{number}"));
        work(&fixture, queue, "w", ("fine", true), 1);
    }
    let all = |reply: &Reply| reply.json["outcomes"].as_array().map(Vec::len) == Some(40);
    fixture.eventually("/v1/outcomes", all);
    fixture.user = "eve:eve".to_owned();
    let (mut after, mut seen) = (String::new(), Vec::new());
    for has_more in [true, true, true, false] {
        let page = fixture.get(&format!("/v1/outcomes?limit=1{after}"));
        let outcomes = page.json["outcomes"].as_array().expect("a list");
        assert_eq!((outcomes.len(), &page.json["has_more"]), (1, &json!(has_more)), "{page:?}");
        seen.push(outcomes[0]["message_id"].as_str().expect("an id").to_owned());
        after = format!("&after={}", page.json["next"].as_str().expect("a cursor"));
    }
    assert_eq!(seen, ["open-9", "open-19", "open-29", "open-39"]);
}

/// What a feed sends at once.
fn read_feed(fixture: &Fixture, path: &str) -> String {
    let mut stream = TcpStream::connect(fixture.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    let user = STANDARD.encode(&fixture.user);
    let head = format!("GET {path} HTTP/1.1\r\nhost: t\r\nauthorization: Basic {user}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        text.extend_from_slice(&buffer[..bytes]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
