//! Direct reply-to: answers without a queue.

use end_to_end::{Client, Consumer, Level, client::block, eventually, shared, unique};
use lapin::{
    BasicProperties,
    options::{BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};

const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";
const NO_ACK: BasicConsumeOptions =
    BasicConsumeOptions { no_ack: true, no_local: false, exclusive: false, nowait: false };

fn listen(client: &Client) -> Consumer {
    client.consume_with(PSEUDO_QUEUE, NO_ACK, FieldTable::default())
}

fn asking() -> BasicProperties {
    BasicProperties::default()
        .with_reply_to(PSEUDO_QUEUE.into())
        .with_correlation_id("question 1".into())
}

/// Sends a question and returns the address to answer to.
fn ask(client: &Client, service: &str) -> String {
    client.publish_with("", service, "question", asking());
    let question = client.take_soon(service);
    question.properties.reply_to().as_ref().expect("an address").to_string()
}

#[test]
fn answer_reaches_the_asking_channel() {
    let broker = shared();
    let (asker, worker) = (broker.client(), broker.client());
    let service = worker.queue("service", FieldTable::default());
    let answers = listen(&asker);
    asker.publish_with("", &service, "question", asking());
    let question = worker.take_soon(&service);
    let address = question.properties.reply_to().as_ref().expect("an address").to_string();
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    let properties = BasicProperties::default()
        .with_correlation_id(question.properties.correlation_id().clone().expect("an id"));
    worker.publish_with("", &address, "answer", properties);
    let answer = answers.next();
    assert_eq!(answer.data, b"answer");
    assert_eq!(answer.exchange.as_str(), "");
    assert_eq!(answer.routing_key.as_str(), address);
    let id = answer.properties.correlation_id().as_ref().map(|id| id.as_str());
    assert_eq!(id, Some("question 1"));
}

#[test]
fn several_answers_come_in_order() {
    let broker = shared();
    let (asker, worker) = (broker.client(), broker.client());
    let service = worker.queue("service", FieldTable::default());
    let answers = listen(&asker);
    let address = ask(&asker, &service);
    for n in 0..10 {
        worker.publish("", &address, n.to_string());
    }
    let expected: Vec<_> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(answers.bodies(10), expected);
}

#[test]
fn mandatory_answer_returns_when_the_asker_has_gone() {
    let broker = shared();
    let (asker, worker) = (broker.client(), broker.client());
    let service = worker.queue("service", FieldTable::default());
    let answers = listen(&asker);
    let address = ask(&asker, &service);
    worker.confirm_select();
    let send = || {
        block(worker.send("", &address, "answer", BasicProperties::default(), true))
            .expect("a confirm")
            .take_message()
    };
    // RabbitMQ before 4.2 returns this one as well, since it does not count an asker as a queue.
    drop(send());
    assert_eq!(answers.bodies(1), ["answer"]);
    asker.close();
    eventually("the address is nobody's", || {
        send().is_some_and(|returned| returned.reply_code == 312)
    });
}

#[test]
fn consumer_must_not_want_to_acknowledge() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| {
        channel
            .try_consume(PSEUDO_QUEUE, BasicConsumeOptions::default(), FieldTable::default())
            .map(drop)
    });
}

#[test]
fn one_consumer_of_answers_per_channel() {
    let broker = shared();
    let client = broker.client();
    client.refuses(406, Level::Channel, |channel| {
        let _first = channel.consume_with(PSEUDO_QUEUE, NO_ACK, FieldTable::default());
        channel.try_consume(PSEUDO_QUEUE, NO_ACK, FieldTable::default()).map(drop)
    });
    let channels = [client.open(), client.open()];
    let _consumers = channels
        .each_ref()
        .map(|channel| channel.consume_with(PSEUDO_QUEUE, NO_ACK, FieldTable::default()));
    client.round_trip();
}

#[test]
fn asking_without_a_consumer_is_refused() {
    let broker = shared();
    let client = broker.client();
    let service = client.queue("service", FieldTable::default());
    client.refuses(406, Level::Channel, |channel| {
        channel.confirm_select();
        let options = BasicPublishOptions::default();
        let key = service.as_str().into();
        let publish = channel.lapin().basic_publish("".into(), key, options, b"x", asking());
        block(block(publish)?)
    });
}

#[test]
fn pseudo_queue_declares_passively() {
    let broker = shared();
    let client = broker.client();
    let _answers = listen(&client);
    assert_eq!(client.passive(PSEUDO_QUEUE).name().as_str(), PSEUDO_QUEUE);
}

#[test]
fn answer_to_a_made_up_address_is_unroutable() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let address = format!("{PSEUDO_QUEUE}.{}", unique("nobody"));
    let confirm = client.send("", &address, "m", BasicProperties::default(), true);
    assert!(block(confirm).expect("a confirm").take_message().is_some());
}

#[test]
fn other_reply_addresses_pass_unchanged() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let properties = BasicProperties::default().with_reply_to("my.own.queue".into());
    client.publish_with("", &queue, "m", properties);
    let message = client.take_soon(&queue);
    let address = message.properties.reply_to().as_ref().map(|address| address.as_str());
    assert_eq!(address, Some("my.own.queue"));
}
