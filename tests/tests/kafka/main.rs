//! Kafka: other people's clients at the same topics, and a cluster that loses nodes and workers.

mod cluster;
mod peers;
