//! With too many connections, silent ones make room and those with a request under way do not.

mod common;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use common::Fixture;
use node::Settlement;

fn silent(fixture: &Fixture) -> TcpStream {
    let stream = TcpStream::connect(fixture.address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream
}

#[test]
fn silent_connections_do_not_lock_out_a_request() {
    let fixture = Fixture::with(|options| options.connections_max = 4);
    let mut connections: Vec<_> = (0..100).map(|_| silent(&fixture)).collect();
    let reply = fixture.get("/v1/outcomes");
    assert_eq!(reply.status, 200, "{reply:?}");
    // The first connection was ended silently to make room for a later one.
    assert_eq!(connections[0].read(&mut [0]).expect("its end"), 0);
}

#[test]
fn a_feed_and_a_long_poll_keep_their_places() {
    let fixture = Fixture::with(|options| options.connections_max = 3);
    fixture.declare("q");
    let body = serde_json::json!({"routing_key": "q", "message_id": "m", "payload": ""});
    assert_eq!(fixture.post("/v1/messages", body).status, 202);
    let mut feed = fixture.feed("/v1/events", None);
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| fixture.get("/v1/messages/m/outcome?wait=30"));
        // By now the poll is under way, or soon will be.
        std::thread::sleep(Duration::from_millis(300));
        let silent: Vec<_> = (0..50).map(|_| silent(&fixture)).collect();
        assert_eq!(fixture.get("/v1/messages/m").status, 200);
        let _worker = fixture.worker("q", Settlement::Ack);
        assert_eq!(poll.join().expect("no panic").status, 200);
        drop(silent);
    });
    let event = feed.next_event().expect("the feed goes on");
    assert_eq!(event.name, "processed");
}
