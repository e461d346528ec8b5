//! Every way in which a message can leave a queue: exactly one outcome each, in one queue and in a
//! fan-out.
//!
//! Messages without a queue, and ways that need more than one queue, are in `special_ways`.

use crate::{
    case::{Case, short},
    wilco,
};
use end_to_end::{Broker, client::block, int, table, text};
use lapin::{
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};

/// One way to leave a queue.
struct Way {
    how: &'static str,
    declared: Declared,
    arguments: fn() -> FieldTable,
    /// Publishes the message and makes it leave the queue.
    leave: fn(&Case<'_>),
    /// What the producer is told, in short form; more than one only where a late ack turns the
    /// first.
    told: &'static [&'static str],
}

/// How the queue is declared.
#[derive(PartialEq)]
enum Declared {
    Durable,
    AutoDelete,
    /// By somebody who disconnects as soon as `leave` has returned.
    Exclusive,
}

fn way(how: &'static str, leave: fn(&Case<'_>), told: &'static [&'static str]) -> Way {
    Way { how, declared: Declared::Durable, arguments: FieldTable::default, leave, told }
}

impl Way {
    fn with(self, arguments: fn() -> FieldTable) -> Way {
        Way { arguments, ..self }
    }

    fn declared(self, declared: Declared) -> Way {
        Way { declared, ..self }
    }

    /// Makes the message leave this way and checks what is told.
    fn check(&self, broker: &Broker, is_fan_out: bool) {
        eprintln!("{}{}", self.how, if is_fan_out { ", fan-out of three" } else { "" });
        let owner = (self.declared == Declared::Exclusive).then(|| broker.client());
        let options = match self.declared {
            Declared::Durable => QueueDeclareOptions::durable(),
            Declared::AutoDelete => QueueDeclareOptions::default().auto_delete(),
            Declared::Exclusive => QueueDeclareOptions::exclusive(),
        };
        let case = Case::declared(broker, owner.as_ref(), options, (self.arguments)());
        let case = if is_fan_out { case.fan_out() } else { case };
        (self.leave)(&case);
        if let Some(owner) = owner {
            owner.close();
        }

        let queue_count = if is_fan_out { 3 } else { 1 };
        let told_count = self.told.len() + case.others.len();
        let told: Vec<_> = (0..told_count).map(|_| case.told()).collect();
        case.nothing_more();
        for told in &told {
            assert_eq!((told.message_id.as_str(), told.queue_count), (&*case.id, queue_count));
        }
        let of = |queue: &str| -> Vec<String> {
            told.iter().filter(|told| told.queue == queue).map(short).collect()
        };
        assert_eq!(of(&case.queue), self.told);
        for other in &case.others {
            assert_eq!(of(other), ["processed acked 1"]);
        }

        assert_eq!(case.listed(), self.told, "in the ledger");
        let message = broker.settled(&case.id);
        let last = self.told[self.told.len() - 1];
        assert_eq!(Some(message["outcome"].text()), last.split(' ').next(), "{message:?}");
        assert_eq!(message["queues"].elements().len(), queue_count as usize, "{message:?}");
    }
}

fn dead_lettering() -> FieldTable {
    table([("x-dead-letter-exchange", text("amq.direct"))])
}

fn limited(overflow: &str) -> FieldTable {
    table([("x-max-length", int(1)), ("x-overflow", text(overflow))])
}

fn purge(case: &Case<'_>) {
    let queue = case.queue.as_str().into();
    let purged = block(case.client.lapin().queue_purge(queue, Default::default()));
    assert_eq!(purged.expect("a purge"), 1);
}

fn settled_by_workers() -> Vec<Way> {
    vec![
        way(
            "ack",
            |case| {
                case.publish();
                case.client.ack(&case.get());
            },
            &["processed acked 1"],
        ),
        way(
            "ack of several",
            |case| {
                case.fill();
                case.publish();
                case.get();
                case.client.ack_up_to(&case.get());
            },
            &["processed acked 1"],
        ),
        way(
            "get without an ack",
            |case| {
                case.publish();
                case.client.take_soon(&case.queue);
            },
            &["processed auto-acked 1 unverified"],
        ),
        way(
            "consumer without acks",
            |case| {
                let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
                let consumer =
                    case.client.consume_with(&case.queue, options, FieldTable::default());
                case.publish();
                consumer.next();
                case.client.cancel(&consumer);
            },
            &["processed auto-acked 1 unverified"],
        ),
        way(
            "reject",
            |case| {
                case.publish();
                case.client.reject(&case.get(), false);
            },
            &["failed rejected 1"],
        ),
        way(
            "nack",
            |case| {
                case.publish();
                case.client.nack(&case.get(), false);
            },
            &["failed rejected 1"],
        ),
        way(
            "nack of several",
            |case| {
                case.fill();
                case.publish();
                case.get();
                case.client.nack_up_to(&case.get(), false);
            },
            &["failed rejected 1"],
        ),
        way(
            "reject, dead-lettered",
            |case| {
                case.publish();
                case.client.reject(&case.get(), false);
            },
            &["failed rejected 1 dead-lettered"],
        )
        .with(dead_lettering),
        way(
            "requeue, then ack",
            |case| {
                case.publish();
                case.client.nack(&case.get(), true);
                case.client.ack(&case.get());
            },
            &["processed acked 2"],
        ),
        way(
            "channel closed, then ack",
            |case| {
                case.publish();
                let worker = case.client.open();
                worker.get_soon(&case.queue);
                worker.close_channel();
                case.client.ack(&case.get());
            },
            &["processed acked 2"],
        ),
        way(
            "worker gone, then reject",
            |case| {
                case.publish();
                let worker = case.broker.client();
                worker.get_soon(&case.queue);
                worker.close();
                case.client.reject(&case.get(), false);
            },
            &["failed rejected 2"],
        ),
        way(
            "delivery limit",
            |case| {
                case.publish();
                case.client.nack(&case.get(), true);
                case.client.nack(&case.get(), true);
            },
            &["failed delivery-limit 2"],
        )
        .with(|| table([("x-delivery-limit", int(1))])),
        way(
            "delivery limit of a quorum queue, dead-lettered",
            |case| {
                case.publish();
                case.client.nack(&case.get(), true);
            },
            &["failed delivery-limit 1 dead-lettered"],
        )
        .with(|| {
            table([
                ("x-queue-type", text("quorum")),
                ("x-delivery-limit", int(0)),
                ("x-dead-letter-exchange", text("amq.direct")),
            ])
        }),
        way(
            "ack from a priority queue",
            |case| {
                case.fill();
                case.publish_with(case.asking([]).with_priority(3));
                case.client.ack(&case.get());
            },
            &["processed acked 1"],
        )
        .with(|| table([("x-max-priority", int(5))])),
        way(
            "ack by the single active consumer",
            |case| {
                let consumers = [(); 2].map(|()| case.client.consume(&case.queue));
                case.publish();
                let [active, waiting] = &consumers;
                let message = active.next();
                // What it gives up goes to the next consumer.
                case.client.cancel(active);
                case.client.nack(&message, true);
                case.client.ack(&waiting.next());
                case.client.cancel(waiting);
            },
            &["processed acked 2"],
        )
        .with(|| table([("x-single-active-consumer", true.into())])),
        way(
            "ack in a transaction",
            |case| {
                let channel = case.client.open();
                block(channel.lapin().tx_select()).expect("a transaction");
                channel.publish_with(&case.exchange, "", "work", case.asking([]));
                block(channel.lapin().tx_commit()).expect("a commit");
                case.others_ack();
                channel.ack(&channel.get_soon(&case.queue));
                block(channel.lapin().tx_commit()).expect("a commit");
                channel.close_channel();
            },
            &["processed acked 1"],
        ),
        way(
            "reject in a transaction, dead-lettered",
            |case| {
                case.publish();
                let channel = case.client.open();
                block(channel.lapin().tx_select()).expect("a transaction");
                channel.reject(&channel.get_soon(&case.queue), false);
                block(channel.lapin().tx_commit()).expect("a commit");
                channel.close_channel();
            },
            &["failed rejected 1 dead-lettered"],
        )
        .with(dead_lettering),
    ]
}

fn dropped_by_the_queue() -> Vec<Way> {
    vec![
        way(
            "too long, the oldest goes",
            |case| {
                case.publish();
                case.fill();
            },
            &["dropped max-length 0"],
        )
        .with(|| limited("drop-head")),
        way(
            "too long, the oldest goes, dead-lettered",
            |case| {
                case.publish();
                case.fill();
            },
            &["dropped max-length 0 dead-lettered"],
        )
        .with(|| table([("x-max-length", int(1)), ("x-dead-letter-exchange", text("amq.direct"))])),
        way(
            "too long, refused",
            |case| {
                case.fill();
                assert!(case.publish().is_nack());
            },
            &["dropped refused 0"],
        )
        .with(|| limited("reject-publish")),
        way(
            "too long, refused and dead-lettered",
            |case| {
                case.fill();
                assert!(case.publish().is_nack());
            },
            &["dropped refused 0 dead-lettered"],
        )
        .with(|| {
            table([
                ("x-max-length", int(1)),
                ("x-overflow", text("reject-publish-dlx")),
                ("x-dead-letter-exchange", text("amq.direct")),
            ])
        }),
        way(
            "purge",
            |case| {
                case.publish();
                purge(case);
            },
            &["dropped purged 0"],
        ),
        way(
            "purge after an attempt",
            |case| {
                case.publish();
                case.client.nack(&case.get(), true);
                case.client.await_ready(&case.queue, 1);
                purge(case);
            },
            &["dropped purged 1"],
        )
        .with(dead_lettering),
        way(
            "queue deleted",
            |case| {
                case.publish();
                case.client.delete(&case.queue);
            },
            &["dropped queue-deleted 0"],
        ),
        way(
            "queue deleted while a worker has it, whose ack comes too late",
            |case| {
                case.publish();
                let message = case.get();
                case.client.delete(&case.queue);
                case.client.ack(&message);
            },
            &["dropped queue-deleted 1"],
        ),
        way(
            "queue gone with its last consumer",
            |case| {
                let channel = case.client.open();
                channel.prefetch(1, false);
                let consumer = channel.consume(&case.queue);
                case.fill();
                consumer.next();
                case.publish();
                channel.cancel(&consumer);
            },
            &["dropped queue-deleted 0"],
        )
        .declared(Declared::AutoDelete),
        way(
            "queue gone with its owner",
            |case| {
                case.publish();
            },
            &["dropped queue-deleted 0"],
        )
        .declared(Declared::Exclusive),
        way(
            "cancelled by id",
            |case| {
                case.publish();
                let path = format!("/v1/messages/{}?queue={}", case.id, case.queue);
                let answer = case.broker.http("DELETE", &path);
                assert_eq!(answer.status, 204, "{:?}", answer.json);
            },
            &["dropped cancelled 0"],
        ),
    ]
}

/// The times are long enough for the other queues of a fan-out to be done first.
fn passed_by_time() -> Vec<Way> {
    vec![
        way("time to live of the message", expire_by_itself, &["expired ttl 0"]),
        way(
            "time to live of the message, dead-lettered",
            expire_by_itself,
            &["expired ttl 0 dead-lettered"],
        )
        .with(dead_lettering),
        way(
            "time to live of the queue",
            |case| {
                case.publish();
            },
            &["expired ttl 0"],
        )
        .with(|| table([("x-message-ttl", int(50))])),
        way(
            "time to live passed while a worker had it, given back",
            |case| {
                case.publish();
                let message = case.get();
                // At least the time to live, however slow the machine is.
                std::thread::sleep(std::time::Duration::from_millis(1000));
                case.client.nack(&message, true);
            },
            &["expired ttl 1"],
        )
        .with(|| table([("x-message-ttl", int(1000))])),
        way(
            "queue unused for too long",
            |case| {
                case.publish();
            },
            &["dropped queue-deleted 0"],
        )
        .with(|| table([("x-expires", int(1500))])),
        way(
            "deadline, then a late ack",
            |case| {
                miss_deadline(case);
                case.client.ack(&case.get());
            },
            &["deadline-missed deadline 0", "processed acked 1 late"],
        ),
        way(
            "deadline while a worker has it, then a late ack",
            |case| {
                case.publish_with(case.asking([("x-deadline", int(1500))]));
                let message = case.get();
                await_deadline(case);
                case.client.ack(&message);
            },
            &["deadline-missed deadline 1", "processed acked 1 late"],
        ),
        way(
            "deadline, then rejected",
            |case| {
                miss_deadline(case);
                case.client.reject(&case.get(), false);
            },
            &["deadline-missed deadline 0"],
        ),
        way(
            "deadline, then rejected and dead-lettered",
            |case| {
                miss_deadline(case);
                case.client.reject(&case.get(), false);
            },
            &["deadline-missed deadline 0"],
        )
        .with(dead_lettering),
        way(
            "deadline, then taken without an ack",
            |case| {
                miss_deadline(case);
                case.client.take_soon(&case.queue);
            },
            &["deadline-missed deadline 0", "processed auto-acked 1 unverified late"],
        ),
        way(
            "deadline, given back, then a late ack",
            |case| {
                miss_deadline(case);
                case.client.nack(&case.get(), true);
                case.client.ack(&case.get());
            },
            &["deadline-missed deadline 0", "processed acked 2 late"],
        ),
        way(
            "deadline, then given back too often",
            |case| {
                miss_deadline(case);
                case.client.nack(&case.get(), true);
            },
            &["deadline-missed deadline 0"],
        )
        .with(|| table([("x-delivery-limit", int(0))])),
        way(
            "deadline, then purged",
            |case| {
                miss_deadline(case);
                purge(case);
            },
            &["deadline-missed deadline 0"],
        ),
        way(
            "deadline, then the queue deleted",
            |case| {
                miss_deadline(case);
                case.client.delete(&case.queue);
            },
            &["deadline-missed deadline 0"],
        ),
        way(
            "taken back from a worker, then ack by another",
            |case| {
                case.publish();
                let slow = case.broker.client();
                slow.get_soon(&case.queue);
                case.client.ack(&case.get());
                slow.close();
            },
            &["processed acked 2"],
        )
        .with(|| table([("x-consumer-timeout", int(200))])),
    ]
}

fn expire_by_itself(case: &Case<'_>) {
    case.publish_with(case.asking([]).with_expiration("1500".into()));
}

fn miss_deadline(case: &Case<'_>) {
    case.publish_with(case.asking([("x-deadline", int(1500))]));
    await_deadline(case);
}

/// Waits for the outcome messages of all queues so far, and leaves them where they are.
fn await_deadline(case: &Case<'_>) {
    case.client.await_ready(&case.reply, 1 + case.others.len() as u32);
}

fn check_all(ways: &[Way]) {
    let Some(broker) = wilco() else { return };
    for way in ways {
        way.check(&broker, false);
        way.check(&broker, true);
    }
}

#[test]
fn what_workers_settle_has_exactly_one_outcome() {
    check_all(&settled_by_workers());
}

#[test]
fn what_queues_drop_has_exactly_one_outcome() {
    check_all(&dropped_by_the_queue());
}

#[test]
fn what_time_takes_has_exactly_one_outcome() {
    let Some(broker) = wilco() else { return };
    // They spend most of their time waiting, so they run together.
    std::thread::scope(|scope| {
        for way in passed_by_time() {
            let broker = &*broker;
            scope.spawn(move || {
                way.check(broker, false);
                way.check(broker, true);
            });
        }
    });
}
