//! Kafka: other people's clients at the same topics, names that are no queues, and a cluster that loses nodes and
//! workers.

mod cluster;
mod names;
mod peers;
