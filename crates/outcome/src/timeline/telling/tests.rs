//! Stories in short form: a script of events, and what should come out of it.

use super::*;
use crate::{Details, Flags, IdHash, PublishedQueue, Verdict};
use amqp::BStr;

/// Reads a script: `publish a b`, `copy dlq`, `deliver a w1`, `requeue a`, `settle a processed`
/// (flags `late`, `copy`, `notified`, `dlx`), `receive a`, `move`. An empty queue is `-`,
/// `~7` is one that was deleted.
fn tell(script: &str) -> Timeline {
    let lines = script.split(", ").enumerate();
    Timeline::new(lines.map(|(number, line)| event(number as u64 + 1, line)).collect())
}

fn event(number: u64, line: &str) -> Event<'static> {
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let name = |index: usize| {
        words
            .get(index)
            .map(|name| name.replace('-', "").replace('~', NAMELESS_QUEUE))
            .unwrap_or_default()
    };
    let what = match words[0].as_str() {
        "publish" | "copy" => What::Published(Published {
            is_copy: words[0] == "copy",
            queues: (1..words.len())
                .map(|index| PublishedQueue { id: index as u32, name: name(index).into() })
                .collect(),
            ..Published::default()
        }),
        "deliver" => What::Delivered { queue: name(1).into(), worker: name(2).into(), attempt: 1 },
        "requeue" => What::Requeued { queue: name(1).into(), attempt: 1, retry_at_ms: 99 },
        "settle" => What::Settled(Box::new(settled(&name(1), &words[2], &words[3..]))),
        "progress" => What::Progress { queue: name(1).into(), permille: 400, text: "t".into() },
        "receive" => What::Received { queue: name(1).into() },
        "move" => What::Moved { position: 7 },
        other => panic!("{other}"),
    };
    Event { at: Cursor { position: number, nth: 0 }, id: IdHash(1), time_ms: number * 10, what }
}

fn settled(queue: &str, outcome: &str, flags: &[String]) -> Settled<'static> {
    let has = |flag: &str| flags.iter().any(|known| known == flag);
    Settled {
        vhost: "/".into(),
        queue: queue.to_owned().into(),
        verdict: Verdict {
            outcome: Outcome::parse(outcome).expect("an outcome"),
            reason: None,
            attempts: 1,
            queue_count: 1,
            published_at_ms: 10,
            flags: Flags::NONE
                .with_if(has("late"), Flags::LATE)
                .with_if(has("copy"), Flags::COPY)
                .with_if(has("notified"), Flags::NOTIFIED),
        },
        details: Details {
            message_id: BStr::new("m").into(),
            worker: "w".into(),
            dead_letter_exchange: has("dlx").then(|| "dlx".into()),
            ..Details::default()
        },
        message: None,
    }
}

/// `stage[=outcome][!] queue:stage[=outcome][!] ... [+ copies]`, `!` for recovered; publications,
/// newest first, after ` | `.
fn shown(timeline: &Timeline) -> String {
    let part = |stage: Stage, outcome: Option<Outcome>, is_recovered: bool| {
        let outcome = outcome.map(|outcome| format!("={}", outcome.name())).unwrap_or_default();
        format!("{}{outcome}{}", stage.name(), if is_recovered { "!" } else { "" })
    };
    let stories = |queues: &[QueueStory]| -> String {
        let story = |queue: &QueueStory| {
            let part = part(queue.stage, queue.outcome(), queue.is_recovered);
            format!(" {}:{part}", queue.name)
        };
        queues.iter().map(story).collect()
    };
    let publication = |it: &Publication| {
        let copies: String =
            it.copies.iter().map(|copy| format!(" +{}", stories(&copy.queues))).collect();
        let all = part(it.stage(), it.outcome(), it.is_recovered());
        format!("{all}{}{copies}", stories(&it.queues))
    };
    timeline.publications.iter().map(publication).collect::<Vec<_>>().join(" | ")
}

#[test]
fn each_story_is_told_as_it_was() {
    let check = |script: &str, expected: &str| {
        assert_eq!(shown(&tell(script)), expected, "{script}");
    };
    check("publish a", "queued a:queued");
    check("publish a, deliver a w", "delivered a:delivered");
    check("publish a, deliver a w, requeue a", "queued a:queued");
    check("publish a, deliver a w, settle a processed", "settled=processed a:settled=processed");
    check("publish a, move, deliver a w", "delivered a:delivered");
    check("publish a, deliver a w, progress a", "delivered a:delivered");
    check("progress a", "delivered a:delivered");
    // A fan-out is settled when all of it is; the worst counts.
    check("publish a b, settle a failed", "queued a:settled=failed b:queued");
    check(
        "publish a b, settle a failed, settle b processed",
        "settled=failed a:settled=failed b:settled=processed",
    );
    check("publish a b, deliver b w", "delivered a:queued b:delivered");
    // No queue at all.
    check("publish", "queued");
    check("publish, settle - unroutable", "settled=unroutable :settled=unroutable");
    // A late ack changes the outcome once.
    check(
        "publish a, deliver a w, settle a deadline-missed, settle a processed late",
        "settled=processed a:settled=processed",
    );
    // Deliveries go on after its deadline, and it stays settled meanwhile.
    check(
        "publish a b, settle a deadline-missed, deliver a w, requeue a, deliver a w",
        "queued a:settled=deadline-missed b:queued",
    );
    check(
        "publish a, settle a deadline-missed, deliver a w, settle a processed late",
        "settled=processed a:settled=processed",
    );
    // Dead letters: the copy is shown with its original, and may recover it.
    check(
        "publish a, settle a failed dlx, copy dlq",
        "settled=failed a:settled=failed + dlq:queued",
    );
    check(
        "publish a, copy dlq, settle a failed dlx, deliver dlq w, settle dlq processed copy",
        "settled=failed! a:settled=failed! + dlq:settled=processed",
    );
    check(
        "publish a, settle a expired dlx, copy a, settle a processed copy",
        "settled=expired! a:settled=expired! + a:settled=processed",
    );
    // Published again.
    check(
        "publish a, settle a failed, publish a, settle a processed",
        "settled=processed a:settled=processed | settled=failed! a:settled=failed!",
    );
    check("publish a, publish a, deliver a w", "queued a:queued | delivered a:delivered");
    check(
        "publish a, settle a failed, publish b, settle b processed",
        "settled=processed b:settled=processed | settled=failed a:settled=failed",
    );
    // A queue that was deleted before the ledger saw the message.
    check("publish ~7, settle a dropped", "settled=dropped a:settled=dropped");
    check("publish a ~7, settle b dropped", "queued a:queued b:settled=dropped");
    // The beginning is forgotten.
    check("settle a processed", "settled=processed a:settled=processed");
    check("requeue a, deliver a w", "delivered a:delivered");
    check("settle - unroutable", "settled=unroutable :settled=unroutable");
    check("receive a", "");
    check("move", "");
}

#[test]
fn receipt_goes_to_the_outcome_that_was_sent() {
    let timeline = tell(
        "publish a, settle a processed, publish a, settle a failed notified, receive a, receive a",
    );
    let received: Vec<_> =
        timeline.publications.iter().map(|it| it.queues[0].received_at_ms).collect();
    // A second receipt changes only the time.
    assert_eq!(received, [Some(60), None]);
    assert_eq!(timeline.publications[0].entries.len(), 4);
}

#[test]
fn entries_of_copies_stand_among_those_of_the_original() {
    let timeline = tell(
        "publish a b, deliver a w, settle a failed dlx, copy dlq, settle b processed, \
         settle dlq processed copy",
    );
    let newest = timeline.newest().expect("a publication");
    let positions: Vec<_> = newest.entries.iter().map(|entry| entry.at.position).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
    let of_copies: Vec<_> =
        newest.entries.iter().filter(|e| e.is_copy).map(|e| e.at.position).collect();
    assert_eq!(of_copies, [4, 6]);
    assert_eq!(
        newest.all_queues().map(|queue| queue.name.as_str()).collect::<Vec<_>>(),
        ["a", "b", "dlq"]
    );
}

#[test]
fn what_a_queue_made_of_it_is_kept() {
    let timeline = tell("publish a, deliver a w1, requeue a");
    let queue = &timeline.publications[0].queues[0];
    assert_eq!((queue.attempts, queue.worker.as_str(), queue.retry_at_ms), (1, "w1", 99));
    let timeline = tell("publish a, deliver a w1, settle a processed");
    let publication = &timeline.publications[0];
    assert_eq!(publication.published_at_ms, 10);
    let (at, time_ms, settled) = publication.queues[0].settled.as_ref().expect("an outcome");
    assert_eq!((at.position, *time_ms, settled.verdict.outcome), (3, 30, Outcome::Processed));
}
