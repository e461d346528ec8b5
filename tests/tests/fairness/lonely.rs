//! One message in a queue of its own, next to queues that always have more.

use crate::{cancel_and_delete, consume, delivery, fill, qos};
use end_to_end::{Broker, shared, unique};
use std::time::Duration;

/// Messages in all busy queues together.
const BACKLOG: usize = 40_000;

/// A lonely message must come before this many others.
const OTHERS_MAX: u32 = 5_000;

/// A client that consumes from busy queues and a lonely one.
struct Reader {
    what: &'static str,
    busy_queues: usize,
    channels: u16,
    no_ack: bool,
    is_slow: bool,
}

const READER: Reader = Reader {
    what: "two channels, no acknowledgements",
    busy_queues: 1,
    channels: 2,
    no_ack: true,
    is_slow: false,
};

const READERS: [Reader; 5] = [
    READER,
    Reader { what: "one channel", channels: 1, ..READER },
    Reader { what: "acknowledgements, a large prefetch", no_ack: false, ..READER },
    Reader { what: "ten busy queues", busy_queues: 10, ..READER },
    Reader { what: "reads slowly", is_slow: true, ..READER },
];

/// How many others came before the lonely message; stops a little above the limit.
fn others_before_the_lonely(broker: &Broker, reader: &Reader) -> u32 {
    let busy: Vec<_> = (0..reader.busy_queues).map(|_| unique("busy")).collect();
    let lonely = unique("lonely");
    for queue in &busy {
        fill(broker, queue, BACKLOG / reader.busy_queues, &[b'x'; 1024]);
    }
    fill(broker, &lonely, 1, b"lonely");

    let mut raw = broker.raw();
    if reader.channels == 2 {
        raw.open_channel(2);
    }
    if !reader.no_ack {
        (1..=reader.channels).for_each(|channel| qos(&mut raw, channel, 20_000, false));
    }
    let mut consumers = Vec::new();
    for (queue, number) in busy.iter().zip(0..) {
        consumers.extend(consume(1, queue, &format!("busy-{number}"), reader.no_ack));
    }
    consumers.extend(consume(reader.channels, &lonely, "lonely", reader.no_ack));
    // In one write: otherwise the busy ones may fill the socket before the lonely one is asked for.
    raw.send(&consumers);
    let mut others = 0;
    while others <= OTHERS_MAX && delivery(&mut raw).0 != "lonely" {
        others += 1;
        if reader.is_slow && others % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    drop(raw);
    cancel_and_delete(broker, &[busy, vec![lonely]].concat());
    others
}

#[test]
fn lonely_message_does_not_wait_for_the_end_of_a_backlog() {
    let broker = shared();
    let mut wrong = Vec::new();
    for reader in &READERS {
        let others = others_before_the_lonely(&broker, reader);
        if others >= OTHERS_MAX {
            wrong.push(format!("{}: {others} others and more came first", reader.what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
