//! Reads all queues after a restart.

use crate::{
    QUEUES,
    model::{Id, Model},
};
use end_to_end::{
    Broker, Random,
    raw::{Args, Raw},
};
use std::collections::BTreeMap;

/// The topology, once.
pub(crate) fn declare(raw: &mut Raw) {
    for queue in QUEUES {
        raw.declare(1, queue);
    }
    // A publish to this queue only shows that everything before it is durable.
    let short = Args::new().short("x-max-length").u8(b'I').u32(1);
    let scratch = Args::new().u16(0).short("scratch").u8(0b10).table(&short);
    raw.method(1, 50, 10, &scratch);
    raw.expect(50, 11);
    let table = Args::new();
    let fan = Args::new().u16(0).short("fan").short("fanout").u8(0b10).table(&table);
    raw.method(1, 40, 10, &fan);
    raw.expect(40, 11);
    for queue in ["fan-1", "fan-2"] {
        let bind = Args::new().u16(0).short(queue).short("fan").short("").u8(0).table(&table);
        raw.method(1, 50, 20, &bind);
        raw.expect(50, 21);
    }
}

/// Reads all queues, checks them, and leaves some unchanged, some shorter and some empty.
pub(crate) fn check(broker: &Broker, model: &mut Model, random: &mut Random) -> Result<(), String> {
    let mut found = BTreeMap::new();
    let mut readers = Vec::new();
    for queue in QUEUES {
        let mut raw = broker.raw();
        let count = count(&mut raw, queue);
        let ids = read(&mut raw, queue, count)?;
        found.insert(queue, ids);
        readers.push((queue, raw));
    }
    model.check(&found)?;
    for (queue, mut raw) in readers {
        let count = found[queue].len() as u64;
        let settled = match random.below(10) {
            0..6 => count,
            6..8 if count > 0 => random.below(count),
            _ => 0,
        };
        if settled > 0 {
            raw.ack(1, settled, true);
            // Confirmed after the ack, so the ack is durable.
            raw.confirm_select(1);
            raw.publish_confirmed(1, "scratch", b"");
            model.settled(queue, &found[queue][..settled as usize]);
        }
        // Closing the channel waits until what is unsettled is ready again.
        raw.method(1, 20, 40, &Args::new().u16(200).short("").u16(0).u16(0));
        raw.expect(20, 41);
    }
    Ok(())
}

fn count(raw: &mut Raw, queue: &str) -> u32 {
    let passive = Args::new().u16(0).short(queue).u8(1).table(&Args::new());
    raw.method(1, 50, 10, &passive);
    let answer = raw.expect(50, 11);
    let mut fields = answer.fields();
    fields.short();
    fields.u32()
}

fn read(raw: &mut Raw, queue: &str, count: u32) -> Result<Vec<Id>, String> {
    raw.consume(1, queue);
    let mut ids = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let body = raw.delivery();
        let id = Id::parse(&body).ok_or_else(|| format!("{queue}: not a body of ours: {body:?}"));
        ids.push(id?);
    }
    Ok(ids)
}
