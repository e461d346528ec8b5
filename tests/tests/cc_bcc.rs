//! Further routing keys in the headers CC and BCC.

use end_to_end::{
    Level,
    client::block,
    int, shared,
    table::{string, table, text, texts},
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

fn with(headers: FieldTable) -> BasicProperties {
    BasicProperties::default().with_headers(headers)
}

#[test]
fn cc_and_bcc_route_like_the_routing_key() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let [to, cc_1, cc_2, bcc] = [(); 4].map(|()| client.queue("q", FieldTable::default()));
    let headers = table([("CC", texts(&[&cc_1, &cc_2])), ("BCC", texts(&[&bcc]))]);
    block(client.send("", &to, "m", with(headers), false)).expect("a confirm");
    for queue in [&to, &cc_1, &cc_2, &bcc] {
        let message = client.take(queue).expect("a copy");
        assert_eq!(message.routing_key.as_str(), to, "the routing key stays the first one");
    }
}

#[test]
fn receivers_see_cc_but_not_bcc() {
    let broker = shared();
    let client = broker.client();
    let [to, bcc] = [(); 2].map(|()| client.queue("q", FieldTable::default()));
    let headers = table([("CC", texts(&["other"])), ("BCC", texts(&[&bcc])), ("mine", int(1))]);
    client.publish_with("", &to, "m", with(headers));
    for queue in [&to, &bcc] {
        let message = client.take_soon(queue);
        let headers = message.properties.headers().as_ref().expect("headers");
        assert!(!headers.contains_key("BCC"));
        assert_eq!(headers.inner()["mine"], int(1));
        let AMQPValue::FieldArray(cc) = &headers.inner()["CC"] else { panic!("CC is an array") };
        assert_eq!(cc.as_slice().iter().filter_map(string).collect::<Vec<_>>(), ["other"]);
    }
}

#[test]
fn queue_named_twice_gets_one_copy() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    let headers = table([("CC", texts(&[&queue])), ("BCC", texts(&[&queue]))]);
    block(client.send("", &queue, "once", with(headers), false)).expect("a confirm");
    assert_eq!(client.drain(&queue), ["once"]);
}

#[test]
fn cc_makes_a_mandatory_message_routable() {
    let broker = shared();
    let client = broker.client();
    client.confirm_select();
    let queue = client.queue("q", FieldTable::default());
    let headers = table([("CC", texts(&[&queue]))]);
    let confirm = client.send("", "nowhere at all", "m", with(headers), true);
    assert!(block(confirm).expect("a confirm").take_message().is_none());
    assert_eq!(client.drain(&queue), ["m"]);
}

#[test]
fn cc_that_is_no_array_is_refused() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    for name in ["CC", "BCC"] {
        client.refuses(406, Level::Channel, |channel| {
            channel.confirm_select();
            let headers = table([(name, text("not an array"))]);
            block(channel.send("", &queue, "m", with(headers), false))
        });
    }
}
