//! The same on the wire as the library does: the producer asks for the outcome, confirms are waited for; the
//! worker reports its result and acks; the outcome message is read and acked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{CONCURRENCY, Order, QUEUE, Result, WINDOW};

const OUTCOMES: &str = "wilco.bench.peers.outcomes";

pub(crate) async fn run(url: String, count: u64) -> Result<(Instant, Duration)> {
    let publishing = Connection::connect(&url, ConnectionProperties::default()).await?;
    let consuming = Connection::connect(&url, ConnectionProperties::default()).await?;
    let publisher = publishing.create_channel().await?;
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    for queue in [QUEUE, OUTCOMES] {
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        publisher.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        publisher.queue_declare(queue.into(), QueueDeclareOptions::durable(), quorum).await?;
    }
    tokio::spawn(work(consuming.create_channel().await?));
    let places = Arc::new(Semaphore::new(WINDOW));
    let (under_way, waiting) = mpsc::unbounded_channel();
    let hearing = tokio::spawn(hear(consuming.create_channel().await?, waiting, count));
    let began = crate::now();
    for number in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        under_way.send(place)?;
        let mut headers = FieldTable::default();
        headers.insert("x-notify".into(), AMQPValue::LongString("all".into()));
        headers.insert("x-confirm-on".into(), AMQPValue::LongString("enqueue".into()));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_message_id(format!("{}-{number}", std::process::id()).into())
            .with_reply_to(OUTCOMES.into())
            .with_headers(headers);
        let body = serde_json::to_vec(&Order::new(number))?;
        let options = BasicPublishOptions::default();
        let confirm =
            publisher.basic_publish("".into(), QUEUE.into(), options, &body, properties).await?;
        tokio::spawn(async move {
            let confirmed = confirm.await.expect("the server takes it");
            assert!(confirmed.is_ack(), "{confirmed:?}");
        });
    }
    hearing.await??;
    for queue in [QUEUE, OUTCOMES] {
        publisher.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    Ok(began)
}

async fn work(channel: Channel) -> Result<()> {
    channel.basic_qos(CONCURRENCY, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries = channel
        .basic_consume(QUEUE.into(), "worker".into(), options, FieldTable::default())
        .await?;
    while let Some(delivery) = deliveries.next().await {
        let (delivery, channel) = (delivery?, channel.clone());
        tokio::spawn(async move {
            let order: Order = serde_json::from_slice(&delivery.data)?;
            let result = serde_json::to_vec(&order.number)?;
            let id = delivery.properties.message_id().clone().unwrap_or_default();
            let properties =
                BasicProperties::default().with_content_type("application/json".into());
            let options = BasicPublishOptions::default();
            channel
                .basic_publish("amq.wilco.report".into(), id, options, &result, properties)
                .await?;
            delivery.ack(BasicAckOptions::default()).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
    Ok(())
}

/// Reads so many outcomes; with each a place is free again.
async fn hear(
    channel: Channel,
    mut places: mpsc::UnboundedReceiver<OwnedSemaphorePermit>,
    count: u64,
) -> Result<()> {
    channel.basic_qos(1000, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut outcomes = channel
        .basic_consume(OUTCOMES.into(), "outcomes".into(), options, FieldTable::default())
        .await?;
    for _ in 0..count {
        let outcome = outcomes.next().await.ok_or("the consumer has ended")??;
        let headers = outcome.properties.headers().as_ref().ok_or("it has no headers")?;
        let is_processed =
            headers.inner().get("x-outcome") == Some(&AMQPValue::LongString("processed".into()));
        let _number: u64 = serde_json::from_slice(&outcome.data)?;
        if !is_processed {
            return Err(format!("{headers:?}").into());
        }
        outcome.ack(BasicAckOptions::default()).await?;
        places.recv().await;
    }
    Ok(())
}
