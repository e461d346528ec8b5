//! Wrong logins cost others nothing: no memory, no time, and not their own logins.
//!
//! Clients come from several addresses of this machine, 127.0.0.x, as if from several hosts.

use end_to_end::{
    Broker, PATIENCE,
    broker::is_external,
    client::connect_from,
    http,
    raw::{Event, Login, PROTOCOL_HEADER, Raw},
    skip, turn, unique,
};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A broker that holds publishers beyond 800 MB; `None`, after naming the skipped test, if it is
/// not wilco or the machine lacks part of 127.0.0.0/8.
fn start(test: &str, directory: &Path) -> Option<Broker> {
    if is_external() || !cfg!(target_os = "linux") {
        skip(test, "needs to own the broker's process, on Linux");
        return None;
    }
    let config = directory.join("wilco.toml");
    fs::write(&config, "[limits]\nmemory_bytes_max = 800000000\n").expect("a file");
    Broker::own_with(test, None, &["--config", config.to_str().expect("a path in UTF-8")])
}

fn add_user(broker: &Broker) -> String {
    let user = unique("anna");
    broker.manage(&["user", "add", &user, "--password", "secret"]);
    broker.manage(&["permission", "set", "/", &user, ".*", ".*", ".*"]);
    user
}

/// Alternately an unknown user and an existing one.
fn wrong(number: usize) -> String {
    if number.is_multiple_of(2) { "guest".into() } else { format!("nobody-{number}") }
}

/// Connections that all send a password at the same time; after that nothing is read from them.
fn amqp(broker: &Broker, logins: &[(Ipv4Addr, String, &str)]) -> Vec<Raw> {
    let greeted = logins.iter().map(|(source, ..)| {
        let mut raw = Raw::connect_from(broker.address(), *source);
        raw.send(PROTOCOL_HEADER);
        raw.expect(10, 10);
        raw
    });
    let mut connections: Vec<_> = greeted.collect();
    for (raw, (_, user, password)) in connections.iter_mut().zip(logins) {
        raw.start_ok(&Login { user, password, ..Login::default() });
    }
    connections
}

fn wrong_amqp(broker: &Broker, count: usize, source: impl Fn(usize) -> Ipv4Addr) -> Vec<Raw> {
    let logins: Vec<_> = (0..count).map(|n| (source(n), wrong(n), "wrong")).collect();
    amqp(broker, &logins)
}

/// Sends a request that only asks to be let in.
fn http(broker: &Broker, source: Ipv4Addr, user: &str, password: &str) -> TcpStream {
    let address = broker.http_address();
    let mut stream = connect_from(&address, source).expect("an HTTP connection");
    let request = format!(
        "GET /v1/outcomes?limit=1 HTTP/1.1\r\nhost: {address}\r\nauthorization: {}\r\n\
         connection: close\r\n\r\n",
        http::basic(user, password)
    );
    stream.write_all(request.as_bytes()).expect("a request");
    stream
}

fn wrong_http(broker: &Broker, count: usize, source: impl Fn(usize) -> Ipv4Addr) -> Vec<TcpStream> {
    (0..count).map(|n| http(broker, source(n), &wrong(n), "wrong")).collect()
}

fn status(mut stream: TcpStream) -> u16 {
    stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("a status line");
    String::from_utf8_lossy(&head[9..]).parse().expect("a status")
}

/// Times both ways in: over AMQP and over HTTP.
#[track_caller]
fn let_in_within(broker: &Broker, user: &str, password: &str, bound: Duration, when: &str) {
    let start = Instant::now();
    assert_eq!(status(http(broker, HERE, user, password)), 200, "{when}");
    let took_http = start.elapsed();
    let start = Instant::now();
    let mut raw = Raw::connect(broker.address());
    let login = Login { user, password, ..Login::default() };
    raw.login(&login).unwrap_or_else(|frame| panic!("{when}: {frame:?}"));
    let took_amqp = start.elapsed();
    assert!(took_http < bound && took_amqp < bound, "{when}: {took_http:?}, {took_amqp:?}");
}

/// The most memory, in MiB, that the broker uses while `during` runs.
fn most_resident_mib(broker: &Broker, during: impl FnOnce()) -> u64 {
    std::thread::scope(|scope| {
        // Dropped at the end of `during`, even if an assertion failed.
        let (goes_on, is_over) = mpsc::channel::<()>();
        let watch = scope.spawn(move || {
            let mut most = 0;
            let pause = Duration::from_millis(2);
            while is_over.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
                most = most.max(broker.resident_mib());
            }
            most
        });
        during();
        drop(goes_on);
        watch.join().expect("a size")
    })
}

#[test]
fn wrong_logins_take_little_memory_and_hold_no_publisher() {
    let test = "wrong_logins_take_little_memory_and_hold_no_publisher";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    publisher.publish_confirmed(1, "q", b"before");
    let before = broker.resident_mib();
    let from_many = |n| Ipv4Addr::new(127, 0, 0, 10 + n as u8);
    let most = most_resident_mib(&broker, || {
        wrong_amqp(&broker, 60, |_| HERE).iter_mut().for_each(|raw| drop(raw.ends()));
        wrong_amqp(&broker, 60, from_many).iter_mut().for_each(|raw| drop(raw.ends()));
    });
    assert!(most < before + 100, "AMQP: {before} MiB before, {most} MiB at most");
    let most = most_resident_mib(&broker, || {
        assert!(wrong_http(&broker, 60, |_| HERE).into_iter().all(|stream| status(stream) != 200));
        assert!(wrong_http(&broker, 60, from_many).into_iter().all(|stream| status(stream) != 200));
    });
    assert!(most < before + 100, "HTTP: {before} MiB before, {most} MiB at most");
    // The first message after a hold begins would still pass.
    for _ in 0..3 {
        publisher.publish_confirmed(1, "q", b"after");
    }
}

#[test]
fn right_logins_at_once_take_little_memory_and_give_it_back() {
    let test = "right_logins_at_once_take_little_memory_and_give_it_back";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    let user = add_user(&broker);
    drop(broker.raw());
    let before = broker.resident_mib();
    let most = most_resident_mib(&broker, || {
        let logins = vec![(HERE, user.clone(), "secret"); 200];
        for mut raw in amqp(&broker, &logins) {
            raw.expect(10, 30);
        }
    });
    assert!(most < before + 60, "{before} MiB before, {most} MiB at most");
    let start = Instant::now();
    let mut now = broker.resident_mib();
    while now > before + 20 {
        assert!(start.elapsed() < Duration::from_secs(60), "{before} MiB before, {now} MiB now");
        std::thread::sleep(Duration::from_millis(100));
        now = broker.resident_mib();
    }
}

#[test]
fn login_that_was_right_before_does_not_wait_for_wrong_ones() {
    let test = "login_that_was_right_before_does_not_wait_for_wrong_ones";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    let bound = Duration::from_secs(1);
    let_in_within(&broker, "guest", "guest", PATIENCE, "alone");
    let waiting = wrong_amqp(&broker, 300, |_| HERE);
    let_in_within(&broker, "guest", "guest", bound, "beside wrong ones over AMQP");
    drop(waiting);
    let_in_within(&broker, "guest", "guest", bound, "after they hung up");
    let waiting = wrong_http(&broker, 300, |_| HERE);
    let_in_within(&broker, "guest", "guest", bound, "beside wrong ones over HTTP");
    drop(waiting);
    let_in_within(&broker, "guest", "guest", bound, "after these hung up");
}

#[test]
fn wrong_logins_of_one_address_do_not_hold_up_another() {
    let test = "wrong_logins_of_one_address_do_not_hold_up_another";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    // Users whose passwords have never been checked, so no login is remembered.
    let (anna, bert) = (add_user(&broker), add_user(&broker));
    let bound = Duration::from_secs(5);
    let over_amqp = wrong_amqp(&broker, 300, |_| ELSEWHERE);
    let_in_within(&broker, &anna, "secret", bound, "beside wrong ones over AMQP");
    let over_http = wrong_http(&broker, 300, |_| ELSEWHERE);
    let_in_within(&broker, &bert, "secret", bound, "beside wrong ones over HTTP");
    drop((over_amqp, over_http));
}

#[test]
fn addresses_that_go_on_failing_do_not_hold_up_one_that_has_not() {
    let test = "addresses_that_go_on_failing_do_not_hold_up_one_that_has_not";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    let (anna, bert) = (add_user(&broker), add_user(&broker));
    let from_many = |n| Ipv4Addr::new(127, 0, 0, 10 + (n / 9) as u8);
    // All of them fail once, and keep trying within their limits.
    let first = wrong_amqp(&broker, 40, |n| from_many(n * 9));
    std::thread::sleep(Duration::from_millis(800));
    let again = wrong_amqp(&broker, 320, from_many);
    let bound = Duration::from_secs(5);
    let_in_within(&broker, &anna, "secret", bound, "beside many that go on failing");
    let over_http = wrong_http(&broker, 320, from_many);
    let_in_within(&broker, &bert, "secret", bound, "beside many over HTTP");
    drop((first, again, over_http));
}

#[test]
fn who_hangs_up_while_waiting_leaves_the_queue() {
    let test = "who_hangs_up_while_waiting_leaves_the_queue";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    let (anna, bert) = (add_user(&broker), add_user(&broker));
    let bound = Duration::from_secs(5);
    // Five from each address: no more than somebody who mistypes would make.
    let from_many = |n| Ipv4Addr::new(127, 0, 0, 10 + (n / 5) as u8);
    drop(wrong_amqp(&broker, 300, from_many));
    let_in_within(&broker, &anna, "secret", bound, "after wrong ones over AMQP hung up");
    let from_others = |n| Ipv4Addr::new(127, 0, 1, 10 + (n / 5) as u8);
    drop(wrong_http(&broker, 300, from_others));
    let_in_within(&broker, &bert, "secret", bound, "after wrong ones over HTTP hung up");
}

/// Seconds of processor time that the broker has used.
fn processor_s(broker: &Broker) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", broker.id())).expect("a status");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks = |at| fields.split(' ').nth(at).and_then(|field| field.parse::<f64>().ok());
    // User and system time, in ticks of 10 ms.
    (ticks(11).expect("a time") + ticks(12).expect("a time")) / 100.0
}

#[test]
fn too_many_wrong_logins_of_one_address_are_refused_unchecked() {
    let test = "too_many_wrong_logins_of_one_address_are_refused_unchecked";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    // The cost of one check: there are few enough, from many addresses, that all are checked.
    let before = processor_s(&broker);
    for mut raw in wrong_amqp(&broker, 20, |n| Ipv4Addr::new(127, 0, 0, 10 + n as u8)) {
        assert_eq!(raw.expect_connection_close().0, 403);
    }
    let check_s = (processor_s(&broker) - before) / 20.0;

    let before = processor_s(&broker);
    let mut refused = wrong_amqp(&broker, 300, |_| ELSEWHERE);
    let last = refused.last_mut().expect("a connection");
    let said = last.read(Duration::from_millis(50));
    assert!(matches!(said, Event::Silence), "refused without a delay: {said:?}");
    let start = Instant::now();
    for mut raw in refused {
        assert_eq!(raw.expect_connection_close().0, 403);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "after {:?}", start.elapsed());
    for stream in wrong_http(&broker, 300, |_| ELSEWHERE) {
        let status = status(stream);
        assert!([401, 403, 429].contains(&status), "{status}");
    }
    let checks = (processor_s(&broker) - before) / check_s;
    assert!(checks < 150.0, "600 wrong ones took as long as {checks:.0} checks");
}

#[test]
fn right_logins_are_never_too_many() {
    let test = "right_logins_are_never_too_many";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path()) else { return };
    // First logins, so that each is checked: more than may fail within a second.
    let logins: Vec<_> = (0..15).map(|_| (HERE, add_user(&broker), "secret")).collect();
    for mut raw in amqp(&broker, &logins) {
        raw.expect(10, 30);
    }
    let guests = vec![(HERE, "guest".to_owned(), "guest"); 100];
    for mut raw in amqp(&broker, &guests) {
        raw.expect(10, 30);
    }
    for _ in 0..100 {
        assert_eq!(status(http(&broker, HERE, "guest", "guest")), 200);
    }
    // Nor do they make a wrong login suspicious: it is answered like any other.
    for mut raw in wrong_amqp(&broker, 2, |_| HERE) {
        assert_eq!(raw.expect_connection_close().0, 403);
    }
}
