//! Files that version 1 wrote must stay readable forever.

use std::borrow::Cow;

use outcome::{Cursor, Event, Flags, Outcome, What};
use segment_log::{Disk, FaultyDisk};

use super::support::{Model, hash, published, settled, tiny};
use crate::{Ledger, Options};

/// Written by version 1.
const FILES: [(&str, &[u8]); 7] = [
    ("00000000000000000000.log", include_bytes!("../../tests/data/v1/00000000000000000000.log")),
    ("00000000000000003427.log", include_bytes!("../../tests/data/v1/00000000000000003427.log")),
    ("index-0000000000.run", include_bytes!("../../tests/data/v1/index-0000000000.run")),
    ("index-0000000002.run", include_bytes!("../../tests/data/v1/index-0000000002.run")),
    ("manifest", include_bytes!("../../tests/data/v1/manifest")),
    ("window-0000000001.run", include_bytes!("../../tests/data/v1/window-0000000001.run")),
    ("window-0000000003.run", include_bytes!("../../tests/data/v1/window-0000000003.run")),
];

/// What was appended then: every kind of event, with every field set.
fn contents() -> Vec<Event<'static>> {
    let mut events = Vec::new();
    for n in 0..24 {
        let (position, time_ms) = (n * 100, 1_760_000_000_000 + n * 3);
        let mut add = |nth, what| {
            let at = Cursor { position: position + 50, nth };
            events.push(Event { at, id: hash(n), time_ms: time_ms + 1, what });
        };
        let text = |text: &'static str| Cow::from(text);
        add(0, What::Delivered { queue: text("orders"), worker: text("w"), attempt: 1 });
        add(2, What::Requeued { queue: text("orders"), attempt: 2, retry_at_ms: time_ms + 9 });
        add(3, What::Moved { position: position + 70 });
        add(4, What::Received { queue: text("orders") });
        let mut event = published(position, time_ms, n);
        if let What::Published(published) = &mut event.what {
            published.deadline_at_ms = (n % 2) * (time_ms + 1000);
            published.is_copy = n % 3 == 0;
        }
        let at = events.len() - 4;
        events.insert(at, event);
        let outcome = Outcome::ALL[n as usize % 6];
        let at = Cursor { position: position + 90, nth: 0 };
        let mut event = settled(at, time_ms + 2, n, outcome);
        if let What::Settled(settled) = &mut event.what
            && n % 2 == 1
        {
            let details = &mut settled.details;
            settled.verdict.attempts = 3;
            details.error = Some(bstr::BStr::new("no such order").into());
            details.content_type = Some(bstr::BStr::new("text/plain").into());
            details.result = Some(vec![1, 2, 3].into());
            details.dead_letter_exchange = Some(text("dead"));
            settled.message = Some(vec![4; 20].into());
            settled.verdict.flags = Flags::NONE
                .with_if(n % 4 == 1, Flags::UNVERIFIED)
                .with_if(n % 4 == 3, Flags::LATE)
                .with_if(n % 3 == 0, Flags::COPY)
                .with_if(n % 3 == 1, Flags::NOTIFIED);
        }
        events.push(event);
    }
    events
}

fn open(disk: &FaultyDisk) -> Ledger {
    Ledger::open_sized(disk.clone(), Options::default(), tiny()).unwrap()
}

#[test]
fn what_version_1_wrote_is_read_and_only_the_window_is_made_anew() {
    let disk = FaultyDisk::new(1);
    FILES.iter().for_each(|(name, contents)| disk.put(name, contents));
    let ledger = open(&disk);
    let model = Model { events: contents(), applied: 2400 };
    assert_eq!(ledger.applied(), model.applied);
    model.check(&ledger);
    // Its window had only times; what the pages know is in the new one.
    let is_kept = |name: &str| name.ends_with(".log") || name.starts_with("index");
    for (name, contents) in FILES.iter().filter(|(name, _)| is_kept(name)) {
        assert_eq!(disk.contents(name).as_deref(), Some(*contents), "{name}");
    }
}

/// Writes the files to `tests/data/v1`; to be run only for a new version, into a directory of its
/// own.
#[test]
#[ignore = "writes the files that the other test reads"]
fn write_the_files_of_this_version() {
    let disk = FaultyDisk::new(1);
    let ledger = open(&disk);
    for (n, event) in (1..).zip(contents()) {
        ledger.append(&event);
        if n % 18 == 0 {
            ledger.flush(n / 6 * 100, event.time_ms).unwrap();
        }
    }
    drop(ledger);
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1");
    std::fs::create_dir_all(&directory).unwrap();
    for name in disk.list().unwrap() {
        std::fs::write(directory.join(&name), disk.contents(&name).unwrap()).unwrap();
    }
}
