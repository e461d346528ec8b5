//! Who is let in, for how long, and how much one user may take.

mod common;

use std::time::Duration;

use common::Fixture;
use node::definitions::Permissions;
use serde_json::json;

const ANNA: &str = "anna:anna";

fn may_all() -> Permissions {
    Permissions { configure: ".*".into(), write: ".*".into(), read: ".*".into() }
}

#[test]
fn whoever_loses_something_has_their_feeds_and_long_polls_ended() {
    let fixture = Fixture::new();
    fixture.declare("q");
    fixture.post("/v1/messages", json!({"routing_key": "q", "payload": "", "message_id": "m"}));
    let node = fixture.node();
    let losses: [(&str, &dyn Fn()); 3] = [
        ("deleted", &|| node.delete_user("anna").expect("deleted")),
        ("permissions cleared", &|| node.clear_permissions("/", "anna").expect("cleared")),
        ("another of that name", &|| {
            node.delete_user("anna").expect("deleted");
            node.add_user("anna", "other", &[]).expect("added");
            node.set_permissions("/", "anna", may_all()).expect("set");
        }),
    ];
    for (what, lose) in losses {
        fixture.add_user("anna", &[], ".*", ".*");
        let mut feed = fixture.feed_as(ANNA, "/v1/events");
        std::thread::scope(|scope| {
            let path = "/v1/messages/m/outcome?wait=60";
            let poll = scope.spawn(|| fixture.call_as(ANNA, "GET", path, None));
            std::thread::sleep(Duration::from_millis(300));
            lose();
            assert_eq!(feed.next_event(), None, "{what}");
            let poll = poll.join().expect("no panic");
            poll.problem(403, "forbidden");
        });
        let _ = node.delete_user("anna");
    }
}

#[test]
fn a_webhook_does_not_go_on_for_another_of_its_users_name() {
    let fixture = Fixture::new();
    fixture.declare("q");
    fixture.add_user("anna", &["administrator"], ".*", ".*");
    let hook = json!({"url": "http://127.0.0.1:9/"});
    let added = fixture.call_as(ANNA, "POST", "/v1/webhooks", Some(hook));
    assert_eq!(added.status, 201, "{added:?}");
    fixture.node().delete_user("anna").expect("deleted");
    fixture.add_user("anna", &["administrator"], ".*", ".*");
    fixture.post("/v1/messages", json!({"routing_key": "nowhere", "payload": ""}));
    let path = format!("/v1/webhooks/{}", added.json["id"].as_str().expect("an id"));
    let disabled = fixture.eventually(&path, |reply| reply.json["enabled"] == false);
    let reason = disabled.json["status"]["disabled_reason"].as_str().expect("a reason");
    assert!(reason.contains("no administrator 'anna'"), "{reason}");
}

#[test]
fn a_loopback_user_does_not_come_through_a_proxy() {
    let fixture = Fixture::new();
    fixture.add_user("anna", &[], ".*", ".*");
    let auth = |user: &str| format!("authorization: Basic {}\r\n", common::base64(user));
    for sign in ["Forwarded: for=1.2.3.4", "X-Forwarded-For: 1.2.3.4", "X-Real-IP: 1.2.3.4"] {
        let ask = |user: &str| {
            fixture.raw("GET", "/v1/outcomes", &format!("{}{sign}\r\n", auth(user)), b"")
        };
        ask("guest:guest").problem(401, "unauthenticated");
        assert_eq!(ask(ANNA).status, 200, "{sign}");
    }
    assert_eq!(fixture.get("/v1/outcomes").status, 200);
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let fixture = Fixture::with(|options| options.names = vec!["queue.example".to_owned()]);
    fixture.declare("q");
    let auth = format!("authorization: Basic {}\r\n", common::base64("guest:guest"));
    let body = br#"{"routing_key": "q", "payload": "x"}"#;
    let post = |more: &str| fixture.raw("POST", "/v1/messages", &format!("{auth}{more}"), body);
    // The fixture's Host is a name that nobody knows.
    post("origin: http://test\r\n").problem(403, "unknown-host");
    post("content-type: text/plain\r\n").problem(415, "unsupported-media-type");
    let address = fixture.address;
    let own = |host: &str, origin: &str| {
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\norigin: {origin}\r\n\
             content-type: application/json\r\n{auth}content-length: {}\r\n\r\n",
            body.len()
        );
        fixture.raw_request(&[head.as_bytes(), body].concat())
    };
    own(&address.to_string(), "https://evil.example").problem(403, "cross-site");
    assert_eq!(fixture.message_count(), 0);
    assert_eq!(own(&address.to_string(), &format!("http://{address}")).status, 202);
    assert_eq!(own("queue.example", "https://queue.example").status, 202);
}

#[test]
fn nobody_waits_in_all_places() {
    let fixture = Fixture::with(|options| options.waiting_count_max = 4);
    fixture.declare("q");
    let message = json!({"routing_key": "q", "payload": "", "message_id": "m"});
    fixture.post("/v1/messages", message);
    for name in ["anna", "bert", "carl"] {
        fixture.add_user(name, &[], ".*", ".*");
    }
    let annas = [fixture.feed_as(ANNA, "/v1/events"), fixture.feed_as(ANNA, "/v1/events")];
    let path = "/v1/messages/m/outcome?wait=5";
    let busy = fixture.call_as(ANNA, "GET", path, None);
    assert!(busy.problem(503, "busy").contains("user 'anna'"));
    assert_eq!(busy.headers["retry-after"], "1");
    fixture.call_as(ANNA, "GET", "/v1/events", None).problem(503, "busy");
    // Others are served, up to all there is.
    let berts =
        [fixture.feed_as("bert:bert", "/v1/events"), fixture.feed_as("bert:bert", "/v1/events")];
    fixture.call_as("carl:carl", "GET", "/v1/events", None).problem(503, "busy");
    // A request that does not wait is served.
    assert_eq!(fixture.call_as(ANNA, "GET", "/v1/messages/m/outcome", None).status, 202);
    drop((annas, berts));
    fixture.eventually("/v1/messages/m/outcome?wait=1", |reply| reply.status == 202);
}

#[test]
fn a_virtual_host_that_is_added_again_knows_nothing_of_the_old_one() {
    let fixture = Fixture::new();
    let node = fixture.node();
    let add = || {
        node.add_vhost("v").expect("added");
        node.set_permissions("v", "guest", may_all()).expect("set");
    };
    add();
    let message = json!({"routing_key": "nowhere", "payload": "", "message_id": "m"});
    assert_eq!(fixture.post("/v1/messages?vhost=v", message.clone()).status, 202);
    assert_eq!(fixture.get("/v1/messages/m?vhost=v").status, 200);
    node.delete_vhost("v").expect("deleted");
    add();
    fixture.get("/v1/messages/m?vhost=v").problem(404, "unknown-message");
    let none = fixture.get("/v1/outcomes?vhost=v");
    assert_eq!(none.json["outcomes"], json!([]), "{none:?}");
    fixture.post("/v1/messages?vhost=v", message);
    let count = |it: &common::Reply| it.json["outcomes"].as_array().map(Vec::len);
    let outcomes = fixture.eventually("/v1/outcomes?vhost=v", |it| count(it) == Some(1));
    assert_eq!(outcomes.json["outcomes"][0]["vhost"], "v");
    // After a restart, too.
    let fixture = fixture.restart(|_| {});
    let outcomes = fixture.get("/v1/outcomes?vhost=v");
    assert_eq!(count(&outcomes), Some(1), "{outcomes:?}");
}

#[test]
fn how_many_queues_a_message_went_to_is_told_to_those_who_oversee_them() {
    let fixture = Fixture::new();
    fixture.declare("q");
    fixture.add_user("anna", &[], ".*", ".*");
    fixture.post("/v1/messages", json!({"routing_key": "q", "payload": "", "message_id": "m"}));
    assert_eq!(fixture.call("DELETE", "/v1/messages/m", None).status, 204);
    let mine = fixture.get("/v1/outcomes");
    assert_eq!(mine.json["outcomes"][0]["queue_count"], 1, "{mine:?}");
    let hers = fixture.call_as(ANNA, "GET", "/v1/outcomes", None);
    assert_eq!(hers.json["outcomes"][0]["queue"], "q");
    assert!(hers.json["outcomes"][0].get("queue_count").is_none(), "{hers:?}");
}
