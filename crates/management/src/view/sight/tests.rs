//! What is seen of stories that are partly hidden, and of one's own publication among those of
//! others.

use ::outcome::{Details, Flags, Verdict};
use serde_json::Value;

use super::*;
use crate::ports::{Cursor, Outcome, PublishedQueue};
use crate::view::MessageView;

/// Events of one message; the cursor of each is its number.
#[derive(Default)]
struct Story(Vec<MessageEvent>);

impl Story {
    fn and(mut self, time_ms: u64, what: What<'static>) -> Self {
        let cursor = Cursor::new(self.0.len().to_string());
        self.0.push(MessageEvent { cursor, time_ms, what });
        self
    }

    fn published(self, time_ms: u64, key: &str, queues: &[&str]) -> Self {
        self.sent(time_ms, key, queues, false)
    }

    fn sent(self, time_ms: u64, key: &str, queues: &[&str], is_copy: bool) -> Self {
        let queue = |name: &&str| PublishedQueue { id: 0, name: (*name).to_owned().into() };
        let published = Published {
            routing_key: crate::ports::BString::from(key.to_owned()).into(),
            exchange: "x".into(),
            queues: queues.iter().map(queue).collect(),
            is_copy,
            ..Published::default()
        };
        self.and(time_ms, What::Published(published))
    }

    fn delivered(self, queue: &str, worker: &str) -> Self {
        let (queue, worker) = (queue.to_owned().into(), worker.to_owned().into());
        self.and(90_000, What::Delivered { queue, worker, attempt: 1 })
    }

    /// `result` is also the worker's name.
    fn settled(self, queue: &str, outcome: Outcome, published_at_ms: u64, result: &str) -> Self {
        self.ended(queue, outcome, published_at_ms, result, false)
    }

    fn ended(
        self,
        queue: &str,
        outcome: Outcome,
        published_at_ms: u64,
        result: &str,
        is_copy: bool,
    ) -> Self {
        let settled = Settled {
            vhost: "/".into(),
            queue: queue.to_owned().into(),
            verdict: Verdict {
                outcome,
                reason: None,
                attempts: 1,
                queue_count: 1,
                published_at_ms,
                flags: Flags::NONE.with_if(is_copy, Flags::COPY),
            },
            details: Details {
                message_id: crate::ports::BStr::new("m").into(),
                worker: result.to_owned().into(),
                result: Some(result.as_bytes().to_owned().into()),
                dead_letter_exchange: (outcome == Outcome::Failed).then(|| "dlx".into()),
                ..Details::default()
            },
            message: None,
        };
        self.and(90_000, What::Settled(Box::new(settled)))
    }

    fn seen(&self, own: Option<&Receipt>, sees: impl Fn(&str) -> bool) -> Option<Value> {
        let view = MessageView::new(&Seen::by(self.0.clone(), own, sees))?;
        Some(serde_json::to_value(view).expect("JSON"))
    }

    /// What a caller that may read nothing sees of its own publication.
    fn own(&self, nth: usize) -> Option<Value> {
        let MessageEvent { cursor, time_ms, .. } = &self.0[nth];
        let own = Receipt { published: Some(cursor.clone()), published_at_ms: *time_ms };
        self.seen(Some(&own), |_| false)
    }

    fn open(&self) -> Option<Value> {
        self.seen(None, |queue| queue.starts_with("open"))
    }
}

use Outcome::{DeadlineMissed, Failed, Processed, Unroutable};

#[test]
fn state_and_outcome_are_those_of_what_is_seen() {
    let story = Story::default().published(1, "k", &["open", "secret"]).delivered("secret", "them");
    assert_eq!(story.open().expect("a view")["state"], "queued");
    let story = story.settled("open", Processed, 1, "fine").settled("secret", Failed, 1, "them");
    let open = story.open().expect("a view");
    assert_eq!((&open["state"], &open["outcome"]), (&"settled".into(), &"processed".into()));
    assert!(!open.to_string().contains("secret") && !open.to_string().contains("them"), "{open}");
    assert_eq!(open["timeline"].as_array().map(Vec::len), Some(2));
    assert_eq!(story.seen(None, |_| true).expect("a view")["outcome"], "failed");
    assert_eq!(story.seen(None, |_| false), None);
    assert_eq!(story.seen(None, str::is_empty), None);
}

#[test]
fn what_a_hidden_copy_made_good_is_not_told() {
    let story = |copy: &str| {
        let story = Story::default().published(1, "k", &["open"]).settled("open", Failed, 1, "no");
        story.sent(2, "k", &[copy], true).ended(copy, Processed, 2, "them", true)
    };
    assert_eq!(story("open dead").open().expect("a view")["recovered"], true);
    let hidden = story("secret").open().expect("a view");
    assert_eq!(hidden["recovered"], false);
    assert!(!hidden.to_string().contains("them") && !hidden.to_string().contains("secret"));
    assert_eq!(hidden["copies"], serde_json::json!([]));
}

#[test]
fn of_a_hidden_message_its_copy_is_seen_where_it_may_be_read() {
    let story = Story::default().published(1, "secret", &["secret"]);
    let story = story.settled("secret", Failed, 1, "them").sent(2, "secret", &["open"], true);
    let open = story.open().expect("a view");
    assert_eq!((&open["state"], &open["queues"][0]["queue"]), (&"queued".into(), &"open".into()));
    assert!(!open.to_string().contains("secret") && !open.to_string().contains("them"), "{open}");
}

#[test]
fn a_key_that_names_a_hidden_queue_is_left_out() {
    let mut story = Story::default().published(1, "elsewhere", &["open"]);
    assert_eq!(story.open().expect("a view")["routing_key"], "elsewhere");
    let What::Published(published) = &mut story.0[0].what else { unreachable!() };
    published.exchange = "".into();
    assert_eq!(story.open().expect("a view").get("routing_key"), None);
}

#[test]
fn what_was_unroutable_is_seen_by_who_oversees() {
    let story = Story::default().settled("", Unroutable, 1, "");
    assert_eq!(story.open(), None);
    assert!(story.seen(None, str::is_empty).is_some());
}

#[test]
fn a_deleted_queue_is_hidden_or_not_by_its_name() {
    let nameless = || Story::default().published(1, "k", &["(deleted queue 7)"]);
    assert_eq!(nameless().open(), None);
    assert_eq!(nameless().settled("secret", Failed, 1, "them").open(), None);
    let open = nameless().settled("open", Failed, 1, "no").open().expect("a view");
    assert_eq!(open["queues"][0]["queue"], "open");
    assert_eq!(open["exchange"], "x", "it is one story");
}

#[test]
fn ones_own_is_seen_in_any_queue_and_nothing_else() {
    let story = Story::default().published(1, "k", &["secret"]);
    let story = story.delivered("secret", "their worker").settled("secret", Processed, 1, "theirs");
    let story = story.published(2, "k", &["secret"]).delivered("secret", "my worker");
    let own = story.own(3).expect("a view");
    assert_eq!(
        (&own["state"], &own["queues"][0]["worker"]),
        (&"delivered".into(), &"my worker".into())
    );
    let story = story.settled("secret", Processed, 2, "mine").published(3, "k", &["secret"]);
    let story = story.delivered("secret", "a third").settled("secret", Failed, 3, "third");
    let own = story.own(3).expect("a view");
    assert_eq!(
        (&own["outcome"], &own["queues"][0]["result"]),
        (&"processed".into(), &"mine".into())
    );
    assert_eq!(own["earlier"], serde_json::json!([]));
    assert!(!own.to_string().contains("thei") && !own.to_string().contains("third"), "{own}");
    assert_eq!(story.own(1), None, "there is no publication");
}

#[test]
fn deliveries_in_a_hidden_queue_that_could_be_anothers_are_left_out() {
    // It missed its deadline and is still there.
    let story = Story::default().published(1, "k", &["secret"]);
    let story = story.settled("secret", DeadlineMissed, 1, "theirs").published(2, "k", &["secret"]);
    let story = story.delivered("secret", "whose").settled("secret", Processed, 1, "theirs");
    let own = story.own(2).expect("a view");
    assert_eq!(own["state"], "queued");
    assert!(!own.to_string().contains("whose") && !own.to_string().contains("theirs"), "{own}");
    let own = story.settled("secret", Processed, 2, "mine").own(2).expect("a view");
    assert_eq!(
        (&own["outcome"], &own["queues"][0]["result"]),
        (&"processed".into(), &"mine".into())
    );
}

#[test]
fn outcomes_of_two_that_were_published_in_the_same_moment_are_nobodys() {
    let story = Story::default().published(1, "k", &["secret"]).published(1, "k", &["secret"]);
    let story = story.settled("secret", Processed, 1, "one").settled("secret", Failed, 1, "two");
    for position in [0, 1] {
        let own = story.own(position).expect("a view");
        assert_eq!((&own["state"], own.get("outcome")), (&"queued".into(), None));
        assert!(!own.to_string().contains("one") && !own.to_string().contains("two"), "{own}");
    }
}

#[test]
fn copies_of_ones_own_are_seen_where_they_may_be_read() {
    let story = Story::default().published(1, "k", &["q"]).settled("q", Failed, 1, "no");
    let story = story.sent(2, "k", &["secret"], true).ended("secret", Processed, 2, "them", true);
    let own = story.own(0).expect("a view");
    assert_eq!((&own["outcome"], &own["recovered"]), (&"failed".into(), &false.into()));
    assert!(!own.to_string().contains("secret") && !own.to_string().contains("them"), "{own}");
}
