//! Pages: whatever goes in comes out again, and takes little room.

use std::borrow::Cow;

use outcome::{
    Cursor, Details, Event, Flags, IdHash, Outcome, Published, PublishedQueue, Reason, Settled,
    Verdict, What,
};
use proptest::prelude::*;

use bstr::{BStr, BString};

use super::*;

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![
        "[a-c]{0,2}".prop_map(Cow::from),
        Just(Cow::from("0190b3f4-8d2a-7c11-9e55-0242ac120002")),
        Just(Cow::from("long".repeat(100))),
    ]
}

/// What clients wrote, mostly UTF-8.
fn any_bytes() -> impl Strategy<Value = Cow<'static, BStr>> {
    let odd = prop::collection::vec(any::<u8>(), 0..300).prop_map(BString::from);
    let texts = text().prop_map(|text| BString::from(&*text));
    prop_oneof![3 => texts, 1 => odd].prop_map(Cow::Owned)
}

fn bytes() -> impl Strategy<Value = Option<Cow<'static, [u8]>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Cow::from))
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, Just(1_700_000_000_000), any::<u64>()]
}

fn what() -> impl Strategy<Value = (IdHash, What<'static>)> {
    let queue = (any::<u32>(), text()).prop_map(|(id, name)| PublishedQueue { id, name });
    let published = (
        (text(), any_bytes(), text(), any_bytes()),
        prop::collection::vec(queue, 0..3),
        (number(), any::<u32>(), number(), any::<bool>(), any::<bool>()),
        any::<bool>(),
    )
        .prop_map(|((vhost, id, exchange, routing_key), queues, numbers, is_hashed)| {
            let (position, body_bytes, deadline_at_ms, is_copy, is_deduplicated) = numbers;
            let hash = if is_hashed { IdHash::new(&vhost, &*id) } else { IdHash(3) };
            let published = Published {
                vhost,
                id,
                exchange,
                routing_key,
                queues,
                position,
                body_bytes,
                deadline_at_ms,
                is_copy,
                is_deduplicated,
            };
            (hash, What::Published(published))
        });
    let settled = (
        (text(), any_bytes(), text(), text()),
        (0..6_usize, 0..12_u8, 0..3_u16, any::<u16>(), number()),
        (prop::option::of(any_bytes()), prop::option::of(any_bytes()), prop::option::of(text())),
        (bytes(), bytes()),
        any::<u8>(),
    )
        .prop_map(|(texts, numbers, options, (result, message), bits)| {
            let (vhost, message_id, queue, worker) = texts;
            let (outcome, reason, attempts, queue_count, published_at_ms) = numbers;
            let (error, content_type, dead_letter_exchange) = options;
            let verdict = Verdict {
                outcome: Outcome::ALL[outcome],
                reason: Reason::from_number(reason),
                attempts,
                queue_count,
                published_at_ms,
                flags: Flags::from_kept_bits(bits),
            };
            let details =
                Details { message_id, worker, error, content_type, result, dead_letter_exchange };
            let settled = Settled { vhost, queue, verdict, details, message };
            let hash = IdHash::new(&settled.vhost, &*settled.details.message_id);
            (hash, What::Settled(Box::new(settled)))
        });
    let other = (text(), text(), any::<u16>(), number(), 0..5).prop_map(
        |(queue, worker, attempt, number, kind)| match kind {
            0 => What::Delivered { queue, worker, attempt: attempt % 3 },
            1 => What::Requeued { queue, attempt, retry_at_ms: number },
            2 => What::Received { queue },
            3 => What::Progress { queue, permille: attempt, text: worker },
            _ => What::Moved { position: number },
        },
    );
    let hash = prop_oneof![
        (0..5_u128).prop_map(IdHash),
        (text(), any_bytes()).prop_map(|(vhost, id)| IdHash::new(&vhost, &*id)),
    ];
    prop_oneof![published, settled, (hash, other)]
}

fn events() -> impl Strategy<Value = Vec<Event<'static>>> {
    let step = (prop_oneof![Just(0), 1..3_u64, any::<u64>()], 0..3_u32, number());
    prop::collection::vec((step, what()), 1..60).prop_map(|steps| {
        let mut at = Cursor::default();
        let mut events = Vec::new();
        for ((position, nth, time_ms), (id, what)) in steps {
            let next = match at.position.checked_add(position) {
                Some(position) if position > at.position => Cursor { position, nth },
                _ => Cursor { position: at.position, nth: at.nth + nth + 1 },
            };
            at = next;
            events.push(Event { at, id, time_ms, what });
        }
        events
    })
}

proptest! {
    #[test]
    fn a_page_holds_what_was_put_into_it(events in events()) {
        let mut writer = PageWriter::new();
        for _ in 0..2 {
            writer.clear();
            for event in &events {
                writer.append(event);
            }
            let bytes = writer.assemble();
            prop_assert_eq!(bytes.len(), writer.len_bytes());
            let (summary, ..) = Summary::decode(&bytes).unwrap();
            prop_assert_eq!(&summary, writer.summary());
            prop_assert_eq!(summary.first, events[0].at);
            prop_assert_eq!(Some(summary.last), events.last().map(|event| event.at));
            let page = Page::parse(&bytes).unwrap();
            let read: Vec<_> = page.events().map(|event| page.event(&event)).collect();
            prop_assert_eq!(&read, &events);
        }
    }

    #[test]
    fn a_damaged_page_is_read_without_panic(
        events in events(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut writer = PageWriter::new();
        for event in &events {
            writer.append(event);
        }
        let mut bytes = writer.assemble();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Some(page) = Page::parse(bytes) {
                page.events().for_each(|event| drop(page.event(&event)));
            }
        }
    }
}

#[test]
fn a_message_and_all_that_happens_to_it_take_sixty_bytes() {
    let mut writer = PageWriter::new();
    let count = 1000;
    for n in 0..count {
        let random = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let hex = format!("{random:032x}");
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let hash = IdHash::new("/", &id);
        let (position, time_ms) = (n * 2000, 1_700_000_000_000 + n);
        let mut event = |offset: u64, what| {
            let at = Cursor { position: position + offset, nth: 0 };
            writer.append(&Event { at, id: hash, time_ms: time_ms + offset / 100, what });
        };
        let name = Cow::from("orders");
        event(
            0,
            What::Published(Published {
                vhost: "/".into(),
                id: BStr::new(id.as_str()).into(),
                routing_key: BStr::new(&*name).to_owned().into(),
                queues: vec![PublishedQueue { id: 3, name: name.clone() }],
                position,
                body_bytes: 900,
                is_deduplicated: true,
                ..Published::default()
            }),
        );
        let (queue, worker) = (name.clone(), "10.0.0.7:4711 (1)".into());
        event(950, What::Delivered { queue, worker, attempt: 1 });
        event(
            1050,
            What::Settled(Box::new(Settled {
                vhost: "/".into(),
                queue: name.clone(),
                verdict: Verdict {
                    outcome: Outcome::Processed,
                    reason: Some(Reason::Acked),
                    attempts: 1,
                    queue_count: 1,
                    published_at_ms: time_ms,
                    flags: Flags::NOTIFIED,
                },
                details: Details {
                    message_id: BStr::new(id.as_str()).into(),
                    worker: "10.0.0.7:4711 (1)".into(),
                    ..Details::default()
                },
                message: None,
            })),
        );
        event(1100, What::Received { queue: name });
    }
    let bytes = writer.len_bytes() as f64 / count as f64;
    assert!(bytes <= 60.0, "{bytes}");
}
