//! The user-id property must match the connected user.

use end_to_end::{Level, client::block, shared};
use lapin::{BasicProperties, types::FieldTable};

#[test]
fn own_name_passes_and_is_delivered() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    let properties = BasicProperties::default().with_user_id("guest".into());
    client.publish_with("", &queue, "m", properties);
    let message = client.take_soon(&queue);
    assert_eq!(message.properties.user_id().as_ref().map(|user| user.as_str()), Some("guest"));
}

#[test]
fn another_name_closes_the_channel() {
    let broker = shared();
    let client = broker.client();
    let queue = client.queue("q", FieldTable::default());
    client.refuses(406, Level::Channel, |channel| {
        channel.confirm_select();
        let properties = BasicProperties::default().with_user_id("somebody".into());
        block(channel.send("", &queue, "m", properties, false))
    });
    assert_eq!(client.ready_count(&queue), 0);
}
