//! Getting in: with TLS and without, and what is no broker.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use wilco::{ErrorKind, Failure, Wilco};

use crate::brokers::{Activemq, PATIENCE, Texts, on_each, producer};
use crate::certificates::Authority;
use crate::terminator::{Terminator, Terms, VERSIONS};

async fn round_trip(wilco: &Wilco) {
    let queue = Texts::new("connections");
    let handler = async |body: String| Ok::<_, Failure>(body);
    let _working = wilco.worker().handle(queue.clone(), handler).spawn();
    let receipt = producer(wilco, &queue).await.send(&"x".to_owned()).await.expect("taken");
    assert!(receipt.outcome_within(PATIENCE).await.expect("known").is_processed());
}

#[test]
fn who_has_no_name_is_let_in_where_the_broker_does_that() {
    on_each("who_has_no_name_is_let_in_where_the_broker_does_that", async |broker| {
        drop(broker.connect().await);
        let wilco = Wilco::connect(&format!("activemq://{}", broker.amqp())).await;
        let wilco = wilco.expect("it is let in");
        round_trip(&wilco).await;
        wilco.close().await;
    });
}

#[test]
fn everything_goes_over_tls() {
    on_each("everything_goes_over_tls", async |broker: &mut Activemq| {
        drop(broker.connect().await);
        let (authority, other) = (Authority::new("good"), Authority::new("other"));
        let (localhost, client) = (authority.issue("localhost"), authority.issue("client"));
        for version in VERSIONS {
            let terms = Terms { version, identity: &localhost, clients: Some(&authority) };
            let terminator = Terminator::start(broker.amqp().to_string(), &terms);
            let url = |authority: &Authority, more: &str| {
                let (port, file) = (terminator.port(), authority.file());
                format!("activemqs://localhost:{port}?cacertfile={}{more}", file.display())
            };
            let more = format!("&{}", client.options());
            let wilco = Wilco::connect(&url(&authority, &more)).await.expect("it trusts");
            round_trip(&wilco).await;
            wilco.close().await;
            let error = Wilco::connect(&url(&other, &more)).await.expect_err("another authority");
            assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        }
        let url = format!("activemqs://{}?verify=verify_none", broker.amqp());
        let error = Wilco::connect(&url).await.expect_err("there is no TLS");
        assert!(matches!(error.kind(), ErrorKind::Url | ErrorKind::Unreachable), "{error}");
    });
}

#[tokio::test]
async fn what_is_no_broker_is_told_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("bound");
    let began = Instant::now();
    // The second is not asked in vain.
    let url = format!("activemq://{silent},127.0.0.1:1");
    let error = Wilco::connect(&url).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    let http = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = http.local_addr().expect("bound");
    std::thread::spawn(move || {
        use std::io::Write;
        for client in http.incoming().flatten() {
            let _ = (&client).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let error = Wilco::connect(&format!("activemq://{address}")).await.expect_err("no broker");
    assert_eq!(error.kind(), ErrorKind::Url, "{error}");
}
