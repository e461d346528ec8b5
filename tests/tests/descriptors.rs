//! Connections that never say anything exhaust neither the store's files nor the places of others.

use end_to_end::{
    Broker, Bystander, PATIENCE, broker,
    client::connect_from,
    http,
    raw::{Login, Raw},
    skip, turn,
};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The open files that the broker may have in these tests; two hundred and some are for its
/// clients.
const FEW: &str = "ulimit -n 250";

/// How long a real client may have to wait for a place.
const BOUND: Duration = Duration::from_secs(5);

fn start(test: &str, directory: &Path, surroundings: &str, config: &str) -> Option<Broker> {
    if !cfg!(target_os = "linux") {
        skip(test, "needs all of 127.0.0.0/8");
        return None;
    }
    let file = directory.join("wilco.toml");
    fs::write(&file, config).expect("a file");
    let arguments = ["--config", file.to_str().expect("a path in UTF-8")];
    Broker::own_under(test, surroundings, &arguments)
}

/// As many silent connections as possible, up to `count`.
fn silent(address: &str, source: Ipv4Addr, count: usize) -> Vec<TcpStream> {
    (0..count).map_while(|_| connect_from(address, source).ok()).collect()
}

/// This many segments of a megabyte, confirmed.
#[track_caller]
fn fill_segments(publisher: &mut Raw, count: usize) {
    let body = vec![b'x'; 100_000];
    for _ in 0..count * 10 {
        publisher.publish_confirmed(1, "q", &body);
    }
}

/// Waits until a new client gets in, retrying as clients do; returns how long that took.
#[track_caller]
fn gets_in(broker: &Broker) -> Duration {
    let start = Instant::now();
    loop {
        if let Ok(mut raw) = Raw::try_connect(broker.address())
            && let Ok(true) = std::panic::catch_unwind(move || raw.login(&Login::default()).is_ok())
        {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "no client gets in");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A request with a password; returns its status.
fn ask(broker: &Broker, within: Duration) -> std::io::Result<u16> {
    let address = broker.http_address();
    let mut stream = connect_from(&address, HERE)?;
    stream.set_read_timeout(Some(within))?;
    let request = format!(
        "GET /v1/outcomes?limit=1 HTTP/1.1\r\nhost: {address}\r\nauthorization: {}\r\n\
         connection: close\r\n\r\n",
        http::basic("guest", "guest")
    );
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head[9..]).parse().expect("a status"))
}

#[track_caller]
fn is_answered(broker: &Broker) {
    let start = Instant::now();
    let status = ask(broker, BOUND);
    assert!(matches!(status, Ok(200)), "{status:?} after {:?}", start.elapsed());
    assert!(start.elapsed() < BOUND, "after {:?}", start.elapsed());
}

/// Silent connections use up the descriptors while segments are begun, read and deleted.
#[track_caller]
fn store_goes_on(test: &str, listener: fn(&Broker) -> String) {
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[store]\nsegment_bytes = 1048576\nbody_cache_bytes = 1048576\n";
    let Some(mut broker) = start(test, directory.path(), FEW, config) else { return };
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    let mut bystander = Bystander::new(&broker);
    let idle = silent(&listener(&broker), HERE, 260);
    std::thread::sleep(Duration::from_millis(500));
    fill_segments(&mut publisher, 5);
    // Read back from segments, which are then deleted.
    publisher.open_channel(2);
    publisher.consume(2, "q");
    for tag in 1..=50 {
        assert_eq!(publisher.delivery().len(), 100_000);
        publisher.ack(2, tag, false);
    }
    bystander.still_works();
    drop(idle);

    let took = gets_in(&broker);
    assert!(took < BOUND, "after {took:?}");
    bystander.still_works();
    let client = broker.client();
    client.confirm_select();
    client.declare("new", Default::default());
    assert!(client.confirmed("", "new", "x").is_ack());
    is_answered(&broker);
    assert!(!broker.output().contains("poison"), "the log is poisoned");
    client.close();
    // And what was confirmed is there after a restart.
    publisher.publish_confirmed(1, "new", b"y");
    broker.restart();
    assert_eq!(broker.client().drain("new"), ["y"], "the other one was transient");
}

#[test]
fn silent_amqp_connections_leave_the_store_its_files() {
    let test = "silent_amqp_connections_leave_the_store_its_files";
    store_goes_on(test, |broker| broker.address().to_owned());
}

#[test]
fn silent_http_connections_leave_the_store_its_files() {
    store_goes_on("silent_http_connections_leave_the_store_its_files", Broker::http_address);
}

#[test]
fn silent_connections_do_not_keep_the_broker_from_starting_again() {
    let test = "silent_connections_do_not_keep_the_broker_from_starting_again";
    let _turn = turn();
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[store]\nsegment_bytes = 1048576\n";
    let Some(mut broker) = start(test, directory.path(), FEW, config) else { return };
    let mut publisher = broker.raw();
    publisher.declare(1, "q");
    publisher.confirm_select(1);
    fill_segments(&mut publisher, 2);
    let idle = silent(broker.address(), HERE, 260);
    std::thread::sleep(Duration::from_millis(200));
    assert!(broker.stop().success());
    broker.start();
    assert_eq!(broker.client().ready_count("q"), 20);
    drop(idle);
}

#[test]
fn silent_amqp_connections_do_not_keep_a_client_out() {
    let test = "silent_amqp_connections_do_not_keep_a_client_out";
    let _turn = turn();
    // Whether descriptors or connections are exhausted.
    for (surroundings, config) in [(FEW, ""), ("true", "[limits]\nconnections_max = 300\n")] {
        let directory = tempfile::tempdir().expect("a directory");
        let Some(broker) = start(test, directory.path(), surroundings, config) else { return };
        let idle = silent(broker.address(), ELSEWHERE, 320);
        std::thread::sleep(Duration::from_millis(200));
        let took = gets_in(&broker);
        assert!(took < BOUND, "{surroundings} {config}: after {took:?}");
        is_answered(&broker);
        // A connection that has sent half of what it must is as silent as the others.
        let mut half = silent(broker.address(), ELSEWHERE, 320);
        for stream in &mut half {
            // Whether or not it is closed already: all that counts is who gets in.
            let _ = stream.write_all(b"AMQP\0\0\x09\x01");
        }
        let took = gets_in(&broker);
        assert!(took < BOUND, "{surroundings} {config}: half open, after {took:?}");
        drop((idle, half));
    }
}

/// The open files that this process may have.
fn open_files_max() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn silent_http_connections_do_not_keep_a_client_out() {
    let test = "silent_http_connections_do_not_keep_a_client_out";
    let _turn = turn();
    if open_files_max() < 9000 {
        return skip(test, "needs 9000 open files (ulimit -n)");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path(), "true", "") else { return };
    is_answered(&broker);
    let mut idle = silent(&broker.http_address(), ELSEWHERE, 4200);
    std::thread::sleep(Duration::from_millis(200));
    is_answered(&broker);
    for stream in &mut idle {
        // Half a head; whether or not it is closed already, all that counts is who gets in.
        let _ = stream.write_all(b"GET /v1/outcomes HTTP/1.1\r\nhost:");
    }
    is_answered(&broker);
    drop(idle);
    let idle = silent(&broker.http_address(), ELSEWHERE, 4200);
    // A client that is already at work stays.
    let client = broker.client();
    client.declare("q", Default::default());
    is_answered(&broker);
    client.round_trip();
    drop(idle);
}

#[test]
fn low_limit_of_open_files_is_told_at_the_start() {
    let test = "low_limit_of_open_files_is_told_at_the_start";
    if broker::is_external() {
        return skip(test, "needs to own the broker's process");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let Some(broker) = start(test, directory.path(), FEW, "") else { return };
    let output = broker.output();
    let mut warnings = output.lines().filter(|line| line.contains(" WARN "));
    assert!(warnings.any(|line| line.contains("250")), "{output}");
}
