//! How programs are told, what they find when they look, and what is forgotten.

use std::time::Duration;

use wilco::{ErrorKind, Failure, OutboxState, Outcome, Queue};

use super::{Counts, Place, Working, block, counting, heard, memory, processed, unique};

#[test]
fn an_outcome_is_told_until_the_program_has_taken_it() {
    again(&Place::file());
}

#[test]
fn a_message_is_sent_again_by_who_is_told_of_it() {
    sent_again(&Place::file());
}

#[test]
fn what_is_in_the_outbox_can_be_looked_at_and_is_forgotten() {
    looked_at(&Place::file());
}

#[test]
fn a_message_that_no_engine_takes_is_refused_and_holds_up_nobody() {
    refused(&Place::file());
}

pub(super) fn again(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<String> = Queue::named(unique("again"));
        let worker = wilco.worker().handle(queue.clone(), counting(&Counts::default()));
        let worker = tokio::spawn(worker.run());
        let outbox = place.open().await;
        for id in ["fails", "panics", "permanent", "good"] {
            outbox.send(queue.clone(), &id.to_owned()).id(id).await.expect("put in");
        }
        let counts = Counts::default();
        let relay = outbox.relay(&wilco).on_outcome({
            let counts = counts.clone();
            move |told| {
                counts.add(&told.id);
                let count = counts.of(&told.id);
                async move {
                    match &*told.id {
                        "fails" if count == 1 => Err(std::io::Error::other("no room"))?,
                        "panics" if count == 1 => panic!("the callback panics"),
                        "permanent" => Err(Failure::permanent("never mind")),
                        _ => Ok(()),
                    }
                }
            }
        });
        let relay = Working::start(relay);
        let begun = tokio::time::Instant::now();
        while counts.of("fails") < 2 || counts.of("panics") < 2 {
            assert!(begun.elapsed() < Duration::from_secs(20), "they are told again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let report = relay.stop().await;
        assert_eq!((report.settled, report.told), (4, 4));
        assert_eq!((counts.of("good"), counts.of("permanent")), (1, 1));
        worker.abort();
    });
}

pub(super) fn sent_again(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<String> = Queue::named(unique("sent-again"));
        let outbox = place.open().await;
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let relay = outbox.relay(&wilco).on_outcome({
            let (outbox, queue) = (outbox.clone(), queue.clone());
            move |told| {
                let (outbox, queue, sender) = (outbox.clone(), queue.clone(), sender.clone());
                async move {
                    if let Ok(Outcome::DeadlineMissed(_)) = &told.outcome {
                        outbox.send(queue, &"x".to_owned()).id(&told.id).await?;
                    }
                    sender.send(told)?;
                    Ok(())
                }
            }
        });
        let relay = Working::start(relay);
        let send = outbox.send(queue.clone(), &"x".to_owned()).id("a");
        send.deadline(Duration::from_millis(1)).await.expect("put in");
        let late = told.recv().await.expect("it is told");
        assert!(matches!(late.outcome, Ok(Outcome::DeadlineMissed(_))), "{late}");
        let worker = wilco.worker().handle(queue, counting(&Counts::default()));
        let worker = tokio::spawn(worker.run());
        assert!(processed(&told.recv().await.expect("it is told")));
        relay.stop().await;
        assert!(outbox.pending().await.expect("asked").is_empty());
        worker.abort();
    });
}

pub(super) fn looked_at(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<String, String> = Queue::named(unique("looked-at"));
        let outbox = place.open().await;
        let deadline = Duration::from_millis(1);
        let send = |id: &'static str| {
            let queue = queue.clone();
            let outbox = outbox.clone();
            async move {
                let send = outbox.send(queue, &id.to_owned()).id(id).header("name", "value");
                let send = if id == "late" { send.deadline(deadline) } else { send };
                send.await.expect("put in")
            }
        };
        for id in ["late", "done", "done"] {
            send(id).await;
        }
        let state = outbox.state(queue.clone(), "done").await.expect("asked");
        assert!(matches!(state, OutboxState::Waiting), "{state:?}");
        let pending = outbox.pending().await.expect("asked");
        let ids: Vec<_> = pending.iter().map(|it| &*it.id).collect();
        assert_eq!(ids, ["late", "done"], "an id is there once");
        assert!(pending.iter().all(|it| it.attempts == 0 && it.age < Duration::from_secs(20)));
        tokio::time::sleep(Duration::from_millis(20)).await;

        let counts = Counts::default();
        let handler = {
            let counts = counts.clone();
            move |id: String, context: wilco::Context| {
                counts.add(&id);
                let header = context.header("name").map(str::to_owned).unwrap_or_default();
                async move { Ok::<_, Failure>(header) }
            }
        };
        let (relay, mut told) = heard(outbox.relay(&wilco));
        let relay = Working::start(relay);
        let late = told.next().await;
        assert_eq!(&*late.id, "late");
        assert!(matches!(late.outcome, Ok(Outcome::DeadlineMissed(_))), "{late}");
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
        let done = told.next().await;
        assert!(done.id == "done" && processed(&done), "{done}");
        let state = outbox.state(queue.clone(), "done").await.expect("asked");
        let OutboxState::Settled(Outcome::Processed(outcome)) = state else {
            panic!("{state:?}");
        };
        assert_eq!(outcome.result().expect("a text"), "value");
        // Sent once more, it is told once more, and not processed.
        send("done").await;
        assert!(processed(&told.next().await));
        assert_eq!(counts.of("done"), 1);
        relay.stop().await;

        let relay = Working::start(outbox.relay(&wilco).keep(Duration::ZERO));
        let begun = tokio::time::Instant::now();
        loop {
            let state = outbox.state(queue.clone(), "done").await.expect("asked");
            if matches!(state, OutboxState::Unknown) {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it is forgotten");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        relay.stop().await;
        worker.abort();

        for (id, key) in [
            ("x".repeat(256), "k".to_owned()),
            (String::new(), "k".to_owned()),
            ("x".to_owned(), String::new()),
            ("x".to_owned(), "k".repeat(256)),
            ("\0".to_owned(), "k".to_owned()),
            ("x".to_owned(), "\0".to_owned()),
        ] {
            let send = outbox.send(queue.clone(), &"x".to_owned()).id(&id).key(&key);
            let error = send.await.expect_err("it cannot be");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        // What no engine takes would hold up its key for ever.
        let far = Duration::from_secs(11 * 365 * 24 * 3600);
        let send = outbox.send(queue.clone(), &"x".to_owned()).deadline(far);
        assert_eq!(send.await.expect_err("too far").kind(), ErrorKind::Invalid);
    });
}

/// Larger than a broker takes unless it is told otherwise.
const TOO_LARGE: usize = (16 << 20) + 1;

pub(super) fn refused(place: &Place) {
    block(async {
        let wilco = memory().await;
        let queue: Queue<Vec<u8>, Vec<u8>, wilco::Raw> = Queue::named(unique("refused"));
        let handler = async |_: Vec<u8>| Ok::<_, Failure>(Vec::new());
        let worker = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
        let outbox = place.open().await;
        for (id, bytes) in [("before", 1), ("large", TOO_LARGE), ("after", 1)] {
            let send = outbox.send(queue.clone(), &vec![7; bytes]).id(id).key("k");
            send.await.expect("put in");
        }
        let (relay, mut heard) = heard(outbox.relay(&wilco));
        let relay = Working::start(relay);
        let told = heard.ids(3).await;
        assert!(processed(&told["before"]) && processed(&told["after"]), "{told:?}");
        let error = told["large"].outcome.as_ref().expect_err("it is too large");
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        let state = outbox.state(queue, "large").await.expect("asked");
        assert!(matches!(state, OutboxState::Refused(_)), "{state:?}");
        let report = relay.stop().await;
        assert_eq!((report.handed_over, report.refused, report.told), (2, 1, 3));
        worker.abort();
    });
}
