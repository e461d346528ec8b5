//! Webhooks against a small real HTTP server on this machine.

mod common;

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::Fixture;
use hmac::{Hmac, KeyInit, Mac};
use node::Settlement;
use serde_json::{Value, json};

/// A request that a receiver got.
#[derive(Debug)]
struct Call {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Call {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    fn message_id(&self) -> String {
        self.json()["data"]["message_id"].as_str().expect("an id").to_owned()
    }

    /// Checks the signature as a receiver does.
    fn verify(&self, secret: &str) {
        let key =
            STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).expect("a key");
        let (id, timestamp) = (&self.headers["webhook-id"], &self.headers["webhook-timestamp"]);
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(self.headers["webhook-signature"], expected);
        let age = node_now_s().abs_diff(timestamp.parse().expect("seconds"));
        assert!(age < 60, "{age}");
    }
}

fn node_now_s() -> u64 {
    use node::clock::{Clock, SystemClock};
    SystemClock.now_ms() / 1000
}

/// A receiver that answers with these statuses, then with 204 for ever.
struct Hook {
    url: String,
    calls: Receiver<Call>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Hook {
    fn new(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let (send, calls) = channel();
        let for_thread = Arc::clone(&answers);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.is_empty() {
                    continue;
                }
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut headers = HashMap::new();
                loop {
                    let mut line = String::new();
                    let read = reader.read_line(&mut line).unwrap_or(0);
                    let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                    headers.insert(name.to_lowercase(), value.to_owned());
                    if read == 0 {
                        break;
                    }
                }
                let length = headers.get("content-length").and_then(|it| it.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let answer = for_thread.lock().expect("a lock").pop_front();
                let answer = answer.unwrap_or("204 No Content");
                let text = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                let _ = reader.get_mut().write_all(text.as_bytes());
                if send.send(Call { path, headers, body }).is_err() {
                    return;
                }
            }
        });
        Self { url, calls, answers }
    }

    fn next(&self) -> Call {
        self.calls.recv_timeout(Duration::from_secs(20)).expect("a call")
    }

    fn hears_nothing(&self) {
        let heard = self.calls.recv_timeout(Duration::from_millis(300));
        assert!(matches!(heard, Err(RecvTimeoutError::Timeout)), "{heard:?}");
    }
}

/// Fast enough for a test, with two retries.
fn fast(options: &mut management::Options) {
    options.retry_delays = vec![Duration::from_millis(20), Duration::from_millis(50)];
}

fn publish(fixture: &Fixture, id: &str) {
    let message = json!({"routing_key": "q", "payload": "x", "message_id": id});
    let reply = fixture.post("/v1/messages?wait=20", message);
    assert_eq!(reply.status, 200, "{reply:?}");
}

fn add(fixture: &Fixture, body: Value) -> (String, String) {
    let reply = fixture.post("/v1/webhooks", body);
    assert_eq!(reply.status, 201, "{reply:?}");
    let id = reply.json["id"].as_str().expect("an id");
    assert_eq!(reply.headers["location"], format!("/v1/webhooks/{id}"));
    let secret = reply.json["secret"].as_str().expect("a secret");
    (format!("/v1/webhooks/{id}"), secret.to_owned())
}

#[test]
fn outcomes_arrive_signed_and_in_order() {
    let fixture = Fixture::with(fast);
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    publish(&fixture, "before");
    std::thread::sleep(Duration::from_millis(5));
    let receiver = Hook::new(&[]);
    let (_, secret) = add(&fixture, json!({"url": receiver.url}));
    for number in 0..10 {
        publish(&fixture, &number.to_string());
    }
    for number in 0..10 {
        let call = receiver.next();
        call.verify(&secret);
        assert_eq!(call.message_id(), number.to_string());
        let body = call.json();
        assert_eq!(body["type"], "outcome.processed");
        assert_eq!(body["data"]["outcome"], "processed");
        let id = format!("evt_{}", body["data"]["cursor"].as_str().expect("a cursor"));
        assert_eq!(
            (call.headers["webhook-id"].as_str(), call.path.as_str()),
            (id.as_str(), "/hook")
        );
    }
    receiver.hears_nothing();
}

#[test]
fn only_what_was_asked_for_arrives() {
    let fixture = Fixture::with(fast);
    fixture.declare("q");
    let receiver = Hook::new(&[]);
    add(&fixture, json!({"url": receiver.url, "queue": "q", "outcomes": ["failed", "dropped"]}));
    add(&fixture, json!({"url": receiver.url, "vhost": "other"}));
    add(&fixture, json!({"url": receiver.url, "queue": "other"}));
    let worker = fixture.worker("q", Settlement::Ack);
    publish(&fixture, "processed");
    drop(worker);
    let _worker = fixture.worker("q", Settlement::Reject);
    publish(&fixture, "failed");
    assert_eq!(receiver.next().message_id(), "failed");
    receiver.hears_nothing();
}

#[test]
fn a_webhook_is_told_what_its_user_may_read() {
    let fixture = Fixture::with(fast);
    fixture.declare("q");
    fixture.declare("hidden");
    fixture.add_user("anna", &["administrator"], "", "^q$");
    let _workers =
        (fixture.worker("q", Settlement::Ack), fixture.worker("hidden", Settlement::Ack));
    let receiver = Hook::new(&[]);
    let hook = json!({"url": receiver.url});
    let reply = fixture.call_as("anna:anna", "POST", "/v1/webhooks", Some(hook));
    assert_eq!((reply.status, &reply.json["user"]), (201, &json!("anna")), "{reply:?}");
    let path = format!("/v1/webhooks/{}", reply.json["id"].as_str().expect("an id"));
    let publish_to = |queue: &str, id: &str| {
        let message = json!({"routing_key": queue, "payload": "x", "message_id": id});
        assert_eq!(fixture.post("/v1/messages?wait=20", message).status, 200);
    };
    publish_to("hidden", "1");
    publish_to("nowhere", "2");
    publish_to("q", "3");
    // Nobody knows whose queue the unroutable one should have reached: administrators are told.
    assert_eq!(
        ["2", "3"],
        [(); 2].map(|()| receiver.next().message_id()).each_ref().map(|id| &**id)
    );
    // A change before the answer is noted would make it be sent again, for the cursor has not moved
    // yet.
    let is_noted = || {
        let cursor = || fixture.call("GET", &path, None).json["cursor"].clone();
        let mut before = cursor();
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = cursor();
            if now == before {
                return;
            }
            before = now;
        }
    };
    is_noted();
    // Whoever changes it must be allowed to see the outcomes.
    let changed = fixture.call("PATCH", &path, Some(json!({"description": "mine"})));
    assert_eq!(changed.json["user"], "guest", "{changed:?}");
    publish_to("hidden", "4");
    assert_eq!(receiver.next().message_id(), "4");
    is_noted();
    // Without its user it waits for another one.
    let changed = fixture.call_as("anna:anna", "PATCH", &path, Some(json!({"description": ""})));
    assert_eq!(changed.json["user"], "anna", "{changed:?}");
    fixture.node().delete_user("anna").expect("deleted");
    publish_to("q", "5");
    let disabled = fixture.eventually(&path, |reply| reply.json["enabled"] == false).json;
    let reason = disabled["status"]["disabled_reason"].as_str().expect("a reason");
    assert_eq!(reason, "there is no administrator 'anna' any more");
    receiver.hears_nothing();
    fixture.call("PATCH", &path, Some(json!({"enabled": true})));
    assert_eq!(receiver.next().message_id(), "5");
}

#[test]
fn what_is_not_taken_is_tried_again_with_the_same_id() {
    let fixture = Fixture::with(fast);
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    // A redirect is not followed: it counts as a failure.
    let receiver = Hook::new(&["500 Oops", "302 Found\r\nlocation: http://127.0.0.1:1/elsewhere"]);
    let (path, secret) = add(&fixture, json!({"url": receiver.url}));
    publish(&fixture, "1");
    publish(&fixture, "2");
    let calls: Vec<Call> = (0..4).map(|_| receiver.next()).collect();
    calls.iter().for_each(|call| call.verify(&secret));
    let ids: Vec<String> = calls.iter().map(Call::message_id).collect();
    assert_eq!(ids, ["1", "1", "1", "2"]);
    assert_eq!(calls[0].headers["webhook-id"], calls[2].headers["webhook-id"]);
    let shown = fixture.eventually(&path, |reply| reply.json["status"]["failure_count"] == 0);
    assert_eq!(shown.json["status"]["last_error"], "it answered 302 Found");
    assert_eq!(shown.json["enabled"], true);
}

#[test]
fn a_webhook_is_disabled_after_long_failure_and_goes_on_when_enabled() {
    let fixture = Fixture::with(fast);
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let receiver = Hook::new(&["500 a", "501 b", "502 c"]);
    let (path, _) = add(&fixture, json!({"url": receiver.url}));
    publish(&fixture, "1");
    publish(&fixture, "2");
    (0..3).for_each(|_| assert_eq!(receiver.next().message_id(), "1"));
    let shown = fixture.eventually(&path, |reply| reply.json["enabled"] == false);
    let reason = shown.json["status"]["disabled_reason"].as_str().expect("a reason");
    assert!(reason.starts_with("3 attempts failed") && reason.contains("502"), "{reason}");
    receiver.hears_nothing();

    let reply = fixture.call("PATCH", &path, Some(json!({"enabled": true})));
    assert_eq!((reply.status, &reply.json["enabled"]), (200, &json!(true)));
    // Nothing was lost.
    assert_eq!(receiver.next().message_id(), "1");
    assert_eq!(receiver.next().message_id(), "2");

    receiver.answers.lock().expect("a lock").push_back("410 Gone");
    publish(&fixture, "3");
    assert_eq!(receiver.next().message_id(), "3");
    let shown = fixture.eventually(&path, |reply| reply.json["enabled"] == false);
    assert_eq!(shown.json["status"]["disabled_reason"], "it answered 410 Gone");
}

#[test]
fn deliveries_go_on_after_a_restart_where_they_stood() {
    let fixture = Fixture::with(fast);
    fixture.declare("q");
    let receiver = Hook::new(&[]);
    let (path, secret) = add(&fixture, json!({"url": receiver.url, "description": "mine"}));
    let worker = fixture.worker("q", Settlement::Ack);
    publish(&fixture, "1");
    assert_eq!(receiver.next().message_id(), "1");
    fixture.eventually(&path, |reply| !reply.json["cursor"].is_null());
    std::thread::sleep(Duration::from_millis(100));
    // The webhook is disabled while something happens.
    let disabled = fixture.call("PATCH", &path, Some(json!({"enabled": false})));
    assert_eq!(disabled.json["enabled"], false);
    publish(&fixture, "2");
    receiver.hears_nothing();
    drop(worker);
    let fixture = fixture.restart(fast);
    let shown = fixture.get(&path);
    assert_eq!(
        (&shown.json["enabled"], &shown.json["description"]),
        (&json!(false), &json!("mine"))
    );
    fixture.call("PATCH", &path, Some(json!({"enabled": true})));
    let call = receiver.next();
    assert_eq!(call.message_id(), "2");
    call.verify(&secret);
    receiver.hears_nothing();
}

#[test]
fn a_secret_is_shown_once() {
    let fixture = Fixture::with(fast);
    let secret = format!("whsec_{}", STANDARD.encode([7; 24]));
    let body = json!({"url": "http://127.0.0.1:1/", "secret": secret, "enabled": false});
    let (path, shown) = add(&fixture, body);
    assert_eq!(shown, secret);
    let change = json!({"description": "d", "queue": "q", "outcomes": ["failed", "failed"]});
    for reply in [
        fixture.get(&path),
        fixture.get("/v1/webhooks"),
        fixture.call("PATCH", &path, Some(change)),
        fixture.get(&path),
    ] {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(!reply.text.contains("whsec_") && reply.text.contains("has_secret"), "{reply:?}");
    }
    let shown = fixture.get(&path).json;
    assert_eq!((&shown["queue"], &shown["outcomes"]), (&json!("q"), &json!(["failed"])));
    let shown = fixture.call("PATCH", &path, Some(json!({"queue": null}))).json;
    assert_eq!((&shown["queue"], &shown["description"]), (&Value::Null, &json!("d")));

    let bad = |body: Value| fixture.post("/v1/webhooks", body).problem(400, "bad-request");
    bad(json!({"url": "ftp://example.com/"}));
    bad(json!({"url": "https://example.com/", "secret": "whsec_short"}));
    bad(json!({"url": "https://example.com/", "outcomes": ["lost"]}));
    bad(json!({"url": "https://example.com/", "colour": "red"}));
    assert_eq!(fixture.call("DELETE", &path, None).status, 204);
    fixture.call("DELETE", &path, None).problem(404, "unknown-webhook");
    assert_eq!(fixture.get("/v1/webhooks").json, json!({"webhooks": []}));
}

#[test]
fn a_test_event_is_posted_once_and_told_about() {
    let fixture = Fixture::with(fast);
    let receiver = Hook::new(&["418 Teapot"]);
    let (path, secret) = add(&fixture, json!({"url": receiver.url}));
    let test = format!("{path}/test");
    let failed = fixture.call("POST", &test, None);
    assert_eq!((failed.status, &failed.json["delivered"]), (200, &json!(false)));
    assert_eq!(failed.json["status"], 418);
    let delivered = fixture.call("POST", &test, None);
    assert_eq!(delivered.json, json!({"delivered": true, "status": 204}));
    receiver.next().verify(&secret);
    assert_eq!(receiver.next().json()["type"], "webhook.test");
}

#[test]
fn private_addresses_are_refused_unless_allowed() {
    let fixture = Fixture::with(|options| options.allow_private_addresses = false);
    for url in ["http://127.0.0.1/", "http://10.0.0.1:8080/", "http://[::1]/"] {
        fixture.post("/v1/webhooks", json!({"url": url})).problem(403, "private-address");
    }
    // On every call the name is resolved and its addresses are checked.
    let receiver = Hook::new(&[]);
    let port = receiver.url.split(':').nth(2).expect("a port").to_owned();
    let (path, _) = add(&fixture, json!({"url": format!("http://localhost:{port}")}));
    let tested = fixture.call("POST", &format!("{path}/test"), None);
    assert_eq!(tested.json["delivered"], false);
    assert!(tested.json["error"].as_str().expect("a reason").contains("private"), "{tested:?}");
    receiver.hears_nothing();
}
