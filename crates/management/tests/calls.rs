//! What every call has in common: users, permissions, problems, bounds.

mod common;

use common::Fixture;
use serde_json::json;

#[test]
fn nobody_gets_in_without_name_and_password() {
    let fixture = Fixture::new();
    for path in ["/v1/outcomes", "/v1/messages/x", "/v1/events", "/v1/webhooks"] {
        for head in ["", "authorization: Basic Z3Vlc3Q6d3Jvbmc=\r\n", "authorization: Bearer x\r\n"]
        {
            let reply = fixture.raw("GET", path, head, b"");
            reply.problem(401, "unauthenticated");
            assert!(reply.headers["www-authenticate"].starts_with("Basic "), "{reply:?}");
        }
        fixture.call_as("nobody:guest", "GET", path, None).problem(401, "unauthenticated");
    }
}

#[test]
fn every_error_is_a_problem() {
    let fixture = Fixture::new();
    fixture.get("/").problem(404, "unknown-path");
    fixture.get("/v1/nothing").problem(404, "unknown-path");
    fixture.get("/v1/outcomes?colour=red").problem(400, "bad-request");
    fixture.get("/v1/outcomes?limit=0").problem(400, "bad-request");
    fixture.get("/v1/outcomes?limit=1001").problem(400, "bad-request");
    fixture.get("/v1/outcomes?limit=5&limit=6").problem(400, "bad-request");
    fixture.get("/v1/outcomes?after=x").problem(400, "bad-request");
    fixture.get("/v1/outcomes?since=yesterday").problem(400, "bad-request");
    let detail = fixture.get("/v1/outcomes?outcome=lost").problem(400, "bad-request");
    assert!(detail.contains("deadline-missed"), "{detail}");
    fixture.get("/v1/outcomes?vhost=other").problem(404, "unknown-vhost");
    fixture.get("/v1/messages/unheard-of").problem(404, "unknown-message");
    fixture.get("/v1/messages/x/outcome?wait=61").problem(400, "bad-request");
    fixture.get("/v1/messages/%ff").problem(400, "bad-request");
    fixture.call("DELETE", "/v1/messages/x", None).problem(404, "unknown-message");
    fixture.call("POST", "/v1/messages/x/retry", None).problem(404, "unknown-message");
    fixture.get("/v1/webhooks/x").problem(404, "unknown-webhook");

    let reply = fixture.call("PUT", "/v1/messages/x", None);
    reply.problem(405, "method-not-allowed");
    let mut allowed: Vec<_> = reply.headers["allow"].split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD"]);

    let auth = "authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";
    let plain = format!("{auth}content-type: text/plain\r\n");
    fixture.raw("POST", "/v1/messages", &plain, b"{}").problem(415, "unsupported-media-type");
    let typed = format!("{auth}content-type: application/json\r\n");
    for body in ["{", "[]", "{}", r#"{"routing_key": "q", "payload": "", "colour": "red"}"#] {
        let reply = fixture.raw("POST", "/v1/messages", &typed, body.as_bytes());
        reply.problem(400, "bad-request");
    }
    let large = vec![b' '; 23 << 20];
    fixture.raw("POST", "/v1/messages", &typed, &large).problem(413, "too-large");
}

#[test]
fn each_problem_has_a_page_and_the_interface_a_description() {
    let fixture = Fixture::new();
    let kind = fixture.get("/v1/nothing").json["type"].as_str().expect("a type").to_owned();
    let page = fixture.raw("GET", &kind, "", b"");
    assert_eq!(
        (page.status, page.headers["content-type"].as_str()),
        (200, "text/plain; charset=utf-8")
    );
    fixture.raw("GET", "/problems/none", "", b"").problem(404, "unknown-path");
    let document = fixture.raw("GET", "/v1/openapi.json", "", b"");
    assert_eq!(document.json["openapi"], "3.1.0");
    assert_eq!(document.json["paths"].as_object().map(serde_json::Map::len), Some(11));
}

#[test]
fn a_user_does_what_its_permissions_allow() {
    let fixture = Fixture::new();
    fixture.declare("open");
    fixture.add_user("anna", &[], "^$", "^open$");
    fixture.add_user("bert", &[], "^amq.default$", "^$");
    let message = json!({"routing_key": "open", "payload": "x", "message_id": "m"});
    let publish = |user: &str| fixture.call_as(user, "POST", "/v1/messages", Some(message.clone()));
    publish("anna:anna").problem(403, "forbidden");
    assert_eq!(publish("bert:bert").status, 202);
    fixture.eventually("/v1/messages/m", |reply| reply.status == 200);
    let as_user = |user: &str, method: &str, path: &str| fixture.call_as(user, method, path, None);
    assert_eq!(as_user("anna:anna", "GET", "/v1/messages/m").status, 200);
    as_user("bert:bert", "GET", "/v1/messages/m").problem(404, "unknown-message");
    as_user("bert:bert", "DELETE", "/v1/messages/m").problem(404, "unknown-message");
    as_user("anna:anna", "DELETE", "/v1/messages/m").problem(403, "forbidden");
    as_user("anna:anna", "GET", "/v1/webhooks").problem(403, "forbidden");
    assert_eq!(fixture.call("DELETE", "/v1/messages/m", None).status, 204);
    fixture.eventually("/v1/outcomes", |reply| reply.json["outcomes"][0]["outcome"] == "dropped");
    let count =
        |user: &str| as_user(user, "GET", "/v1/outcomes").json["outcomes"].as_array().map(Vec::len);
    assert_eq!((count("anna:anna"), count("bert:bert")), (Some(1), Some(0)));
}

#[test]
fn what_waits_is_let_go_when_the_server_stops() {
    let mut fixture = Fixture::new();
    fixture.declare("q");
    fixture.post("/v1/messages", json!({"routing_key": "q", "payload": "", "message_id": "m"}));
    fixture.eventually("/v1/messages/m", |reply| reply.status == 200);
    let mut feed = fixture.feed("/v1/events", None);
    let address = fixture.address;
    let poll = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        let head = "GET /v1/messages/m/outcome?wait=60 HTTP/1.1\r\nhost: t\r\nauthorization: Basic \
                    Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(fixture.stop() < std::time::Duration::from_secs(2));
    assert_eq!(feed.next_event(), None);
    let text = poll.join().expect("no panic");
    assert!(text.starts_with("HTTP/1.1 202"), "{text}");
}
