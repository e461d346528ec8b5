//! `amqps://`: in front of the broker is something that takes TLS off.

mod certificates;
mod rabbitmq;
mod terminator;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use end_to_end::{Random, eventually, shared, unique};
use tokio_rustls::rustls::version;
use wilco::{Bytes, ErrorKind, Failure, Queue, Raw, Wilco};

use self::certificates::{Authority, Identity};
use self::terminator::{Terminator, Terms, VERSIONS};
use super::block;
use super::proxy::{Proxy, go_on};

const PASSWORD: &str = "geheim";

fn url(port: u16, options: &str) -> String {
    format!("amqps://guest:guest@localhost:{port}/?{options}")
}

fn trusting(authority: &Authority) -> String {
    format!("cacertfile={}", authority.file().display())
}

/// A broker's certificate is for `localhost`, and nobody must have one to get in.
fn open_to_all(
    version: &'static tokio_rustls::rustls::SupportedProtocolVersion,
    identity: &Identity,
) -> Terminator {
    let terms = Terms { version, identity, clients: None };
    Terminator::start(shared().address().to_owned(), &terms)
}

/// The error of who tries to connect; it does not tell the password.
async fn refused(url: &str, kind: ErrorKind, expected: &str) {
    let url = url.replacen("guest:guest", &format!("guest:{PASSWORD}"), 1);
    let error = Wilco::connect(&url).await.expect_err(&url);
    assert_eq!(error.kind(), kind, "{url}: {error}");
    assert!(error.to_string().contains(expected), "{url}: {error}");
    assert!(!error.to_string().contains(PASSWORD), "{error}");
}

/// What tells bytes from others, short enough for a result.
fn digest(bytes: &Bytes) -> Bytes {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Bytes::from(hasher.finish().to_string())
}

/// Sends bytes, has them worked on, and is told what became of them.
async fn round_trip(wilco: &Wilco, bodies: &[Bytes]) {
    let queue: Queue<Bytes, Bytes, Raw> = Queue::named(unique("tls"));
    let handler = async |body: Bytes| Ok::<_, Failure>(digest(&body));
    let worker = tokio::spawn(wilco.worker().handle(queue.clone(), handler).run());
    let producer = wilco.producer(queue).build().await.expect("a producer");
    let mut receipts = Vec::new();
    for body in bodies {
        receipts.push(producer.send(body).await.expect("stored"));
    }
    for (body, receipt) in bodies.iter().zip(receipts) {
        let done = receipt.outcome().await.expect("known").processed().expect("processed");
        let result = done.result().expect("bytes");
        assert_eq!(result, digest(body), "{} bytes have changed", body.len());
    }
    worker.abort();
}

#[test]
fn what_is_sent_over_tls_comes_back() {
    let _broker = shared();
    let authority = Authority::new("good");
    let identity = authority.issue("localhost");
    // Around a record's 16 KiB, and more than any buffer holds.
    let bodies = [0, 1, 16_000, 16_384, 16_500, 100_000, 3_000_000];
    let bodies = bodies.map(|size| (0..size).map(|at: u32| (at % 251) as u8).collect::<Bytes>());
    for version in VERSIONS {
        let terminator = open_to_all(version, &identity);
        block(async {
            let url = url(terminator.port(), &trusting(&authority));
            let wilco = Wilco::connect(&url).await.expect("it is trusted");
            round_trip(&wilco, &bodies).await;
            wilco.close().await;
        });
    }
}

#[test]
fn a_certificate_that_is_not_good_is_refused_and_why_is_told() {
    let _broker = shared();
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let expired = open_to_all(&version::TLS13, &good.issue_until("localhost", 2020));
    let identity = good.issue("localhost");
    let openssl = Authority::new("openssl");
    let authority = open_to_all(&version::TLS13, &openssl.issue_authority("localhost"));
    for version in VERSIONS {
        let terminator = open_to_all(version, &identity);
        let port = terminator.port();
        let trusting_good = trusting(&good);
        block(async {
            refused(&url(port, &trusting(&other)), ErrorKind::Tls, "cacertfile").await;
            // Those of the system, or it has none.
            refused(&url(port, ""), ErrorKind::Tls, "cacertfile").await;
            let elsewhere = format!("{trusting_good}&server_name_indication=elsewhere.example");
            refused(&url(port, &elsewhere), ErrorKind::Tls, "elsewhere.example").await;
            let by_address = url(port, &trusting_good).replace("localhost", "127.0.0.1");
            refused(&by_address, ErrorKind::Tls, "server_name_indication").await;
            let named = format!("{by_address}&server_name_indication=localhost");
            Wilco::connect(&named).await.expect("it is for that name").close().await;
            refused(&url(expired.port(), &trusting_good), ErrorKind::Tls, "expired").await;
            let by_authority = url(authority.port(), &trusting(&openssl));
            refused(&by_authority, ErrorKind::Tls, "basicConstraints=CA:FALSE").await;
            // Whoever asks for it gets it.
            for port in [port, expired.port()] {
                let anybody = url(port, "verify=verify_none&server_name_indication=x.example");
                Wilco::connect(&anybody).await.expect("unseen").close().await;
            }
        });
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("good");
    let (one, other) = (authority.issue("one"), authority.issue("other"));
    let (certificate, key) = (one.certificate.display(), other.key.display());
    block(async {
        for (options, expected) in [
            ("cacertfile=/nowhere/ca.pem".to_owned(), "cacertfile=/nowhere/ca.pem"),
            (format!("cacertfile={key}"), "no certificate"),
            (format!("{}&certfile=/nowhere/c.pem", trusting(&authority)), "certfile=/nowhere"),
            (format!("{}&certfile={certificate}", trusting(&authority)), "no private key"),
            (
                format!("{}&certfile={certificate}&keyfile={key}", trusting(&authority)),
                "not the key to the certificate",
            ),
        ] {
            refused(&url(1, &options), ErrorKind::Tls, expected).await;
        }
    });
}

#[test]
fn tls_where_there_is_none_and_none_where_there_is_are_told() {
    let broker = shared();
    let authority = Authority::new("good");
    let plain = broker.address().rsplit_once(':').expect("a port").1.parse().expect("a number");
    for version in VERSIONS {
        let terminator = open_to_all(version, &authority.issue("localhost"));
        block(async {
            refused(&url(plain, &trusting(&authority)), ErrorKind::Url, "amqp://").await;
            let without = format!("amqp://guest:guest@localhost:{}", terminator.port());
            refused(&without, ErrorKind::Url, "amqps://").await;
        });
    }
    let terms =
        Terms { version: &version::TLS13, identity: &authority.issue("localhost"), clients: None };
    let hangs_up = Terminator::start("127.0.0.1:1".to_owned(), &terms);
    block(async {
        let url = |port| url(port, &trusting(&authority));
        let expected = "right after the TLS handshake";
        refused(&url(hangs_up.port()), ErrorKind::Unreachable, expected).await;
        let nobody = url(1);
        refused(&nobody, ErrorKind::Unreachable, "check that the broker runs").await;
    });
}

#[test]
fn a_handshake_that_stalls_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let authority = Authority::new("good");
    block(async {
        let began = Instant::now();
        refused(&url(port, &trusting(&authority)), ErrorKind::Unreachable, "TLS").await;
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    });
    drop(listener);
}

#[test]
fn who_must_show_a_certificate_is_let_in_with_it_alone() {
    let broker = shared();
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let (server, client) = (good.issue("localhost"), good.issue("client"));
    let (stranger, expired) = (other.issue("client"), good.issue_until("late", 2020));
    for version in VERSIONS {
        let terms = Terms { version, identity: &server, clients: Some(&good) };
        let terminator = Terminator::start(broker.address().to_owned(), &terms);
        let url = |options: &str| url(terminator.port(), &format!("{}&{options}", trusting(&good)));
        block(async {
            refused(&url(""), ErrorKind::Tls, "certfile=PATH").await;
            refused(&url(&stranger.options()), ErrorKind::Tls, "certfile in the URL").await;
            refused(&url(&expired.options()), ErrorKind::Tls, "certfile in the URL").await;
            assert!(terminator.seen().is_empty(), "nobody was let in");
            let wilco = Wilco::connect(&url(&client.options())).await.expect("it has one");
            round_trip(&wilco, &[Bytes::from_static(b"x")]).await;
            wilco.close().await;
            // The broker behind has no such login.
            let external = url(&format!("{}&auth_mechanism=external", client.options()));
            refused(&external, ErrorKind::Login, "EXTERNAL").await;
        });
    }
}

#[test]
fn a_certificate_that_was_renewed_is_shown_at_the_next_connect() {
    let broker = shared();
    let authority = Authority::new("good");
    let (server, client) = (authority.issue("localhost"), authority.issue("client"));
    let terms = Terms { version: &version::TLS13, identity: &server, clients: Some(&authority) };
    let terminator = Terminator::start(broker.address().to_owned(), &terms);
    let proxy = Proxy::start(format!("127.0.0.1:{}", terminator.port()), false);
    block(async {
        let options = format!("{}&{}", trusting(&authority), client.options());
        let wilco = Wilco::connect(&url(proxy.port(), &options)).await.expect("it has one");
        let before = client.load().0;
        let renewed = authority.issue("client").load().0;
        assert_ne!(before, renewed);
        proxy.fail_after(0, 0);
        round_trip(&wilco, &[Bytes::from_static(b"x")]).await;
        eventually("it is shown", || terminator.seen().contains(&renewed[0]));
        assert_eq!(terminator.seen()[0], before[0]);
        wilco.close().await;
    });
}

#[test]
fn of_several_brokers_one_that_is_trusted_is_enough() {
    let _broker = shared();
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let bad = open_to_all(&version::TLS13, &other.issue("localhost"));
    let terminator = open_to_all(&version::TLS13, &good.issue("localhost"));
    block(async {
        let hosts = format!("localhost:1,localhost:{},localhost:{}", bad.port(), terminator.port());
        let url = format!("amqps://guest:guest@{hosts}/?{}", trusting(&good));
        let wilco = Wilco::connect(&url).await.expect("the third is good");
        round_trip(&wilco, &[Bytes::from_static(b"x")]).await;
        wilco.close().await;
    });
}

#[test]
fn whatever_byte_tls_is_cut_at_everything_is_answered() {
    let _broker = shared();
    let authority = Authority::new("good");
    let identity = authority.issue("localhost");
    let mut random = Random::seeded();
    println!("WILCO_TEST_SEED={}", random.state());
    for version in VERSIONS {
        let terminator = open_to_all(version, &identity);
        let proxy = Proxy::start(format!("127.0.0.1:{}", terminator.port()), false);
        let url = url(proxy.port(), &format!("heartbeat=1&{}", trusting(&authority)));
        block(go_on(&proxy, &url, 40, 6000, &mut random));
    }
}

#[test]
fn tls_that_falls_silent_is_given_up() {
    let _broker = shared();
    let authority = Authority::new("good");
    let terminator = open_to_all(&version::TLS13, &authority.issue("localhost"));
    let proxy = Proxy::start(format!("127.0.0.1:{}", terminator.port()), true);
    let mut random = Random::seeded();
    println!("WILCO_TEST_SEED={}", random.state());
    let url = url(proxy.port(), &format!("heartbeat=1&{}", trusting(&authority)));
    let began = Instant::now();
    block(go_on(&proxy, &url, 2, 1500, &mut random));
    assert!(began.elapsed() > Duration::from_secs(1), "nothing fell silent");
}
