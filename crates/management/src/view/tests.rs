//! The JSON of a message. The tests of module `sight` check who sees what of it.

use ::outcome::{Details, Flags, Outcome, Reason, Verdict};

use super::*;
use crate::ports::{BStr, Cursor, MessageEvent, Published, PublishedQueue, Settled, What};

fn events() -> Vec<MessageEvent> {
    let queue = |id, name: &'static str| PublishedQueue { id, name: name.into() };
    let published = Published {
        vhost: "/".into(),
        id: BStr::new("m").into(),
        routing_key: BStr::new("key").into(),
        queues: vec![queue(1, "open"), queue(2, "secret")],
        body_bytes: 3,
        deadline_at_ms: 5000,
        ..Published::default()
    };
    let settled = Settled {
        vhost: "/".into(),
        queue: "open".into(),
        verdict: Verdict {
            outcome: Outcome::Failed,
            reason: Some(Reason::Rejected),
            attempts: 2,
            queue_count: 2,
            published_at_ms: 1000,
            flags: Flags::NOTIFIED,
        },
        details: Details {
            message_id: BStr::new("m").into(),
            worker: "w".into(),
            error: Some(BStr::new("no").into()),
            content_type: Some(BStr::new("image/png").into()),
            result: Some(vec![1, 2, 3].into()),
            dead_letter_exchange: None,
        },
        message: None,
    };
    let delivered = What::Delivered { queue: "secret".into(), worker: "s".into(), attempt: 1 };
    let whats = [What::Published(published), delivered, What::Settled(Box::new(settled))];
    let event = |(number, what)| MessageEvent {
        cursor: Cursor::new(format!("place {number}")),
        time_ms: 1000 * (number as u64 + 1),
        what,
    };
    whats.into_iter().enumerate().map(event).collect()
}

#[test]
fn a_message_is_shown_with_all_that_is_known() {
    let view = MessageView::new(&Seen::by(events(), None, |_| true)).expect("a view");
    let view = serde_json::to_value(view).expect("JSON");
    assert_eq!(view["id"], "m");
    assert_eq!(view["state"], "delivered");
    assert_eq!(view.get("outcome"), None);
    assert_eq!(view["published_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(view["deadline_at"], "1970-01-01T00:00:05.000Z");
    let queue = &view["queues"][0];
    assert_eq!(queue["outcome"], "failed");
    assert_eq!(queue["reason"], "rejected");
    assert_eq!(queue["error"], "no");
    assert_eq!(queue["result_base64"], "AQID");
    assert_eq!(queue["notified"], true);
    assert_eq!(queue["settled_at"], "1970-01-01T00:00:03.000Z");
    assert_eq!(view["timeline"][1]["event"], "delivered");
    assert_eq!(view["timeline"][1]["cursor"], "place 1");
}
