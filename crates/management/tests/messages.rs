//! Single messages: published, looked up, waited for, cancelled, tried again.

mod common;

use std::time::{Duration, Instant};

use amqp::FieldValue;
use common::Fixture;
use node::Settlement;
use serde_json::json;

common::over_both! {
    publishing_answers_when_the_message_is_stored,
    publishing_with_wait_answers_with_the_outcome,
    a_wait_that_is_over_tells_how_far_it_got,
    a_long_poll_answers_as_soon_as_there_is_an_outcome,
    a_queued_message_can_be_cancelled_once,
    a_failed_message_can_be_tried_again,
    what_was_published_before_does_not_answer_for_what_is_published_now,
    outcomes_are_listed_page_by_page,
}

fn publishing_answers_when_the_message_is_stored(fixture: &Fixture) {
    fixture.declare("q");
    let reply = fixture.post("/v1/messages", json!({"routing_key": "q", "payload": "x"}));
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!((&reply.json["routed"], &reply.json["state"]), (&json!(true), &json!("queued")));
    assert_eq!(fixture.message_count(), 1);
    let id = reply.json["message_id"].as_str().expect("an id");
    let shown = fixture.get(&format!("/v1/messages/{id}"));
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.json["state"], "queued");
    assert_eq!(shown.json["queues"][0]["queue"], "q");
    assert_eq!(shown.json["timeline"][0]["event"], "published");

    let lost = fixture.post("/v1/messages", json!({"routing_key": "nowhere", "payload": "x"}));
    assert_eq!((lost.status, &lost.json["routed"]), (202, &json!(false)));
    assert_eq!(lost.json["outcome"], "unroutable");
    let no_exchange = json!({"exchange": "none", "routing_key": "q", "payload": "x"});
    fixture.post("/v1/messages", no_exchange).problem(404, "unknown-exchange");
}

fn publishing_with_wait_answers_with_the_outcome(fixture: &Fixture) {
    fixture.declare("q");
    let worker = fixture.worker("q", Settlement::Ack);
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "a/b c"});
    let reply = fixture.post("/v1/messages?wait=20", message);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json["outcome"], "processed");
    assert_eq!(reply.json["queues"][0]["outcome"], "processed");
    assert_eq!(reply.json["duplicate"], false);
    drop(worker);
    let again = fixture.get("/v1/messages/a%2Fb%20c");
    assert_eq!((again.status, &again.json["outcome"]), (200, &json!("processed")));

    let worker = fixture.worker("q", Settlement::Reject);
    let message = json!({"routing_key": "q", "payload": "x"});
    let reply = fixture.post("/v1/messages?wait=20", message);
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("failed")), "{reply:?}");
    drop(worker);

    let lost = json!({"routing_key": "nowhere", "payload": "x"});
    let reply = fixture.post("/v1/messages?wait=20", lost);
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("unroutable")), "{reply:?}");
    assert_eq!(reply.json["routed"], false);
}

fn a_wait_that_is_over_tells_how_far_it_got(fixture: &Fixture) {
    fixture.declare("q");
    let start = Instant::now();
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    let reply = fixture.post("/v1/messages?wait=1", message);
    assert_eq!((reply.status, &reply.json["state"]), (202, &json!("queued")), "{reply:?}");
    assert!(start.elapsed() >= Duration::from_secs(1));
    let reply = fixture.get("/v1/messages/m/outcome?wait=1");
    assert_eq!((reply.status, &reply.json["state"]), (202, &json!("queued")));
    assert_eq!(fixture.get("/v1/messages/m/outcome").status, 202);
    fixture.get("/v1/messages/x/outcome?wait=30").problem(404, "unknown-message");
}

fn a_long_poll_answers_as_soon_as_there_is_an_outcome(fixture: &Fixture) {
    fixture.declare("q");
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    assert_eq!(fixture.post("/v1/messages", message).status, 202);
    fixture.eventually("/v1/messages/m", |reply| reply.status == 200);
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| fixture.get("/v1/messages/m/outcome?wait=30"));
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        let _worker = fixture.worker("q", Settlement::Ack);
        let reply = poll.join().expect("an answer");
        assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("processed")));
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

fn a_queued_message_can_be_cancelled_once(fixture: &Fixture) {
    fixture.declare("q");
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    assert_eq!(fixture.post("/v1/messages", message).status, 202);
    fixture.call("DELETE", "/v1/messages/m?queue=other", None).problem(404, "unknown-message");
    fixture.call("POST", "/v1/messages/m/retry", None).problem(409, "not-failed");
    assert_eq!(fixture.call("DELETE", "/v1/messages/m", None).status, 204);
    let reply = fixture.get("/v1/messages/m");
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("dropped")), "{reply:?}");
    assert_eq!(reply.json["queues"][0]["reason"], "cancelled");
    fixture.call("DELETE", "/v1/messages/m", None).problem(409, "already-settled");
    assert_eq!(fixture.message_count(), 0);
}

fn a_failed_message_can_be_tried_again(fixture: &Fixture) {
    fixture.declare("q");
    let worker = fixture.worker("q", Settlement::Reject);
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    let reply = fixture.post("/v1/messages?wait=20", message);
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("failed")), "{reply:?}");
    drop(worker);
    assert_eq!(fixture.call("POST", "/v1/messages/m/retry", None).status, 204);
    let reply = fixture.get("/v1/messages/m");
    assert_eq!(reply.json["state"], "queued", "{reply:?}");
    assert_eq!(reply.json["earlier"][0]["outcome"], "failed", "{reply:?}");
    assert_eq!(reply.json["earlier"][0]["recovered"], false);
    let _worker = fixture.worker("q", Settlement::Ack);
    let reply = fixture.get("/v1/messages/m/outcome?wait=20");
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("processed")), "{reply:?}");
    assert_eq!(reply.json["earlier"][0]["recovered"], true);
    fixture.call("POST", "/v1/messages/m/retry", None).problem(409, "not-failed");
}

fn what_was_published_before_does_not_answer_for_what_is_published_now(fixture: &Fixture) {
    fixture.declare("q");
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    let worker = fixture.worker("q", Settlement::Reject);
    let first = fixture.post("/v1/messages?wait=20", message.clone());
    assert_eq!((first.status, &first.json["outcome"]), (200, &json!("failed")), "{first:?}");
    drop(worker);
    let second = fixture.post("/v1/messages?wait=1", message.clone());
    assert_eq!((second.status, &second.json["state"]), (202, &json!("queued")), "{second:?}");
    let _worker = fixture.worker("q", Settlement::Ack);
    let third = fixture.post("/v1/messages?wait=20", message);
    assert_eq!((third.status, &third.json["outcome"]), (200, &json!("processed")), "{third:?}");
    let shown = fixture.get("/v1/messages/m").json;
    assert_eq!(shown["earlier"].as_array().map(Vec::len), Some(2), "{shown}");
}

#[test]
fn a_duplicate_is_told_the_outcome_of_the_original() {
    let fixture = Fixture::new();
    fixture.declare_with("q", &[("x-message-deduplication", FieldValue::Bool(true))]);
    let worker = fixture.worker("q", Settlement::Ack);
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    let first = fixture.post("/v1/messages?wait=20", message.clone());
    assert_eq!((first.status, &first.json["duplicate"]), (200, &json!(false)), "{first:?}");
    drop(worker);
    // There is no worker any more, and none is needed.
    let again = fixture.post("/v1/messages?wait=20", message);
    assert_eq!((again.status, &again.json["outcome"]), (200, &json!("processed")), "{again:?}");
    assert_eq!(again.json["duplicate"], true, "{again:?}");
    assert_eq!(fixture.message_count(), 0);
}

#[test]
fn a_dead_letter_is_shown_with_its_copy_and_as_recovered() {
    let fixture = Fixture::new();
    fixture.declare("graveyard");
    let to = |name: &str| FieldValue::from(name.to_owned());
    fixture.declare_with(
        "q",
        &[("x-dead-letter-exchange", to("")), ("x-dead-letter-routing-key", to("graveyard"))],
    );
    let worker = fixture.worker("q", Settlement::Reject);
    let message = json!({"routing_key": "q", "payload": "x", "message_id": "m"});
    let reply = fixture.post("/v1/messages?wait=20", message);
    assert_eq!((reply.status, &reply.json["outcome"]), (200, &json!("failed")), "{reply:?}");
    drop(worker);
    let has_copy = |reply: &common::Reply| !reply.json["copies"][0].is_null();
    let reply = fixture.eventually("/v1/messages/m", has_copy).json;
    assert_eq!(reply["copies"][0]["queues"][0]["queue"], "graveyard", "{reply}");
    assert_eq!(reply["queues"][0]["dead_letter_exchange"], "", "{reply}");
    assert_eq!((&reply["recovered"], &reply["earlier"]), (&json!(false), &json!([])), "{reply}");
    let _worker = fixture.worker("graveyard", Settlement::Ack);
    let recovered = |reply: &common::Reply| reply.json["recovered"] == true;
    let reply = fixture.eventually("/v1/messages/m", recovered).json;
    assert_eq!((&reply["state"], &reply["outcome"]), (&json!("settled"), &json!("failed")));
}

fn outcomes_are_listed_page_by_page(fixture: &Fixture) {
    fixture.declare("a");
    fixture.declare("b");
    let _workers = (fixture.worker("a", Settlement::Ack), fixture.worker("b", Settlement::Reject));
    for number in 0..20 {
        let queue = if number % 2 == 0 { "a" } else { "b" };
        let message =
            json!({"routing_key": queue, "payload": "x", "message_id": number.to_string()});
        assert_eq!(fixture.post("/v1/messages?wait=20", message).status, 200);
    }
    let list = |query: &str| -> Vec<String> {
        let (mut ids, mut after) = (Vec::new(), String::new());
        loop {
            let page = fixture.get(&format!("/v1/outcomes?limit=3&{query}{after}"));
            assert_eq!(page.status, 200, "{page:?}");
            let outcomes = page.json["outcomes"].as_array().expect("a list").clone();
            ids.extend(
                outcomes.iter().map(|it| it["message_id"].as_str().expect("an id").to_owned()),
            );
            if page.json["has_more"] == false {
                return ids;
            }
            after = format!("&after={}", page.json["next"].as_str().expect("a cursor"));
        }
    };
    let all: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let even: Vec<String> = (0..20).step_by(2).map(|number| number.to_string()).collect();
    let odd: Vec<String> = (1..20).step_by(2).map(|number| number.to_string()).collect();
    assert_eq!(list(""), all);
    assert_eq!(list("queue=a"), even);
    assert_eq!(list("outcome=failed"), odd);
    assert_eq!(list("queue=a&outcome=failed"), Vec::<String>::new());
    assert_eq!(list("since=1000"), all);
    assert_eq!(list("until=2020-01-01T00:00:00Z"), Vec::<String>::new());
}
