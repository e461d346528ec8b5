//! What workers report before they settle: results, errors, and reports on messages they do not
//! hold.

use crate::{case::Case, wilco};
use end_to_end::{
    Bystander, Channel, Level, Told,
    client::block,
    raw::{self, Args, Frame},
    table, text, unique,
};
use lapin::{BasicProperties, message::Delivery, types::FieldTable};

const REPORT: &str = "amq.wilco.report";
const KEPT_BYTES: usize = 64 << 10;

fn error() -> BasicProperties {
    BasicProperties::default().with_headers(table([("x-outcome", text("failed"))]))
}

/// The outcome message of a message on which `work` was done.
fn outcome_of(case: &Case<'_>, work: impl FnOnce(&Channel, &Delivery)) -> (Told, Delivery) {
    case.publish();
    let message = case.get();
    work(&case.client, &message);
    let outcome = case.client.take_soon(&case.reply);
    (Told::read(&outcome), outcome)
}

#[test]
fn result_is_the_body_of_the_outcome_message_and_in_the_ledger() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let (told, outcome) = outcome_of(&case, |worker, message| {
        let text = BasicProperties::default().with_content_type("text/plain".into());
        worker.publish_with(REPORT, &case.id, "forty", text.clone());
        // The last one counts.
        worker.publish_with(REPORT, &case.id, "forty-two", text);
        worker.ack(message);
    });
    assert_eq!((told.outcome.as_str(), told.error), ("processed", None));
    assert_eq!(outcome.data, b"forty-two");
    let queue = &broker.settled(&case.id)["queues"][0];
    assert_eq!((queue["result"].text(), queue["content_type"].text()), ("forty-two", "text/plain"));
}

#[test]
fn error_text_is_a_header_and_in_the_ledger() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let (told, outcome) = outcome_of(&case, |worker, message| {
        worker.publish_with(REPORT, &case.id, "disk full: ünlucky", error());
        worker.reject(message, false);
    });
    assert_eq!(told.outcome, "failed");
    assert_eq!(told.error.as_deref(), Some("disk full: ünlucky"));
    assert!(outcome.data.is_empty());
    assert_eq!(broker.settled(&case.id)["queues"][0]["error"].text(), "disk full: ünlucky");
}

#[test]
fn settlement_decides_the_outcome_whatever_the_report_says() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let (told, _) = outcome_of(&case, |worker, message| {
        worker.publish_with(REPORT, &case.id, "odd, but done", error());
        worker.ack(message);
    });
    assert_eq!((&*told.outcome, told.error.as_deref()), ("processed", Some("odd, but done")));

    let case = Case::new(&broker, FieldTable::default());
    let (told, outcome) = outcome_of(&case, |worker, message| {
        worker.publish(REPORT, &case.id, "half done");
        worker.reject(message, false);
    });
    assert_eq!((told.outcome.as_str(), outcome.data.as_slice()), ("failed", &b"half done"[..]));
}

#[test]
fn report_is_cut_at_64_kib() {
    let Some(broker) = wilco() else { return };
    for (bytes, cut) in [(KEPT_BYTES, None), (KEPT_BYTES + 1, Some(KEPT_BYTES as i64 + 1))] {
        let body: Vec<u8> = (0..bytes).map(|n| b'a' + (n % 26) as u8).collect();
        let kept = &body[..KEPT_BYTES];
        let case = Case::new(&broker, FieldTable::default());
        let (told, outcome) = outcome_of(&case, |worker, message| {
            worker.publish(REPORT, &case.id, &body);
            worker.ack(message);
        });
        assert_eq!(told.result_bytes, cut);
        assert!(outcome.data == kept, "{} bytes came", outcome.data.len());

        let case = Case::new(&broker, FieldTable::default());
        let (told, outcome) = outcome_of(&case, |worker, message| {
            worker.publish_with(REPORT, &case.id, &body, error());
            worker.reject(message, false);
        });
        assert_eq!(told.result_bytes, cut);
        // A header must fit into one frame, however small the client wants frames to be.
        assert!(told.error.is_some_and(|error| error.as_bytes() == &kept[..1024]));
        assert!(outcome.data == kept, "the whole text is the body");
    }
}

#[test]
fn report_of_an_attempt_is_forgotten_when_the_message_is_given_back() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let (told, outcome) = outcome_of(&case, |worker, message| {
        worker.publish_with(REPORT, &case.id, "not today", error());
        worker.nack(message, true);
        worker.ack(&case.get());
    });
    assert_eq!((told.attempts, told.error), (2, None));
    assert!(outcome.data.is_empty());
}

/// Reports on messages that the channel does not hold, each from a channel of its own.
#[test]
fn report_about_a_message_that_the_channel_does_not_hold_is_ignored() {
    let Some(broker) = wilco() else { return };
    let mut bystander = Bystander::new(&broker);
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let worker = case.client.open();
    let message = worker.get_soon(&case.queue);
    let other_channel = case.client.open();
    let somebody_else = broker.client();
    for channel in [&other_channel, &*somebody_else] {
        channel.confirm_select();
        for id in [case.id.as_str(), &unique("unknown"), ""] {
            let body = "what do I know";
            let ignored = channel.send(REPORT, id, body, BasicProperties::default(), false);
            let ignored = block(ignored).expect("a confirm");
            assert!(ignored.is_nack() && ignored.take_message().is_none());
            let returned = channel.send(REPORT, id, body, BasicProperties::default(), true);
            let returned = block(returned).expect("a confirm");
            assert!(returned.is_nack());
            let returned = returned.take_message().expect("it comes back");
            assert_eq!(
                (returned.reply_code, returned.delivery.data.as_slice()),
                (312, body.as_bytes())
            );
        }
        // Nothing else on the channel is disturbed.
        assert!(channel.confirmed("", &case.queue, "more work").is_ack());
    }
    bystander.still_works();
    worker.publish(REPORT, &case.id, "the worker's");
    worker.ack(&message);
    let outcome = case.client.take_soon(&case.reply);
    assert_eq!(outcome.data, b"the worker's");
    case.nothing_more();
}

/// In one write, so that the broker reads both at once: what came first counts all the same.
#[test]
fn report_about_a_message_settled_just_before_is_ignored() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let mut worker = broker.raw();
    worker.confirm_select(1);
    worker.consume(1, &case.queue);
    for (tag, first) in [(1, "ack"), (2, "ack of several"), (3, "report")] {
        let id = unique("id");
        case.publish_with(case.asking([]).with_message_id(id.as_str().into()));
        assert_eq!(worker.delivery(), b"work");
        let report = raw::publish(1, REPORT, &id, b"result");
        let multiple = u8::from(first == "ack of several");
        let ack = Frame::method(1, 60, 80, &Args::new().u64(tag).u8(multiple));
        let both = if first == "report" { [report, ack] } else { [ack, report] };
        worker.send(&both.concat());
        let answer = if first == "report" { 80 } else { 120 };
        worker.expect(60, answer);
        let outcome = case.client.take_soon(&case.reply);
        assert_eq!(outcome.data, if first == "report" { &b"result"[..] } else { b"" }, "{first}");
    }
    case.nothing_more();
}

#[test]
fn report_about_a_message_settled_already_is_ignored() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    case.client.ack(&case.get());
    let late = case.client.send(REPORT, &case.id, "late", BasicProperties::default(), false);
    assert!(block(late).expect("a confirm").is_nack());
    assert!(case.client.take_soon(&case.reply).data.is_empty());
    case.nothing_more();
}

#[test]
fn report_is_confirmed_in_its_turn() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    case.publish();
    let message = case.get();
    let report = case.client.send(REPORT, &case.id, "done", BasicProperties::default(), true);
    let report = block(report).expect("a confirm");
    assert!(report.is_ack() && report.take_message().is_none());
    case.client.ack(&message);
    assert_eq!(case.client.take_soon(&case.reply).data, b"done");
}

fn progress(permille: i32) -> BasicProperties {
    BasicProperties::default().with_headers(table([("x-progress", end_to_end::int(permille))]))
}

#[test]
fn progress_is_an_event_of_the_story_and_no_result() {
    let Some(broker) = wilco() else { return };
    let case = Case::new(&broker, FieldTable::default());
    let (told, outcome) = outcome_of(&case, |worker, message| {
        worker.publish_with(REPORT, &case.id, "ü".repeat(300), progress(0));
        for permille in 1..1000 {
            worker.publish_with(REPORT, &case.id, "frames", progress(permille));
        }
        std::thread::sleep(std::time::Duration::from_millis(1100));
        worker.publish_with(REPORT, &case.id, "frames", progress(1000));
        worker.ack(message);
    });
    assert_eq!((told.outcome.as_str(), outcome.data.len()), ("processed", 0));
    let story = broker.settled(&case.id);
    let events: Vec<_> = story["timeline"].elements().to_vec();
    let events: Vec<_> = events.iter().filter(|it| it["event"].text() == "progress").collect();
    // Those between are forgotten: the story is not to consist of them.
    let [first, .., last] = &events[..] else { panic!("two of them: {story:?}") };
    assert!(events.len() <= 3, "{events:?}");
    assert!(first["text"].text().starts_with('ü') && first["text"].text().len() <= 255);
    assert_eq!((last["text"].text(), last["queue"].text()), ("frames", &*case.queue));
    assert_eq!(last["progress"].number(), Some(1.0));
}

#[test]
fn progress_that_makes_no_sense_is_refused() {
    let Some(broker) = wilco() else { return };
    for permille in [end_to_end::int(1001), end_to_end::int(-1), text("half")] {
        let case = Case::new(&broker, FieldTable::default());
        case.publish();
        let _message = case.get();
        let properties = BasicProperties::default().with_headers(table([("x-progress", permille)]));
        case.client.refuses_unasked(406, Level::Channel, |client| {
            client.publish_with(REPORT, &case.id, "x", properties);
        });
    }
}
