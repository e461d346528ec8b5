//! What a publish, a retry and a look-up answer, when that is not obvious.

mod common;

use amqp::FieldValue;
use common::Fixture;
use node::Settlement;
use serde_json::{Value, json};

fn text(text: &str) -> FieldValue {
    FieldValue::from(text)
}

fn message(queue: &str, id: &str) -> Value {
    json!({"routing_key": queue, "payload": "x", "message_id": id})
}

/// `x-confirm-on` of a queue holds an AMQP publisher's confirm; HTTP answers when it is on disk.
#[test]
fn what_is_on_disk_is_answered_whatever_its_queue_asks() {
    let fixture = Fixture::new();
    let arguments = [("x-confirm-on", text("ack")), ("x-deadline", FieldValue::I64(60_000))];
    fixture.declare_with("q", &arguments);
    let began = std::time::Instant::now();
    let answer = fixture.post("/v1/messages", message("q", "m"));
    assert_eq!((answer.status, &answer.json["state"]), (202, &json!("queued")), "{answer:?}");
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "it waited for a worker");
    assert_eq!(fixture.message_count(), 1);
}

#[test]
fn a_full_queue_refuses_and_the_answer_says_so() {
    let fixture = Fixture::new();
    let limits = [("x-max-length", FieldValue::I64(1)), ("x-overflow", text("reject-publish"))];
    fixture.declare_with("q", &limits);
    assert_eq!(fixture.post("/v1/messages", message("q", "first")).status, 202);
    fixture.post("/v1/messages", message("q", "second")).problem(503, "refused");
    // Its id is free: nobody has worked on it.
    assert_eq!(fixture.call("DELETE", "/v1/messages/first", None).status, 204);
    let again = fixture.post("/v1/messages", message("q", "second"));
    assert_eq!(again.status, 202, "{again:?}");
    assert_eq!(fixture.message_count(), 1);
}

#[test]
fn nobody_publishes_reports_outcomes_or_replies_over_http() {
    let fixture = Fixture::new();
    for (exchange, key) in [
        ("amq.wilco.report", "m"),
        ("amq.wilco.outcomes", "processed.q"),
        ("", "amq.rabbitmq.reply-to"),
        ("", "amq.rabbitmq.reply-to.g2dk"),
    ] {
        let body = json!({"exchange": exchange, "routing_key": key, "payload": ""});
        fixture.post("/v1/messages", body).problem(400, "reserved-target");
    }
}

#[test]
fn ten_years_are_taken_and_more_is_not() {
    let fixture = Fixture::new();
    fixture.declare("q");
    for field in ["expiration_ms", "deadline_ms"] {
        let with = |ms: u64| {
            let mut body = message("q", &format!("{field}-{ms}"));
            body[field] = ms.into();
            fixture.post("/v1/messages", body)
        };
        for ms in [4_294_967_296, 315_360_000_000] {
            assert_eq!(with(ms).status, 202, "{field} {ms}");
        }
        let detail = with(315_360_000_001).problem(400, "bad-request");
        assert!(detail.contains(field) && detail.contains("ten years"), "{detail}");
    }
}

/// A message that asks for its outcome is looked for, as over AMQP: it may have been published before.
#[test]
fn duplicates_are_looked_for_when_asked() {
    let fixture = Fixture::new();
    fixture.declare("q");
    let publish = |more: Value| {
        let mut body = message("q", "m");
        let more = more.as_object().cloned().unwrap_or_default();
        body.as_object_mut().expect("an object").extend(more);
        let answer = fixture.post("/v1/messages", body);
        assert_eq!(answer.status, 202, "{answer:?}");
        fixture.message_count()
    };
    assert_eq!(publish(json!({})), 1, "it asks for nothing");
    assert_eq!(publish(json!({"deduplicate": true})), 2, "the first that is looked for");
    assert_eq!(publish(json!({"deduplicate": true})), 2);
    assert_eq!(publish(json!({"deadline_ms": 60_000})), 2);
    assert_eq!(publish(json!({"deduplicate": false, "deadline_ms": 60_000})), 3);
}

#[test]
fn a_retry_happens_once_however_many_ask() {
    let fixture = Fixture::new();
    fixture.declare("q");
    for round in 0..10 {
        let id = format!("m{round}");
        fixture.post("/v1/messages", message("q", &id));
        let worker = fixture.worker("q", Settlement::Reject);
        fixture.eventually(&format!("/v1/messages/{id}"), |it| it.json["state"] == "settled");
        drop(worker);
        let path = format!("/v1/messages/{id}/retry");
        let answers: Vec<u16> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                (0..6).map(|_| scope.spawn(|| fixture.call("POST", &path, None).status)).collect();
            asking.into_iter().map(|it| it.join().expect("no panic")).collect()
        });
        let (done, refused): (Vec<u16>, _) = answers.iter().partition(|status| **status == 204);
        assert_eq!((done.len(), refused), (1, vec![409; 5]), "{answers:?}");
        assert_eq!(fixture.message_count(), 1);
        assert_eq!(fixture.call("DELETE", &format!("/v1/messages/{id}"), None).status, 204);
    }
}

#[test]
fn what_was_dropped_without_anybody_working_on_it_is_tried_again() {
    let fixture = Fixture::new();
    fixture.declare("purged");
    fixture.declare("deleted");
    let limits = [("x-max-length", FieldValue::I64(1)), ("x-overflow", text("reject-publish"))];
    fixture.declare_with("refused", &limits);
    fixture.declare("cancelled");
    let mut link = node::embedded::Link::open(fixture.node(), "/", "guest").expect("a link");
    link.open_channel().expect("a channel");
    for queue in ["purged", "deleted", "cancelled"] {
        assert_eq!(fixture.post("/v1/messages", message(queue, queue)).status, 202);
    }
    fixture.post("/v1/messages", message("refused", "first"));
    fixture.post("/v1/messages", message("refused", "refused")).problem(503, "refused");
    link.session().purge_queue("purged").expect("purged");
    drop(link.session().delete_queue("deleted", false, false).expect("deleted"));
    link.close();
    fixture.declare("deleted");
    assert_eq!(fixture.call("DELETE", "/v1/messages/cancelled", None).status, 204);
    // Still full: refused again, and nothing has changed.
    let retry = |id: &str| fixture.call("POST", &format!("/v1/messages/{id}/retry"), None);
    retry("refused").problem(503, "refused");
    let view = fixture.get("/v1/messages/refused");
    assert_eq!(
        (&view.json["state"], &view.json["outcome"]),
        (&json!("settled"), &json!("dropped"))
    );
    assert_eq!(fixture.call("DELETE", "/v1/messages/first", None).status, 204);
    for id in ["purged", "deleted", "refused", "cancelled"] {
        let answer = retry(id);
        assert_eq!(answer.status, 204, "{id}: {answer:?}");
        assert_eq!(fixture.get(&format!("/v1/messages/{id}")).json["state"], "queued", "{id}");
    }
    assert_eq!(fixture.message_count(), 4);
}

#[test]
fn a_worker_has_the_name_it_gives_itself_and_its_user() {
    let fixture = Fixture::new();
    fixture.declare("q");
    fixture.post("/v1/messages", message("q", "m"));
    let mut link = node::embedded::Link::open(fixture.node(), "/", "guest").expect("a link");
    link.session().set_name("root");
    let channel = link.open_channel().expect("a channel");
    let options = node::Consume { tag: "t", ..node::Consume::default() };
    link.consume(channel, "q", &options).expect("a consumer");
    let delivered = fixture.eventually("/v1/messages/m", |it| it.json["state"] == "delivered");
    assert_eq!(delivered.json["queues"][0]["worker"], "root/t");
    assert_eq!(delivered.json["queues"][0]["worker_user"], "guest");
    assert_eq!(delivered.json["timeline"][1]["worker_user"], "guest");
    link.close();
}

#[test]
fn what_missed_its_deadline_and_was_then_dropped_is_tried_and_published_again() {
    let fixture = Fixture::new();
    fixture.declare("q");
    let asking = |id: &str| {
        let mut body = message("q", id);
        body["deadline_ms"] = 1.into();
        body
    };
    let mut link = node::embedded::Link::open(fixture.node(), "/", "guest").expect("a link");
    link.open_channel().expect("a channel");
    for id in ["retried", "published"] {
        assert_eq!(fixture.post("/v1/messages", asking(id)).status, 202);
        let path = format!("/v1/messages/{id}");
        fixture.eventually(&path, |it| it.json["outcome"] == "deadline-missed");
    }
    link.session().purge_queue("q").expect("purged");
    link.close();
    assert_eq!(fixture.call("POST", "/v1/messages/retried/retry", None).status, 204);
    assert_eq!(fixture.message_count(), 1);
    fixture.post("/v1/messages", asking("published"));
    assert_eq!(fixture.message_count(), 2, "nobody has processed it");
}

/// An answer that says "try again" must mean that nothing was published.
#[test]
fn who_has_no_place_to_wait_publishes_nothing() {
    let fixture = Fixture::with(|options| options.waiting_count_max = 1);
    fixture.declare("q");
    let feed = fixture.feed("/v1/events", None);
    fixture.post("/v1/messages?wait=5", message("q", "m")).problem(503, "busy");
    assert_eq!(fixture.message_count(), 0);
    assert_eq!(fixture.post("/v1/messages?wait=0", message("q", "m")).status, 202);
    drop(feed);
}

#[test]
fn an_id_that_is_used_without_end_makes_no_endless_answer() {
    let fixture = Fixture::new();
    fixture.declare("q");
    for _ in 0..150 {
        fixture.post("/v1/messages", message("q", "m"));
    }
    let view = fixture.get("/v1/messages/m");
    assert_eq!(view.json["earlier"].as_array().map(Vec::len), Some(100));
}
