//! Orders of records that a crash may leave, written by hand: in a running node they occur only
//! when threads race.

use crate::options::StoreOptions;
use std::collections::HashMap;

use amqp::{OwnedProperties, Properties};
use broker::queue::{Attempt, Restored};
use broker::{Message, QueueId};
use segment_log::{Batch, FaultyDisk, Log, Options};

use super::recover;
use crate::definitions::{Change, DefinitionStore, StoredQueue};
use crate::store::records::{
    MessageRecord, Moved, append_attempts, append_message, append_moved, append_settled,
};

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

/// A log under construction.
struct Writer(Batch);

impl Writer {
    fn message(&mut self, queues: &[QueueId]) -> u64 {
        self.message_of(queues, Some(2))
    }

    fn message_of(&mut self, queues: &[QueueId], delivery_mode: Option<u8>) -> u64 {
        let mut encoded = Vec::new();
        OwnedProperties { delivery_mode, ..OwnedProperties::default() }.encode(&mut encoded);
        let parsed = Properties::decode(&encoded).expect("just encoded");
        let content = ("", "q", encoded.as_slice(), &b"body"[..]);
        let message = Message::new(0, &parsed, content, &mut Vec::new());
        append_message(&mut self.0, queues.iter().copied(), &message)
    }

    /// The message at `from`, moved for these queues.
    fn moved(&mut self, queues: &[QueueId], from: u64, origin: u64) -> u64 {
        let payload = self.0.read(from).expect("a record").payload.to_vec();
        let flags = self.0.read(from).expect("a record").flags;
        let record = segment_log::RecordRef { position: from, kind: 1, flags, payload: &payload };
        let old = MessageRecord::parse(&record).expect("a message");
        append_moved(&mut self.0, queues.iter().copied(), Moved { from, origin }, &old)
    }

    fn settled(&mut self, queue: QueueId, position: u64) {
        let (reason, positions) = (1, std::iter::once(position));
        append_settled(&mut self.0, queue, reason, positions, &mut Vec::new());
    }

    fn attempts(&mut self, queue: QueueId, position: u64, count: u16) {
        append_attempts(&mut self.0, queue, &[Attempt { position, count }]);
    }
}

/// What a start makes of a log.
fn recovered(write: impl FnOnce(&mut Writer)) -> HashMap<QueueId, Vec<Restored>> {
    let disk = FaultyDisk::new(1);
    let definitions = DefinitionStore::open_on_disk(&disk, "definitions.redb").expect("new");
    let queue = |id: QueueId| Change::QueuePut {
        vhost: "/".to_owned(),
        queue: StoredQueue {
            id: id.0,
            name: format!("q{}", id.0),
            durable: true,
            auto_delete: false,
            exclusive: false,
            arguments: Vec::new(),
        },
    };
    definitions.apply(&[queue(Q), queue(OTHER)], 0).expect("a disk that works");
    let options = Options { segment_bytes_max: 1 << 20, ..Options::default() };
    let (mut log, _) = Log::open(disk.clone(), options, &mut |_| ()).expect("new");
    // Positions before that are gone.
    let mut gone = Batch::new(log.next_position());
    gone.append(9, 0, &[&[0; 500]]);
    log.write(&gone).and_then(|()| log.roll()).expect("a disk that works");
    let first = log.segments()[0].base;
    log.delete_segment(first).expect("not the active one");
    let mut writer = Writer(Batch::new(log.next_position()));
    write(&mut writer);
    log.write(&writer.0).and_then(|()| log.sync()).expect("a disk that works");
    drop(log);
    let options = StoreOptions { segment_bytes_max: 1 << 20, ..StoreOptions::default() };
    recover(disk, definitions, &options, 0).expect("a good log").queues
}

fn positions(queues: &HashMap<QueueId, Vec<Restored>>, queue: QueueId) -> Vec<u64> {
    queues.get(&queue).into_iter().flatten().map(|restored| restored.position).collect()
}

#[test]
fn a_settlement_of_the_old_position_finds_the_moved_message() {
    let queues = recovered(|log| {
        let old = log.message(&[Q]);
        log.moved(&[Q], old, old);
        log.settled(Q, old);
    });
    assert_eq!(positions(&queues, Q), [0; 0]);
}

#[test]
fn a_message_that_was_settled_before_it_was_moved_stays_settled() {
    let queues = recovered(|log| {
        let old = log.message(&[Q, OTHER]);
        log.settled(Q, old);
        // The crash comes before the settlement is repeated for the new position.
        log.moved(&[Q, OTHER], old, old);
    });
    assert_eq!(positions(&queues, Q), [0; 0]);
    assert_eq!(positions(&queues, OTHER).len(), 1);
}

#[test]
fn a_moved_message_lives_when_its_old_segment_is_gone() {
    let mut new = 0;
    let queues = recovered(|log| {
        let template = log.message(&[OTHER]);
        let payload = log.0.read(template).expect("a record").payload.to_vec();
        let record =
            segment_log::RecordRef { position: template, kind: 1, flags: 0, payload: &payload };
        let old = MessageRecord::parse(&record).expect("a message");
        new = append_moved(&mut log.0, [Q].into_iter(), Moved { from: 7, origin: 7 }, &old);
    });
    assert_eq!(positions(&queues, Q), [new]);
}

#[test]
fn a_moved_message_keeps_its_place() {
    let mut expected = Vec::new();
    let queues = recovered(|log| {
        let (a, b, c) = (log.message(&[Q]), log.message(&[Q]), log.message(&[Q]));
        let moved_b = log.moved(&[Q], b, b);
        let moved_a = log.moved(&[Q], a, a);
        let moved_again = log.moved(&[Q], moved_b, b);
        let last = log.message(&[Q]);
        expected = vec![moved_a, moved_again, c, last];
    });
    assert_eq!(positions(&queues, Q), expected);
}

#[test]
fn attempts_are_the_highest_that_were_counted_wherever_the_message_was() {
    let queues = recovered(|log| {
        let old = log.message(&[Q]);
        log.attempts(Q, old, 3);
        let new = log.moved(&[Q], old, old);
        log.attempts(Q, new, 5);
        log.attempts(Q, old, 4);
    });
    assert_eq!(queues[&Q][0].attempts, 5);
    let queues = recovered(|log| {
        let old = log.message(&[Q]);
        log.attempts(Q, old, 3);
        log.moved(&[Q], old, old);
    });
    assert_eq!(queues[&Q][0].attempts, 3);
}

#[test]
fn a_message_moves_for_those_who_have_it() {
    let mut new = 0;
    let queues = recovered(|log| {
        let old = log.message(&[Q, OTHER]);
        log.settled(Q, old);
        new = log.moved(&[OTHER], old, old);
    });
    assert_eq!(positions(&queues, Q), [0; 0]);
    assert_eq!(positions(&queues, OTHER), [new]);
}

#[test]
fn transient_messages_are_forgotten() {
    let queues = recovered(|log| {
        let old = log.message_of(&[Q], None);
        log.moved(&[Q], old, old);
    });
    assert_eq!(positions(&queues, Q), [0; 0]);
}
