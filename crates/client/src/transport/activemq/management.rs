//! What AMQP 1.0 has no verbs for: emptying and deleting queues.
//!
//! A queue is emptied by taking all that is in it. Artemis deletes one that its management is asked to, by a message to an
//! address of its own (the user needs the permission `manage` there); Classic does not let AMQP's clients delete any.

use std::time::Duration;

use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Message, Outcome, Properties,
};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use tokio::time::{Instant, timeout};

use super::connection::Driver;
use super::down::{Lost, Refusal};
use super::links;
use crate::error::{Error, ErrorKind};

/// A broker that sends nothing for so long has nothing (left) to send.
const SILENCE: Duration = Duration::from_millis(500);
/// What is sent for so long while a queue is emptied is not taken any more.
const PURGE_TIME: Duration = Duration::from_secs(60);
/// How long it may take to get to a queue.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages under way while a queue is emptied.
const PURGE_CREDIT: u32 = 500;
/// How long to wait before a broken connection is used again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Where Artemis takes orders.
pub(super) const MANAGEMENT: &str = "activemq.management";
/// How long it may take for one.
const MANAGEMENT_TIMEOUT: Duration = Duration::from_secs(10);

fn lost(lost: Lost, what: &str) -> Error {
    match lost {
        Lost::Closed => Error::closed(),
        Lost::Refused(refusal) => refusal.into_error(what),
        Lost::Connection => Error::new(
            ErrorKind::Unreachable,
            format!("{what}: the connection broke; check that the broker runs"),
        ),
    }
}

/// Whether a queue can be had: it is made if the broker does that. A connection that breaks meanwhile is made again.
pub(super) async fn ensure(driver: &Driver, queue: &str) -> Result<(), Error> {
    loop {
        match links::sender(driver, queue).await {
            Ok(opened) => {
                opened.close().await;
                return Ok(());
            }
            Err(Lost::Connection) => tokio::time::sleep(ASK_AGAIN).await,
            Err(other) => return Err(lost(other, &format!("queue '{queue}'"))),
        }
    }
}

/// Takes all that is in a queue and that no worker has; returns how much.
pub(super) async fn purge(driver: &Driver, queue: &str) -> Result<u64, Error> {
    let what = format!("queue '{queue}'");
    let opening = timeout(OPEN_TIMEOUT, links::receiver(driver, queue)).await;
    let mut opened = opening.unwrap_or(Err(Lost::Connection)).map_err(|it| lost(it, &what))?;
    let began = Instant::now();
    let receiver = &mut opened.link;
    let broken = || lost(Lost::Connection, &what);
    let (mut count, mut is_drained) = (0, false);
    receiver.set_credit(PURGE_CREDIT).await.map_err(|_| broken())?;
    loop {
        let info = match timeout(SILENCE, receiver.recv::<Body<Value>>()).await {
            Ok(Ok(delivery)) => delivery.into_parts().0,
            // It need not be read.
            Ok(Err(RecvError::MessageDecode(error))) => error.info,
            Ok(Err(error)) => return Err(lost(error.into(), &what)),
            Err(_) if is_drained => break,
            Err(_) => {
                // What there is has to come now.
                receiver.drain().await.map_err(|_| broken())?;
                is_drained = true;
                continue;
            }
        };
        receiver.accept(info).await.map_err(|_| broken())?;
        count += 1;
        if !is_drained && began.elapsed() > PURGE_TIME {
            // Somebody sends without an end.
            receiver.drain().await.map_err(|_| broken())?;
            is_drained = true;
        }
        if !is_drained && receiver.credit() < PURGE_CREDIT / 2 {
            receiver.set_credit(PURGE_CREDIT).await.map_err(|_| broken())?;
        }
    }
    opened.close().await;
    Ok(count)
}

/// Has Artemis delete a queue, and its address if that has no other.
pub(super) async fn destroy(driver: &Driver, queue: &str) -> Result<(), Error> {
    let what = format!("queue '{queue}' cannot be deleted");
    let failed = |it| lost(it, &what);
    let mut answers = links::temporary(driver).await.map_err(failed)?;
    let Some(reply_to) = answers.link.source().as_ref().and_then(|source| source.address.clone())
    else {
        return Err(Error::new(
            ErrorKind::Broker,
            format!("{what}: there is nowhere to answer to"),
        ));
    };
    answers.link.set_credit(1).await.map_err(|_| failed(Lost::Connection))?;
    let mut orders = links::sender(driver, MANAGEMENT).await.map_err(failed)?;
    let order = Message {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: Some(Properties { reply_to: Some(reply_to), ..Properties::new() }),
        application_properties: Some(
            ApplicationProperties::builder()
                .insert("_AMQ_ResourceName", SimpleValue::String("broker".to_owned()))
                .insert("_AMQ_OperationName", SimpleValue::String("destroyQueue".to_owned()))
                .build(),
        ),
        // With its consumers, and with the address.
        body: Body::Value(AmqpValue(Value::String(
            serde_json::json!([queue, true, true]).to_string(),
        ))),
        footer: None,
    };
    let asking = async {
        match orders.link.send(order).await {
            Ok(Outcome::Accepted(_)) => {}
            Ok(Outcome::Rejected(rejected)) => {
                return Err(Refusal::of(rejected.error.as_ref()).into_error(&what));
            }
            Ok(_) => return Err(Error::new(ErrorKind::Refused, what.clone())),
            Err(error) => return Err(failed(error.into())),
        }
        let answer = answers.link.recv::<Body<Value>>().await.map_err(|it| failed(it.into()))?;
        let answer = answer.into_message();
        let has_succeeded = answer.application_properties.and_then(|properties| {
            properties.0.get("_AMQ_OperationSucceeded").map(|it| *it == SimpleValue::Bool(true))
        });
        match (has_succeeded, answer.body) {
            (Some(true), _) => Ok(()),
            (_, Body::Value(AmqpValue(Value::String(text)))) => {
                Err(Error::new(ErrorKind::Broker, format!("{what}: {text}")))
            }
            _ => Err(Error::new(ErrorKind::Broker, what.clone())),
        }
    };
    let asked = timeout(MANAGEMENT_TIMEOUT, asking).await;
    orders.close().await;
    answers.close().await;
    asked.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unreachable, format!("{what}: its management does not answer")))
    })
}
