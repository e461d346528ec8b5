//! Known byte sequences, round trips, and input that is truncated or arbitrary.

use bstr::{BStr, BString, ByteSlice};
use proptest::prelude::*;
use std::cell::Cell;

use crate::*;

/// Deterministic field values for [`Method::samples`], drawn from a seed.
pub(crate) struct Source {
    state: Cell<u64>,
    table: FieldTable,
}

impl Source {
    fn new(seed: u64, table: FieldTable) -> Self {
        Self { state: Cell::new(seed | 1), table }
    }

    pub(crate) fn longlong(&self) -> u64 {
        let mut x = self.state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.state.set(x);
        x
    }

    pub(crate) fn bit(&self) -> bool {
        self.longlong() & 4 != 0
    }

    pub(crate) fn octet(&self) -> u8 {
        self.longlong() as u8
    }

    pub(crate) fn short(&self) -> u16 {
        self.longlong() as u16
    }

    pub(crate) fn long(&self) -> u32 {
        self.longlong() as u32
    }

    pub(crate) fn shortstr(&self) -> &'static str {
        const TEXTS: [&str; 5] =
            ["", "amq.topic", "Grüße, 世界", "a.b.#.*", include_str!("tests/longest_name.txt")];
        TEXTS[self.octet() as usize % TEXTS.len()]
    }

    pub(crate) fn shortbytes(&self) -> &'static BStr {
        const BYTES: [&[u8]; 2] = [b"\xFF\xFE a.b", &[0xFF; 255]];
        match self.bit() {
            true => self.shortstr().into(),
            false => BYTES[self.octet() as usize % BYTES.len()].as_bstr(),
        }
    }

    pub(crate) fn longstr(&self) -> &'static [u8] {
        const BYTES: [&[u8]; 3] = [b"", b"\0guest\0guest", &[0xFF; 300]];
        BYTES[self.octet() as usize % BYTES.len()]
    }

    pub(crate) fn table(&self) -> FieldTable {
        self.table.clone()
    }
}

fn value() -> impl Strategy<Value = FieldValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i8>().prop_map(FieldValue::I8),
        any::<u8>().prop_map(FieldValue::U8),
        any::<i16>().prop_map(FieldValue::I16),
        any::<u16>().prop_map(FieldValue::U16),
        any::<i32>().prop_map(FieldValue::I32),
        any::<u32>().prop_map(FieldValue::U32),
        any::<i64>().prop_map(FieldValue::I64),
        any::<f32>().prop_map(FieldValue::F32),
        any::<f64>().prop_map(FieldValue::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(FieldValue::LongString),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(FieldValue::Bytes),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(FieldValue::Array),
            prop::collection::vec((prop::collection::vec(any::<u8>(), 0..12), inner), 0..4)
                .prop_map(|entries| FieldValue::Table(entries.into_iter().collect())),
        ]
    })
}

fn table() -> impl Strategy<Value = FieldTable> {
    prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), value()), 0..6)
        .prop_map(|entries| entries.into_iter().collect())
}

fn text() -> impl Strategy<Value = Option<BString>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(BString::from))
}

fn properties() -> impl Strategy<Value = OwnedProperties> {
    let texts = (text(), text(), text(), text(), text(), text(), text(), text(), text(), text());
    let rest =
        (prop::option::of(table()), any::<Option<u8>>(), any::<Option<u8>>(), any::<Option<u64>>());
    (texts, rest).prop_map(|(texts, (headers, delivery_mode, priority, timestamp))| {
        OwnedProperties {
            content_type: texts.0,
            content_encoding: texts.1,
            headers,
            delivery_mode,
            priority,
            correlation_id: texts.2,
            reply_to: texts.3,
            expiration: texts.4,
            message_id: texts.5,
            timestamp,
            kind: texts.6,
            user_id: texts.7,
            app_id: texts.8,
            cluster_id: texts.9,
        }
    })
}

/// The content of a table, as bytes.
fn content(table: &FieldTable) -> Vec<u8> {
    let mut out = Vec::new();
    table.encode_with_length(&mut out);
    out.split_off(4)
}

proptest! {
    #[test]
    fn every_method_survives_a_round_trip(seed: u64, table in table()) {
        let source = Source::new(seed, table);
        for method in Method::samples(&source) {
            let mut out = Vec::new();
            write_method(&mut out, 7, &method);
            let (frame, taken) = decode_frame(&out, 0).unwrap().unwrap();
            prop_assert_eq!((frame.kind, frame.channel, taken), (FrameKind::Method, 7, out.len()));
            // Compares debug texts, since a NaN in the table is not equal to itself.
            let decoded = Method::decode(frame.payload).unwrap();
            prop_assert_eq!(format!("{decoded:?}"), format!("{method:?}"));
            prop_assert_eq!(decoded.name(), method.name());
        }
    }

    #[test]
    fn a_method_cut_short_or_too_long_is_refused(seed: u64, table in table()) {
        let source = Source::new(seed, table);
        for method in Method::samples(&source) {
            let mut out = Vec::new();
            method.encode(&mut out);
            for end in 0..out.len() {
                prop_assert!(Method::decode(&out[..end]).is_err());
            }
            out.push(0);
            prop_assert_eq!(Method::decode(&out), Err(DecodeError::TrailingBytes));
        }
    }

    #[test]
    fn tables_survive_a_round_trip(table in table()) {
        let bytes = content(&table);
        let decoded = FieldTable::decode(&bytes).unwrap();
        prop_assert_eq!(format!("{decoded:?}"), format!("{table:?}"));
        prop_assert_eq!(content(&decoded), bytes);
    }

    #[test]
    fn properties_survive_a_round_trip(properties in properties()) {
        let mut out = Vec::new();
        properties.encode(&mut out);
        let borrowed = Properties::decode(&out).unwrap();
        let mut again = Vec::new();
        borrowed.encode(&mut again);
        prop_assert_eq!(&again, &out);
        let owned = OwnedProperties::try_from(&borrowed).unwrap();
        prop_assert_eq!(format!("{owned:?}"), format!("{properties:?}"));
        for end in 0..out.len() {
            prop_assert!(Properties::decode(&out[..end]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), max: u32) {
        let _ = decode_frame(&bytes, max);
        let _ = Method::decode(&bytes);
        let _ = decode_content_header(&bytes);
        let _ = Properties::decode(&bytes);
        let _ = FieldTable::decode(&bytes);
    }

    #[test]
    fn a_body_is_cut_into_frames_and_comes_back(
        body in prop::collection::vec(any::<u8>(), 0..20_000),
        frame_max in prop_oneof![Just(0u32), 4096u32..9000],
    ) {
        let mut out = Vec::new();
        let method = BasicDeliver {
            consumer_tag: "tag",
            delivery_tag: 9,
            redelivered: true,
            exchange: "ex",
            routing_key: "key".into(),
        };
        let delivery = Delivery { method: method.clone(), properties: &[0x10, 0, 2], body: &body };
        write_deliver(&mut out, 3, &delivery, frame_max);
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some((frame, taken)) = decode_frame(&out[at..], frame_max).unwrap() {
            prop_assert!(frame_max == 0 || taken <= frame_max as usize);
            prop_assert_eq!(frame.channel, 3);
            frames.push(frame);
            at += taken;
        }
        prop_assert_eq!(at, out.len());
        prop_assert_eq!(Method::decode(frames[0].payload).unwrap(), Method::BasicDeliver(method));
        let header = decode_content_header(frames[1].payload).unwrap();
        prop_assert_eq!((header.class_id, header.body_size), (CLASS_BASIC, body.len() as u64));
        prop_assert_eq!(Properties::decode(header.properties).unwrap().delivery_mode, Some(2));
        let joined: Vec<u8> = frames[2..].iter().flat_map(|frame| frame.payload).copied().collect();
        prop_assert_eq!(joined, body);
    }
}

/// A method, and its frame on channel 1 in hex.
#[test]
fn methods_have_the_bytes_of_the_specification() {
    let check = |method: Method<'_>, hex: &str| {
        let bytes: Vec<u8> = hex
            .split_whitespace()
            .flat_map(|word| (0..word.len()).step_by(2).map(move |at| &word[at..at + 2]))
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect();
        let mut out = Vec::new();
        write_method(&mut out, 1, &method);
        assert_eq!(out, bytes, "{}", method.name());
        let (frame, _) = decode_frame(&bytes, 131_072).unwrap().unwrap();
        assert_eq!(Method::decode(frame.payload).unwrap(), method);
    };
    check(
        BasicPublish {
            exchange: "".into(),
            routing_key: "hello".into(),
            mandatory: true,
            immediate: false,
        }
        .into(),
        "01 0001 0000000e 003c 0028 0000 00 05 68656c6c6f 01 ce",
    );
    check(
        BasicAck { delivery_tag: 258, multiple: true }.into(),
        "01 0001 0000000d 003c 0050 0000000000000102 01 ce",
    );
    check(
        BasicNack { delivery_tag: 1, multiple: false, requeue: true }.into(),
        "01 0001 0000000d 003c 0078 0000000000000001 02 ce",
    );
    check(
        QueueDeclare {
            queue: "q",
            durable: true,
            no_wait: true,
            arguments: [("x-max-length", 5i32)].into_iter().collect(),
            ..Default::default()
        }
        .into(),
        "01 0001 0000001f 0032 000a 0000 01 71 12 00000012 0c 782d6d61782d6c656e677468 49 00000005 ce",
    );
    check(
        ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }.into(),
        "01 0001 0000000c 000a 001e 07ff 00020000 003c ce",
    );
    check(ConnectionOpen { virtual_host: "/" }.into(), "01 0001 00000008 000a 0028 01 2f 00 00 ce");
    check(ChannelOpen {}.into(), "01 0001 00000005 0014 000a 00 ce");
    check(ChannelOpenOk {}.into(), "01 0001 00000008 0014 000b 00000000 ce");
    check(ExchangeUnbindOk {}.into(), "01 0001 00000004 0028 0033 ce");
}

#[test]
fn a_frame_is_incomplete_until_its_end_octet() {
    let mut out = Vec::new();
    write_content_header(&mut out, 2, 11, &[0, 0]);
    for end in 0..out.len() {
        assert_eq!(decode_frame(&out[..end], 4096), Ok(None));
    }
    let last = out.len() - 1;
    out[last] = 0;
    assert_eq!(decode_frame(&out, 4096), Err(DecodeError::NoFrameEnd(0)));
}

#[test]
fn bad_frames_are_refused_before_their_payload_comes() {
    assert_eq!(decode_frame(b"GET / HTTP", 0), Err(DecodeError::UnknownFrameType(b'G')));
    assert_eq!(decode_frame(b"A", 0), Err(DecodeError::UnknownFrameType(b'A')));
    let announced = [3, 0, 1, 0, 0, 0x10, 1];
    assert_eq!(
        decode_frame(&announced, 4096),
        Err(DecodeError::FrameTooLarge { size: 4097, max: 4088 })
    );
    assert_eq!(
        decode_frame(&[8, 0, 0, 0, 0, 0, 1, 1, 0xCE], 0),
        Err(DecodeError::HeartbeatNotEmpty)
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut table = FieldTable::new();
        for _ in 0..depth {
            table = [("t", FieldValue::from(table))].into_iter().collect();
        }
        content(&table)
    };
    assert!(FieldTable::decode(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(FieldTable::decode(&nested(MAX_DEPTH + 1)), Err(DecodeError::TooDeep));
    assert_eq!(FieldTable::decode(&nested(5000)), Err(DecodeError::TooDeep));
}

#[test]
fn table_types_other_clients_send_are_read() {
    let table = TableRef::new(b"\x01aU\xFF\xFE\x01bL\0\0\0\0\0\0\0\x07\x01ct\x05\x01dV");
    let values: Vec<_> = table.iter().map(|entry| entry.unwrap().1).collect();
    assert_eq!(values, [ValueRef::I16(-2), ValueRef::I64(7), ValueRef::Bool(true), ValueRef::Void]);
    assert_eq!(table.get("b").unwrap().unwrap().as_i64(), Some(7));
    assert_eq!(table.get("e"), Ok(None));
    assert_eq!(TableRef::new(b"\x01az").get("a"), Err(DecodeError::BadFieldType(b'z')));
}

#[test]
fn tables_keep_their_order_and_replace_by_name() {
    let mut table: FieldTable = [("b", 1i64), ("a", 2)].into_iter().collect();
    table.insert("b", "text");
    table.push("c", true);
    let names: Vec<_> = table.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(table.get("b").and_then(FieldValue::as_str), Some("text"));
    assert_eq!(table.remove("a"), Some(FieldValue::I64(2)));
    assert_eq!(table.len(), 2);
    assert_eq!(FieldValue::from(u64::MAX).as_i64(), Some(i64::MAX));
}

#[test]
fn flags_beyond_the_last_property_are_refused_and_texts_are_taken_as_they_are() {
    assert_eq!(Properties::decode(&[0, 1]), Err(DecodeError::BadFlags(1)));
    assert_eq!(
        Properties::decode(&[0x80, 0, 1, 0xFF]).unwrap().content_type,
        Some([0xFF].as_bstr())
    );
}

#[test]
fn text_too_long_for_a_short_string_is_cut_at_a_character() {
    let reply_text = "é".repeat(200);
    let mut out = Vec::new();
    Method::from(ChannelClose {
        reply_code: 404,
        reply_text: &reply_text,
        class_id: 0,
        method_id: 0,
    })
    .encode(&mut out);
    match Method::decode(&out) {
        Ok(Method::ChannelClose(close)) => assert_eq!(close.reply_text, "é".repeat(127)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn levels_are_those_of_the_specification() {
    assert!(!ReplyCode::NotFound.closes_connection());
    assert!(!ReplyCode::PreconditionFailed.closes_connection());
    assert!(!ReplyCode::ContentTooLarge.closes_connection());
    assert!(ReplyCode::ConnectionForced.closes_connection());
    assert!(ReplyCode::InvalidPath.closes_connection());
    assert!(ReplyCode::UnexpectedFrame.closes_connection());
    assert_eq!(ReplyCode::NotFound.to_string(), "404 NOT_FOUND");
}

/// A table whose one entry holds this value, encoded.
fn headers_with(value: &[u8]) -> Vec<u8> {
    [b"\x03own\x53\0\0\0\x01v".as_slice(), b"\x01k", value].concat()
}

#[test]
fn headers_that_cannot_be_decoded_are_kept_as_they_came() {
    let mut deep = vec![b'V'];
    for _ in 0..200 {
        let content = [b"\x01a".as_slice(), &deep].concat();
        deep = [b"F".as_slice(), &(content.len() as u32).to_be_bytes(), &content].concat();
    }
    let cases: [&[u8]; 5] = [
        &deep,
        b"F\0\0\0\x03\x01aQ",
        b"F\0\0\0\x06\x01aS\0\0\0",
        b"A\0\0\0\x02VQ",
        b"A\0\0\0\x05S\0\0\0\x09",
    ];
    for value in cases {
        let content = headers_with(value);
        let table = TableRef::new(&content);
        assert!(table.to_table().is_err(), "{value:?}");
        let mut headers = table.to_headers().expect("two entries");
        assert!(matches!(headers.get("k"), Some(FieldValue::Undecoded { .. })), "{value:?}");
        headers.insert("x-death", 1i32);
        let mut encoded = Vec::new();
        headers.encode_with_length(&mut encoded);
        let added = b"\x07x-deathI\0\0\0\x01";
        assert_eq!(encoded[4..], [content.as_slice(), added].concat());
    }
    // What cannot even be split into entries is an error.
    for cut in [&b"\x01kQ"[..], b"\x01kF\0\0\0\x09", b"\x09k"] {
        assert!(TableRef::new(cut).to_headers().is_err(), "{cut:?}");
    }
}
