//! RabbitMQ's own TLS, which is Erlang's.

use std::net::TcpStream;
use std::path::Path;

use end_to_end::{Server, broker::free_port, eventually};
use wilco::{Bytes, ErrorKind, Wilco};

use super::certificates::{Authority, Identity};
use super::{block, refused, round_trip, trusting, url};

/// Lets in who has a certificate by the authority. The name in it may be a login.
fn configure(directory: &Path, port: u16, version: &str, authority: &Authority, server: &Identity) {
    let copy = |from: &Path, to: &str| {
        std::fs::copy(from, directory.join(to)).expect("copied");
    };
    copy(&authority.file(), "ca.pem");
    copy(&server.certificate, "certificate.pem");
    copy(&server.key, "key.pem");
    let settings = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = /srv/ca.pem
ssl_options.certfile = /srv/certificate.pem
ssl_options.keyfile = /srv/key.pem
ssl_options.versions.1 = {version}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_cert_login_from = common_name
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
"
    );
    std::fs::write(directory.join("rabbitmq.conf"), settings).expect("written");
    let plugins = "[rabbitmq_auth_mechanism_ssl].\n";
    std::fs::write(directory.join("enabled_plugins"), plugins).expect("written");
}

fn check(test: &str, name: &str, version: &str) {
    let (authority, other) = (Authority::new("good"), Authority::new("other"));
    let (localhost, guest) = (authority.issue("localhost"), authority.issue("guest"));
    let port = free_port();
    let prepare = |directory: &Path| configure(directory, port, version, &authority, &localhost);
    let Some(server) = Server::start_with(test, name, prepare) else { return };
    eventually("it listens for TLS", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let url = |options: &str| url(port, &format!("{}&{options}", trusting(&authority)));
    block(async {
        for login in ["", "&auth_mechanism=external"] {
            let url = url(&format!("{}{login}", guest.options()));
            let wilco = Wilco::connect(&url).await.expect(&url);
            round_trip(&wilco, &[Bytes::from_static(b"x"), vec![7; 1_000_000].into()]).await;
            wilco.close().await;
        }
        refused(&url(""), ErrorKind::Tls, "certfile=PATH").await;
        refused(&url(&other.issue("guest").options()), ErrorKind::Tls, "certfile in the URL").await;
        let nobody = format!("{}&auth_mechanism=external", authority.issue("nobody").options());
        refused(&url(&nobody), ErrorKind::Login, "").await;
        let plain = format!("amqp://localhost:{port}");
        refused(&plain, ErrorKind::Url, "amqps://").await;
        let wrong = super::url(server.address().port(), &trusting(&authority));
        refused(&wrong, ErrorKind::Url, "amqp://").await;
    });
}

#[test]
fn rabbitmq_3_10_over_tls_1_2() {
    check("rabbitmq_3_10_over_tls_1_2", "rabbitmq-3.10", "tlsv1.2");
}

#[test]
fn rabbitmq_4_0_over_tls_1_3() {
    check("rabbitmq_4_0_over_tls_1_3", "rabbitmq-4.0", "tlsv1.3");
}

#[test]
fn rabbitmq_4_3_over_tls_1_3() {
    check("rabbitmq_4_3_over_tls_1_3", "rabbitmq-4.3", "tlsv1.3");
}
