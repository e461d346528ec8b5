//! The hot path of the codec allocates nothing.

#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use amqp::{BasicAck, FrameKind, Method, Properties};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn publishing_delivering_and_acknowledging_allocate_nothing() {
    let properties = [0x90, 0, 10, b't', b'e', b'x', b't', b'/', b'p', b'l', b'a', b'i', b'n', 2];
    let mut input = Vec::new();
    let publish = amqp::BasicPublish {
        exchange: "amq.topic".into(),
        routing_key: "a.b".into(),
        ..Default::default()
    };
    for _ in 0..100 {
        amqp::write_method(&mut input, 1, &publish.clone().into());
        amqp::write_content_header(&mut input, 1, 5, &properties);
        amqp::write_body(&mut input, 1, b"hello", 131_072);
        let ack = BasicAck { delivery_tag: 7, multiple: false };
        amqp::write_method(&mut input, 1, &ack.into());
    }
    let mut output = Vec::with_capacity(2 * input.len());

    let before = ALLOCATIONS.get();
    let (mut at, mut published, mut acked) = (0, 0, 0);
    let mut routing_key = Default::default();
    while let Ok(Some((frame, taken))) = amqp::decode_frame(&input[at..], 131_072) {
        at += taken;
        match frame.kind {
            FrameKind::Method => match Method::decode(frame.payload) {
                Ok(Method::BasicPublish(publish)) => routing_key = publish.routing_key,
                Ok(Method::BasicAck(_)) => acked += 1,
                _ => {}
            },
            FrameKind::Header => {
                let header = amqp::decode_content_header(frame.payload);
                let decoded = header.and_then(|header| Properties::decode(header.properties));
                assert_eq!(decoded.map(|properties| properties.delivery_mode), Ok(Some(2)));
            }
            FrameKind::Body => {
                published += 1;
                let method = amqp::BasicDeliver {
                    consumer_tag: "ctag",
                    delivery_tag: published,
                    redelivered: false,
                    exchange: "amq.topic",
                    routing_key,
                };
                let body = frame.payload;
                let delivery = amqp::Delivery { method, properties: &properties, body };
                amqp::write_deliver(&mut output, 1, &delivery, 131_072);
            }
            FrameKind::Heartbeat => {}
        }
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!((published, acked), (100, 100));
}
