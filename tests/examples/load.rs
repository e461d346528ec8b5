//! Puts the load of a point of `cargo xtask bench` on a broker, through lapin with its defaults:
//! `load PORT POINT SECONDS`. Prints `{"published": N, "consumed": N, "seconds": S}`. The points are a,
//! b, c and d; d drains what c has left behind, and lasts as long as that takes.

use std::collections::VecDeque;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_core::Stream;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const WINDOW: usize = 1000;

/// What is published and how it is consumed.
#[derive(Clone, Copy)]
struct Point {
    queue: &'static str,
    bytes: usize,
    publishes: bool,
    consumes: bool,
    /// Persistent messages in a durable queue, with confirms and an ack for each.
    is_safe: bool,
}

fn point(key: &str) -> Result<Point> {
    let safe =
        Point { queue: "load.c", bytes: 1024, publishes: true, consumes: false, is_safe: true };
    Ok(match key {
        "a" => {
            Point { queue: "load.a", bytes: 16, publishes: true, consumes: true, is_safe: false }
        }
        "b" => Point { queue: "load.b", consumes: true, ..safe },
        "c" => safe,
        "d" => Point { publishes: false, consumes: true, ..safe },
        other => return Err(format!("there is no point {other}").into()),
    })
}

async fn open(port: &str) -> Result<(Connection, Channel)> {
    let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn publish(port: &str, point: Point, end: Instant) -> Result<u64> {
    let (_connection, channel) = open(port).await?;
    let mut properties = BasicProperties::default();
    if point.is_safe {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        properties = properties.with_delivery_mode(2);
    }
    let body = vec![0; point.bytes];
    let (mut published, mut unconfirmed) = (0, VecDeque::new());
    while Instant::now() < end {
        let options = BasicPublishOptions::default();
        let confirm = channel
            .basic_publish("".into(), point.queue.into(), options, &body, properties.clone())
            .await?;
        published += 1;
        if point.is_safe {
            unconfirmed.push_back(confirm);
            if unconfirmed.len() == WINDOW
                && let Some(oldest) = unconfirmed.pop_front()
            {
                oldest.await?;
            }
        }
    }
    for confirm in unconfirmed {
        confirm.await?;
    }
    Ok(published)
}

async fn consume(port: String, point: Point, consumed: Arc<AtomicU64>) -> Result<()> {
    let (_connection, channel) = open(&port).await?;
    if point.is_safe {
        channel.basic_qos(200, BasicQosOptions::default()).await?;
    }
    let options = BasicConsumeOptions { no_ack: !point.is_safe, ..Default::default() };
    let mut deliveries = channel
        .basic_consume(point.queue.into(), "".into(), options, FieldTable::default())
        .await?;
    while let Some(delivery) =
        std::future::poll_fn(|cx| Pin::new(&mut deliveries).poll_next(cx)).await
    {
        if point.is_safe {
            delivery?.ack(BasicAckOptions::default()).await?;
        }
        consumed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, key, seconds] = &arguments[..] else { return Err("load PORT POINT SECONDS".into()) };
    let (point, seconds) = (point(key)?, Duration::from_secs(seconds.parse()?));
    let (_connection, control) = open(port).await?;
    let options = QueueDeclareOptions { durable: point.is_safe, ..Default::default() };
    let queue = control.queue_declare(point.queue.into(), options, FieldTable::default()).await?;
    let consumed = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    if point.consumes {
        tokio::spawn(consume(port.clone(), point, Arc::clone(&consumed)));
    }
    let mut published = 0;
    if point.publishes {
        published = publish(port, point, begin + seconds).await?;
    } else {
        while consumed.load(Ordering::Relaxed) < u64::from(queue.message_count()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let (consumed, elapsed) = (consumed.load(Ordering::Relaxed), begin.elapsed().as_secs_f64());
    writeln!(
        std::io::stdout(),
        r#"{{"published": {published}, "consumed": {consumed}, "seconds": {elapsed:.3}}}"#
    )?;
    if point.consumes {
        control.queue_delete(point.queue.into(), QueueDeleteOptions::default()).await?;
    }
    Ok(())
}
