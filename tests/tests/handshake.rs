//! The handshake: who gets in, what is negotiated, and what ends it.

use end_to_end::{
    Bystander, Session, broker,
    raw::{Args, BODY, Frame, HEADER, Login, METHOD, PROTOCOL_HEADER, Raw, Tune},
    shared, unique,
};
use std::time::{Duration, Instant};

#[test]
fn server_introduces_itself_as_clients_expect() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    raw.send(PROTOCOL_HEADER);
    let start = raw.expect(10, 10);
    let mut fields = start.fields();
    assert_eq!((fields.u8(), fields.u8()), (0, 9));
    let says = |text: &[u8]| start.payload.windows(text.len()).any(|window| window == text);
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert!(says(&[capability.as_bytes(), b"t\x01"].concat()), "{capability}");
    }
    for text in
        ["product", "version", "platform", "wilco", "protocol", "PLAIN", "AMQPLAIN", "en_US"]
    {
        assert!(says(text.as_bytes()), "{text}");
    }
}

#[test]
fn handshake_in_one_write_and_in_single_bytes() {
    let broker = shared();
    let queue = unique("q");
    let start_ok =
        Args::new().table(&Args::new()).short("PLAIN").long(b"\0guest\0guest").short("en_US");
    let declare = Args::new().u16(0).short(&queue).u8(0b10).table(&Args::new());
    let bytes = [
        PROTOCOL_HEADER.to_vec(),
        Frame::method(0, 10, 11, &start_ok),
        Frame::method(0, 10, 31, &Args::new().u16(2047).u32(131_072).u16(0)),
        Frame::method(0, 10, 40, &Args::new().short("/").short("").u8(0)),
        Frame::method(1, 20, 10, &Args::new().short("")),
        Frame::method(1, 50, 10, &declare),
        Frame::method(1, 85, 10, &Args::new().u8(0)),
        end_to_end::raw::publish(1, "", &queue, b"pipelined"),
    ]
    .concat();
    let answers = [(10, 10), (10, 30), (10, 41), (20, 11), (50, 11), (85, 11), (60, 80)];
    for step in [bytes.len(), 1] {
        let mut raw = Raw::connect(broker.address());
        for chunk in bytes.chunks(step) {
            raw.send(chunk);
        }
        for (class, method) in answers {
            raw.expect(class, method);
        }
    }
    assert_eq!(broker.client().drain(&queue), ["pipelined", "pipelined"]);
}

#[test]
fn amqplain_logs_in() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    raw.send(PROTOCOL_HEADER);
    raw.expect(10, 10);
    let credentials = Args::new()
        .short("LOGIN")
        .u8(b'S')
        .long(b"guest")
        .short("PASSWORD")
        .u8(b'S')
        .long(b"guest");
    let start_ok =
        Args::new().table(&Args::new()).short("AMQPLAIN").long(credentials.bytes()).short("en_US");
    raw.method(0, 10, 11, &start_ok);
    raw.expect(10, 30);
}

#[test]
fn wrong_password_is_refused_in_words_to_those_who_understand() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    for (user, password) in [("guest", "wrong"), ("nobody", "guest"), ("guest", ""), ("", "")] {
        let mut raw = Raw::connect(broker.address());
        let refused = raw.login(&Login { user, password, ..Login::default() });
        let close = refused.expect_err("refused").expect("a close");
        assert!(close.is(10, 50), "{close:?}");
        assert_eq!(close.reply_code(), 403, "{}", close.reply_text());
        raw.method(0, 10, 51, &Args::new());
    }
    let mut raw = Raw::connect(broker.address());
    let login = Login { password: "wrong", capabilities: &[], ..Login::default() };
    let refused = raw.login(&login);
    assert_eq!(refused.expect_err("refused"), None, "the socket is closed without a word");
    bystander.still_works();
}

#[test]
fn unknown_mechanism_is_refused() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    raw.send(PROTOCOL_HEADER);
    raw.expect(10, 10);
    let start_ok = Args::new().table(&Args::new()).short("WONDER").long(b"").short("en_US");
    raw.method(0, 10, 11, &start_ok);
    raw.ends();
}

#[test]
fn unknown_virtual_host_is_not_allowed() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    let refused = raw.login(&Login { vhost: "nowhere", ..Login::default() });
    let close = refused.expect_err("refused").expect("a close");
    assert_eq!(close.reply_code(), 530, "{}", close.reply_text());
}

#[test]
fn other_protocols_get_the_header_back() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let openings: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"AMQP\x03\x01\0\0",
        b"AMQP\0\0\x08\0",
        b"\x16\x03\x01\x02\0\x01\0\x01",
    ];
    for opening in openings {
        let mut raw = Raw::connect(broker.address());
        raw.send(opening);
        let answer = raw.rest();
        if opening == b"AMQP\x03\x01\0\0" && answer == b"AMQP\x03\x01\0\0" {
            continue; // RabbitMQ 4 speaks AMQP 1.0.
        }
        assert_eq!(answer, PROTOCOL_HEADER, "after {opening:?}");
    }
    bystander.still_works();
}

#[test]
fn garbage_instead_of_the_handshake_ends_the_connection() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let mut bad_end = Frame::method(0, 10, 11, &Args::new());
    *bad_end.last_mut().expect("an end") = 0;
    let mut too_large = vec![METHOD, 0, 0];
    too_large.extend(5_000_000u32.to_be_bytes());
    too_large.extend([0; 200_000]);
    let open = Args::new().short("/").short("").u8(0);
    let cases = [
        ("wrong end octet", bad_end),
        ("frame too large", too_large),
        ("channel before login", Frame::method(1, 20, 10, &Args::new().short(""))),
        ("open before login", Frame::method(0, 10, 40, &open)),
        ("content before login", Frame::header(1, 1)),
    ];
    for (what, bytes) in cases {
        let mut raw = Raw::connect(broker.address());
        raw.send(PROTOCOL_HEADER);
        raw.expect(10, 10);
        raw.send(&bytes);
        let start = Instant::now();
        raw.ends();
        assert!(start.elapsed() < Duration::from_secs(8), "{what}: only the time-out ended it");
    }
    bystander.still_works();
}

#[test]
fn half_open_handshake_is_closed_after_its_time_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("wilco.toml");
    std::fs::write(&config, "[limits]\nhandshake_timeout_ms = 1000\n").expect("a file");
    let arguments = ["--config", config.to_str().expect("a path in UTF-8")];
    let broker = match broker::is_external() {
        true => shared(),
        false => Session::own(&arguments),
    };
    let mut bystander = Bystander::new(&broker);
    let mut silent = Raw::connect(broker.address());
    let mut started = Raw::connect(broker.address());
    started.send(PROTOCOL_HEADER);
    started.expect(10, 10);
    let mut tuned = Raw::connect(broker.address());
    tuned.send(PROTOCOL_HEADER);
    tuned.expect(10, 10);
    tuned.start_ok(&Login::default());
    tuned.expect(10, 30);
    for raw in [&mut silent, &mut started, &mut tuned] {
        raw.ends();
    }
    bystander.still_works();
}

#[test]
fn proposed_limits_are_those_of_rabbitmq() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    let tune = raw.handshake();
    assert_eq!(tune, Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 });
}

#[test]
fn tuning_beyond_the_proposal_is_refused() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    type Change = fn(Tune) -> Tune;
    let wrong: [(&str, Change); 3] = [
        ("larger frames", |tune| Tune { frame_max: tune.frame_max + 1, ..tune }),
        ("frames below the minimum", |tune| Tune { frame_max: 4095, ..tune }),
        ("more channels", |tune| Tune { channel_max: tune.channel_max + 1, ..tune }),
    ];
    let address = broker.address();
    std::thread::scope(|scope| {
        for (what, tune) in wrong {
            scope.spawn(move || {
                let mut raw = Raw::connect(address);
                match raw.login(&Login { tune, ..Login::default() }) {
                    Ok(_) => panic!("{what} were accepted"),
                    Err(Some(close)) => assert_eq!(close.reply_code(), 530, "{what}"),
                    Err(None) => {}
                }
            });
        }
    });
    bystander.still_works();
}

#[test]
fn asking_for_no_limit_does_not_lift_the_limit() {
    let broker = shared();
    let mut bystander = Bystander::new(&broker);
    let tune = |tune| Tune { frame_max: 0, heartbeat: 0, ..tune };
    let mut raw = Raw::connect(broker.address());
    // RabbitMQ refuses this at once.
    if raw.login(&Login { tune, ..Login::default() }).is_ok() {
        raw.open_channel(1);
        raw.frame(BODY, 1, &[0; 200_000]);
        assert_eq!(raw.expect_connection_close().0, 501);
    }
    let tune = |tune| Tune { channel_max: 0, heartbeat: 0, ..tune };
    let mut raw = Raw::connect(broker.address());
    if let Ok(proposed) = raw.login(&Login { tune, ..Login::default() }) {
        let open = |channel| Frame::method(channel, 20, 10, &Args::new().short(""));
        raw.send(&(1..=proposed.channel_max + 1).flat_map(open).collect::<Vec<_>>());
        let close = raw.ends().expect("a close");
        assert_eq!(close.reply_code(), 530, "{}", close.reply_text());
    }
    bystander.still_works();
}

#[test]
fn negotiated_frame_size_binds_both_sides() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    let login =
        Login { tune: |tune| Tune { frame_max: 4096, heartbeat: 0, ..tune }, ..Login::default() };
    raw.login(&login).expect("a handshake");
    raw.open_channel(1);
    let queue = unique("q");
    raw.declare(1, &queue);
    raw.confirm_select(1);
    let body: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
    let arguments = Args::new().u16(0).short("").short(&queue).u8(0);
    raw.method(1, 60, 40, &arguments);
    raw.send(&Frame::header(1, body.len() as u64));
    for part in body.chunks(4088) {
        raw.frame(BODY, 1, part);
    }
    raw.expect(60, 80);
    raw.method(1, 60, 70, &Args::new().u16(0).short(&queue).u8(1));
    raw.expect(60, 71);
    assert_eq!(raw.next_frame().expect("a header").kind, HEADER);
    let mut returned = Vec::new();
    while returned.len() < body.len() {
        let frame = raw.next_frame().expect("a body frame");
        assert!(frame.payload.len() + 8 <= 4096, "{} bytes", frame.payload.len());
        returned.extend(frame.payload);
    }
    assert!(returned == body);
    raw.frame(BODY, 1, &[0; 4097]);
    assert_eq!(raw.expect_connection_close().0, 501);
}

#[test]
fn negotiated_channel_count_is_enforced() {
    let broker = shared();
    let mut raw = Raw::connect(broker.address());
    let login =
        Login { tune: |tune| Tune { channel_max: 2, heartbeat: 0, ..tune }, ..Login::default() };
    raw.login(&login).expect("a handshake");
    raw.open_channel(1);
    raw.open_channel(2);
    raw.method(3, 20, 10, &Args::new().short(""));
    assert_eq!(raw.expect_connection_close().0, 530);
}
