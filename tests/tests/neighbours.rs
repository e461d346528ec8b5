//! Clients that ask for too much, read too little or vanish: everybody else carries on.

use end_to_end::{
    Bystander, eventually,
    raw::{Args, BODY, Event, Frame, HEARTBEAT, Login, PROTOCOL_HEADER, Raw, Tune},
    shared, unique,
};
use std::time::{Duration, Instant};

fn publish_method(channel: u16) -> Vec<u8> {
    Frame::method(channel, 60, 40, &Args::new().u16(0).short("").short("nowhere").u8(0))
}

#[test]
fn flood_of_channels_is_not_allowed() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let mut raw = Raw::connect(broker.address());
    let channel_max = raw.handshake().channel_max;
    let opens = (1..=channel_max + 1)
        .flat_map(|channel| Frame::method(channel, 20, 10, &Args::new().short("")));
    raw.send(&opens.collect::<Vec<_>>());
    for _ in 0..channel_max {
        raw.expect(20, 11);
    }
    bystander.still_works();
    assert_eq!(raw.expect_connection_close().0, 530);
    bystander.still_works();
}

#[test]
fn server_sends_heartbeats_and_drops_a_silent_client() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let login = Login { tune: |tune| Tune { heartbeat: 1, ..tune }, ..Login::default() };
    let mut silent = Raw::connect(broker.address());
    silent.login(&login).expect("a handshake");
    let mut lively = Raw::connect(broker.address());
    lively.login(&login).expect("a handshake");
    let start = Instant::now();
    let (mut beats, mut end) = (0, None);
    while start.elapsed() < Duration::from_secs(5) {
        lively.frame(HEARTBEAT, 0, b"");
        if end.is_none() {
            match silent.read(Duration::from_millis(300)) {
                Event::Frame(frame) if frame.kind == HEARTBEAT => beats += 1,
                Event::Closed => end = Some(start.elapsed()),
                _ => {}
            }
        } else {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    let end = end.expect("the silent client is dropped");
    // Two missed heartbeats: not before two seconds, and soon after.
    assert!((1900..4500).contains(&end.as_millis()), "after {end:?}");
    assert!(beats >= 2, "{beats} heartbeats");
    lively.open_channel(1);
    bystander.still_works();
}

#[test]
fn client_without_heartbeats_may_be_silent() {
    let broker = shared();
    let mut raw = broker.raw();
    assert!(matches!(raw.read(Duration::from_millis(2500)), Event::Silence));
    raw.open_channel(2);
}

#[test]
fn message_larger_than_the_limit_closes_the_channel() {
    let test = "message_larger_than_the_limit_closes_the_channel";
    let broker = shared();
    if broker.lacks(test, "the limit of 16 MiB") {
        return;
    }
    let mut bystander = Bystander::new(&broker);
    let mut raw = broker.raw();
    let size = (16 << 20) + 1;
    raw.send(&[publish_method(1), Frame::header(1, size)].concat());
    // The refusal may come with the header or after the last byte.
    for _ in 0..size / 131_064 {
        raw.frame(BODY, 1, &[0; 131_064]);
    }
    raw.frame(BODY, 1, &vec![0; (size % 131_064) as usize]);
    raw.expect_channel_close(1, 406);
    raw.open_channel(1);
    bystander.still_works();
}

#[test]
fn message_of_the_largest_size_passes() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", Default::default());
    let body = vec![7; 16 << 20];
    assert!(client.confirmed("", &queue, &body).is_ack());
    assert!(client.take(&queue).expect("the message").data == body);
}

#[test]
fn announced_size_of_the_body_reserves_no_memory() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let mut raw = broker.raw();
    raw.send(&[publish_method(1), Frame::header(1, u64::MAX / 2)].concat());
    raw.frame(BODY, 1, b"x");
    bystander.still_works();
}

#[test]
fn publish_cut_off_by_the_end_of_its_connection_leaves_nothing() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", Default::default());
    let arguments = Args::new().u16(0).short("").short(&queue).u8(0);
    let whole = [
        Frame::method(1, 60, 40, &arguments),
        Frame::header(1, 10),
        Frame::encode(BODY, 1, b"half a"),
    ]
    .concat();
    for cut in [whole.len(), whole.len() - 4, whole.len() / 2, 5] {
        let mut raw = broker.raw();
        raw.send(&whole[..cut]);
    }
    Bystander::new(&broker).still_works();
    assert!(client.take(&queue).is_none());
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    for round in 0..120 {
        let mut raw = Raw::connect(broker.address());
        match round % 4 {
            0 => {}
            1 => raw.send(&PROTOCOL_HEADER[..4]),
            2 => raw.send(PROTOCOL_HEADER),
            _ => {
                raw.handshake();
            }
        }
    }
    bystander.still_works();
}

#[test]
fn consumer_that_does_not_read_holds_up_nobody() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let mut lazy = broker.raw();
    let queue = unique("q");
    lazy.declare(1, &queue);
    let no_ack = Args::new().u16(0).short(&queue).short("").u8(2).table(&Args::new());
    lazy.method(1, 60, 20, &no_ack);
    lazy.expect(60, 21);
    let mut publisher = broker.raw();
    publisher.confirm_select(1);
    let body = vec![0; 100_000];
    for _ in 0..300 {
        publisher.publish_confirmed(1, &queue, &body);
    }
    bystander.still_works();
    drop(lazy);
    let client = broker.client();
    eventually("the lazy consumer is gone", || client.passive(&queue).consumer_count() == 0);
    client.delete(&queue);
}
