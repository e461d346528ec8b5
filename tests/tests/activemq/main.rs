//! ActiveMQ, Artemis and Classic, as the library and others use it side by side.

mod brokers;
#[allow(dead_code, reason = "shared with the tests of AMQP 0-9-1")]
#[path = "../library/tls/certificates.rs"]
mod certificates;
mod connections;
mod kills;
mod peers;
#[allow(dead_code, reason = "shared with the tests of AMQP 0-9-1")]
#[path = "../library/tls/terminator.rs"]
mod terminator;
