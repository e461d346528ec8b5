//! Questions over AMQP: answered as over HTTP, to whom they may be.

use end_to_end::{Client, Consumer, Level, int, shared, table, text, unique};
use lapin::BasicProperties;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable};

const NO_ACK: BasicConsumeOptions =
    BasicConsumeOptions { no_ack: true, no_local: false, exclusive: false, nowait: false };
const QUERY: &str = "amq.wilco.query";

fn listen(client: &Client) -> Consumer {
    client.consume_with("amq.rabbitmq.reply-to", NO_ACK, FieldTable::default())
}

fn asking(correlation_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_correlation_id(correlation_id.into())
}

/// Asks, and returns status and body.
fn ask(client: &Client, answers: &Consumer, subject: &str, body: &str) -> (i64, String) {
    let correlation_id = unique("question");
    client.publish_with(QUERY, subject, body, asking(&correlation_id));
    let answer = answers.next();
    let properties = &answer.properties;
    let id = properties.correlation_id().as_ref().map(|id| id.as_str());
    assert_eq!(id, Some(correlation_id.as_str()));
    assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some("answer"));
    let headers = properties.headers().as_ref().expect("a status");
    let status = match headers.inner().get("x-status") {
        Some(AMQPValue::LongLongInt(status)) => *status,
        Some(AMQPValue::LongInt(status)) => i64::from(*status),
        other => panic!("{other:?}"),
    };
    (status, String::from_utf8_lossy(&answer.data).into_owned())
}

#[test]
fn a_message_is_looked_up_followed_cancelled_and_retried_over_amqp() {
    let broker = shared();
    let client = broker.client();
    let answers = listen(&client);
    let queue = client.queue("asked", table([("x-queue-type", text("quorum"))]));
    let id = unique("id/with space");
    let about = |rest: &str| format!("{{\"id\":\"{id}\"{rest}}}");
    let ask = |subject: &str, body: &str| ask(&client, &answers, subject, body);
    assert_eq!(ask("message", &about("")).0, 404);

    let headers = table([("x-deadline", int(600_000))]);
    let properties = BasicProperties::default().with_message_id(id.as_str().into());
    client.confirm_select();
    client.publish_with("", &queue, "body", properties.with_headers(headers));
    client.await_confirms();
    let (status, message) = ask("message", &about(""));
    assert_eq!(status, 200, "{message}");
    assert!(message.contains("\"state\":\"queued\"") && message.contains(&queue), "{message}");
    // Not settled within the time it may take.
    assert_eq!(ask("outcome", &about(",\"wait\":0")).0, 202);
    assert_eq!(ask("retry", &about("")).0, 409);
    assert_eq!(ask("cancel", &about(&format!(",\"queue\":\"{queue}\""))), (204, String::new()));
    let (status, outcome) = ask("outcome", &about(",\"wait\":10"));
    assert!(status == 200 && outcome.contains("\"dropped\""), "{status} {outcome}");
    assert_eq!(ask("retry", &about("")).0, 204);
    assert_eq!(client.take_soon(&queue).data, b"body");
    let (status, outcomes) = ask("outcomes", &format!("{{\"queue\":\"{queue}\",\"limit\":5}}"));
    assert!(status == 200 && outcomes.contains(&id), "{status} {outcomes}");
}

#[test]
fn who_may_not_read_a_queue_learns_nothing_of_its_messages() {
    let broker = shared();
    if broker.lacks("who_may_not_read_a_queue_learns_nothing_of_its_messages", "users") {
        return;
    }
    let client = broker.client();
    let queue = client.queue("secret", FieldTable::default());
    let id = unique("secret");
    client.confirm_select();
    let properties = BasicProperties::default().with_message_id(id.as_str().into());
    client.publish_with("", &queue, "body", properties);
    client.await_confirms();

    let user = unique("anna");
    broker.manage(&["user", "add", &user, "--password", "secret"]);
    broker.manage(&["permission", "set", "/", &user, "^$", "^$", "^other"]);
    let stranger = Client::connect(&format!("amqp://{user}:secret@{}/%2f", broker.address()));
    let answers = listen(&stranger);
    let about = format!("{{\"id\":\"{id}\"}}");
    for subject in ["message", "outcome", "cancel", "retry"] {
        let (status, problem) = ask(&stranger, &answers, subject, &about);
        assert_eq!(status, 404, "{subject}: {problem}");
        assert!(!problem.contains(&queue), "{problem}");
    }
    let (status, outcomes) = ask(&stranger, &answers, "outcomes", "{}");
    assert!(status == 200 && !outcomes.contains(&id), "{outcomes}");
}

#[test]
fn bad_questions_get_clear_answers() {
    let broker = shared();
    let client = broker.client();
    let answers = listen(&client);
    for (subject, body, expected) in [
        ("message", "", "the field id is missing"),
        ("message", "{", "a JSON object"),
        ("message", "{\"id\":\"x\",\"vhost\":\"/\"}", "that of the connection"),
        ("outcome", "{\"id\":\"x\",\"wait\":61}", "wait is a number"),
        ("message", "{\"id\":\"x\",\"colour\":\"red\"}", "colour"),
        ("outcomes", "{\"limit\":0}", "limit"),
        ("gossip", "{}", "is no question"),
        ("\u{7}", "{}", "is no question"),
    ] {
        let (status, problem) = ask(&client, &answers, subject, body);
        assert!(
            status == 400 && problem.contains(expected),
            "{subject} {body}: {status} {problem}"
        );
    }
    client.refuses_unasked(406, Level::Channel, |channel| {
        channel.publish_with(QUERY, "message", "{}", BasicProperties::default());
    });
    let client = broker.client();
    let _answers = listen(&client);
    client.refuses_unasked(406, Level::Channel, |channel| {
        channel.publish_with(QUERY, "message", "x".repeat(70_000), asking("too large"));
    });
}
