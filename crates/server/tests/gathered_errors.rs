//! An ack of an unknown tag closes its channel, whatever else comes in the same write.

mod common;

use amqp::{
    BasicAck, BasicConsume, ChannelClose, ChannelCloseOk, ChannelFlow, ExchangeDeclare, Method,
    QueueBind, QueueDeclare,
};

use common::{Client, encoded, open_node};

const CLOSED: &str = "channel.close 406";

/// The answers on each channel to methods in one write, followed by a `channel.flow`.
async fn answers(client: &mut Client, methods: &[(u16, Method<'_>)]) -> Vec<(u16, String)> {
    let mut bytes = Vec::new();
    methods.iter().for_each(|(channel, method)| bytes.extend(encoded(*channel, method)));
    bytes.extend(encoded(9, &ChannelFlow { active: true }.into()));
    client.send(&bytes).await;
    let mut answers = Vec::new();
    loop {
        let received = client.reader.frame().await;
        let channel = received.channel;
        match received.method() {
            Method::ChannelFlowOk(_) => return answers,
            Method::ChannelClose(close) => {
                answers.push((channel, format!("channel.close {}", close.reply_code)));
            }
            method => answers.push((channel, method.name().to_owned())),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tag_is_told_before_what_follows() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = open_node(directory.path());
    let mut client = Client::connect(&node).await;
    for channel in [2, 9] {
        client.open_channel(channel).await;
    }
    let declare = || QueueDeclare { queue: "q", ..QueueDeclare::default() }.into();
    let bind = QueueBind { queue: "q", exchange: "amq.direct", ..QueueBind::default() };
    let consume = BasicConsume { queue: "q", ..BasicConsume::default() };
    let missing = ExchangeDeclare { exchange: "none", passive: true, ..ExchangeDeclare::default() };
    let close = ChannelClose { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let methods: Vec<(Method<'_>, &str)> = vec![
        (declare(), "queue.declare-ok"),
        (bind.into(), "queue.bind-ok"),
        (consume.into(), "basic.consume-ok"),
        (missing.into(), "channel.close 404"),
        (close.into(), "channel.close-ok"),
    ];
    client.open_channel(1).await;
    assert_eq!(answers(&mut client, &[(2, declare())]).await.len(), 1);
    let mut is_closed = false;
    for (method, answer) in methods {
        let ack = || BasicAck { delivery_tag: 99, multiple: false }.into();
        if std::mem::replace(&mut is_closed, true) {
            client.send(&encoded(1, &ChannelCloseOk {}.into())).await;
            client.open_channel(1).await;
        }
        // On the same channel nothing else is answered, except for a close, which crosses ours.
        let mut expected = vec![(1, CLOSED.to_owned())];
        if matches!(method, Method::ChannelClose(_)) {
            expected.push((1, answer.to_owned()));
        }
        let told = answers(&mut client, &[(1, ack()), (1, method.clone())]).await;
        assert_eq!(told, expected, "{method:?} on the same channel");

        client.send(&encoded(1, &ChannelCloseOk {}.into())).await;
        client.open_channel(1).await;
        let told = answers(&mut client, &[(1, ack()), (2, method.clone())]).await;
        let expected = [(1, CLOSED.to_owned()), (2, answer.to_owned())];
        assert_eq!(told, expected, "{method:?} on another channel");
        if answer.starts_with("channel.close") {
            if !answer.ends_with("ok") {
                client.send(&encoded(2, &ChannelCloseOk {}.into())).await;
            }
            client.open_channel(2).await;
        }
    }
    drop(client);
    tokio::task::spawn_blocking(move || node.close()).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_tag_is_told_before_an_error_of_another_channel() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = open_node(directory.path());
    let mut client = Client::connect(&node).await;
    for channel in [1, 2, 9] {
        client.open_channel(channel).await;
    }
    let ack = BasicAck { delivery_tag: 99, multiple: false };
    let publish = amqp::BasicPublish { exchange: "none".into(), ..amqp::BasicPublish::default() };
    let mut bytes = encoded(1, &ack.into());
    bytes.extend(encoded(2, &publish.into()));
    amqp::write_content_header(&mut bytes, 2, 0, &[0, 0]);
    client.send(&bytes).await;
    let told = answers(&mut client, &[]).await;
    assert_eq!(told, [(1, CLOSED.to_owned()), (2, "channel.close 404".to_owned())]);
    drop(client);
    tokio::task::spawn_blocking(move || node.close()).await.expect("closed");
}
