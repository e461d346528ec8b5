//! The feed of outcomes: nothing is missed and nothing comes twice, across reconnects and under
//! load.

mod common;

use common::Fixture;
use node::Properties;
use node::Settlement;
use node::embedded::Link;
use serde_json::json;

common::over_both! {
    a_feed_begins_with_what_comes_from_now_on,
    a_feed_tells_what_it_was_asked_for,
}

fn a_feed_begins_with_what_comes_from_now_on(fixture: &Fixture) {
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let publish = |id: &str| {
        let message = json!({"routing_key": "q", "payload": "x", "message_id": id});
        assert_eq!(fixture.post("/v1/messages?wait=20", message).status, 200);
    };
    publish("before");
    std::thread::sleep(std::time::Duration::from_millis(5));
    let mut feed = fixture.feed("/v1/events", None);
    publish("after");
    let event = feed.next_event().expect("an event");
    assert_eq!((event.name.as_str(), &event.data["message_id"]), ("processed", &json!("after")));
    assert_eq!(event.data["cursor"], event.id);
    // From the beginning: the cursor is before everything.
    let from_beginning = format!("/v1/events?after={}", fixture.beginning());
    let mut feed = fixture.feed(&from_beginning, None);
    assert_eq!(feed.next_event().expect("an event").data["message_id"], "before");
    assert_eq!(feed.next_event().expect("an event").data["message_id"], "after");
    // The header wins.
    let mut feed = fixture.feed(&from_beginning, feed.last_id.as_deref());
    publish("last");
    assert_eq!(feed.next_event().expect("an event").data["message_id"], "last");
}

fn a_feed_tells_what_it_was_asked_for(fixture: &Fixture) {
    fixture.declare("a");
    fixture.declare("b");
    let _workers = (fixture.worker("a", Settlement::Ack), fixture.worker("b", Settlement::Reject));
    let mut of_a = fixture.feed("/v1/events?queue=a", None);
    let mut failed = fixture.feed("/v1/events?outcome=failed", None);
    for (queue, id) in [("b", "1"), ("a", "2"), ("b", "3"), ("a", "4")] {
        let message = json!({"routing_key": queue, "payload": "x", "message_id": id});
        assert_eq!(fixture.post("/v1/messages?wait=20", message).status, 200);
    }
    for (feed, expected) in [(&mut of_a, ["2", "4"]), (&mut failed, ["1", "3"])] {
        for id in expected {
            assert_eq!(feed.next_event().expect("an event").data["message_id"], id);
        }
    }
}

#[test]
fn a_reader_that_comes_and_goes_under_load_gets_each_event_once() {
    const COUNT: usize = 3000;
    let fixture = Fixture::new();
    fixture.declare("q");
    let _worker = fixture.worker("q", Settlement::Ack);
    let first = fixture.feed("/v1/events", None);
    let mut seen: Vec<String> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut link = Link::open(fixture.node(), "/", "guest").expect("a link");
            let channel = link.open_channel().expect("a channel");
            for number in 0..COUNT {
                let id = number.to_string();
                let properties = Properties {
                    message_id: Some(id.as_str().into()),
                    delivery_mode: Some(2),
                    ..Properties::default()
                };
                link.publish(channel, "", "q", &properties, b"x").expect("published");
                if number % 100 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
            link.close();
        });
        let mut feed = first;
        // How many events the reader stays for: a few, none, many.
        for stay in [1, 7, 0, 100, 3, 1000, 0, 250].into_iter().cycle() {
            for _ in 0..stay {
                if seen.len() == COUNT {
                    break;
                }
                let event = feed.next_event().expect("an event");
                seen.push(event.data["message_id"].as_str().expect("an id").to_owned());
            }
            if seen.len() == COUNT {
                break;
            }
            let last_id = feed.last_id.take();
            drop(feed);
            feed = fixture.feed("/v1/events", last_id.as_deref());
            // A reader that left before it was given any id would begin anew; an `EventSource` that
            // had an id keeps it.
            feed.last_id = last_id;
        }
    });
    let mut expected: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let in_order = seen.clone();
    seen.sort_unstable();
    expected.sort_unstable();
    assert!(seen == expected, "{} of {COUNT} events, some missing or twice", seen.len());
    let page = fixture.get("/v1/outcomes?limit=1000");
    let listed = page.json["outcomes"].as_array().expect("a list");
    let listed: Vec<_> = listed.iter().filter_map(|it| it["message_id"].as_str()).collect();
    assert_eq!(listed, in_order[..1000], "in the order of the list");
}
