//! Virtual hosts: separate from each other, closed to strangers, gone for good when deleted.

use end_to_end::{
    Broker, Client, Level, Session,
    broker::is_external,
    client::block,
    raw::{Args, Login, Raw},
    shared, skip, table, text, unique,
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};

/// The broker shared by this file; `None`, after naming the skipped test, if it is not wilco.
fn wilco_for(test: &str) -> Option<Session> {
    if is_external() {
        skip(test, "virtual hosts are managed with wilco's own commands");
        return None;
    }
    Some(shared())
}

/// Adds a virtual host in which guest may do everything.
#[track_caller]
fn add(broker: &Broker, vhost: &str) {
    broker.manage(&["vhost", "add", vhost]);
    broker.manage(&["permission", "set", vhost, "guest", ".*", ".*", ".*"]);
}

#[track_caller]
fn enter(broker: &Broker, vhost: &str) -> Client {
    let client = Client::connect(&format!("amqp://guest:guest@{}/{vhost}", broker.address()));
    client.confirm_select();
    client
}

/// The code and text with which guest is refused.
#[track_caller]
fn refused_at(broker: &Broker, vhost: &str) -> (u16, String) {
    let mut raw = Raw::connect(broker.address());
    match raw.login(&Login { vhost, ..Login::default() }) {
        Err(Some(close)) if close.is(10, 50) => (close.reply_code(), close.reply_text()),
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn has_no_queue(client: &Client, name: &str) {
    client.refuses(404, Level::Channel, |channel| {
        let options = QueueDeclareOptions::default().passive();
        channel.try_declare(name, options, FieldTable::default())
    });
}

#[track_caller]
fn persist(client: &Client, exchange: &str, key: &str, body: &str) {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = client.send(exchange, key, body, properties, false);
    assert!(block(confirm).expect("a confirm").is_ack());
}

#[test]
fn queues_of_one_name_in_two_virtual_hosts_are_apart() {
    let test = "queues_of_one_name_in_two_virtual_hosts_are_apart";
    let Some(broker) = wilco_for(test) else { return };
    let [one, two] = ["one", "two"].map(unique);
    add(&broker, &one);
    add(&broker, &two);
    let [one, two] = [one, two].map(|vhost| enter(&broker, &vhost));
    let queue = one.queue("q", FieldTable::default());
    has_no_queue(&two, &queue);
    // Not even the arguments need to be the same.
    two.declare(&queue, table([("x-queue-type", text("quorum"))]));
    one.bind(&queue, "amq.direct", "key");
    let consumer = two.consume(&queue);
    one.confirmed("", &queue, "of one");
    one.confirmed("amq.direct", "key", "of one");
    two.confirmed("amq.direct", "key", "not bound here");
    consumer.quiet();
    two.confirmed("", &queue, "of two");
    assert_eq!(consumer.bodies(1), ["of two"]);
    assert_eq!(one.drain(&queue), ["of one", "of one"]);
    one.delete(&queue);
    two.passive(&queue);
    has_no_queue(&one, &queue);
    has_no_queue(&broker.client(), &queue);
}

#[test]
fn exchanges_of_one_name_in_two_virtual_hosts_are_apart() {
    let test = "exchanges_of_one_name_in_two_virtual_hosts_are_apart";
    let Some(broker) = wilco_for(test) else { return };
    let [one, two] = ["one", "two"].map(unique);
    add(&broker, &one);
    add(&broker, &two);
    let [one, two] = [one, two].map(|vhost| enter(&broker, &vhost));
    let exchange = one.exchange(ExchangeKind::Fanout, FieldTable::default());
    let options = ExchangeDeclareOptions::default();
    two.try_exchange(&exchange, ExchangeKind::Topic, options, FieldTable::default())
        .expect("an exchange of another type");
    let queue = one.queue("q", FieldTable::default());
    two.declare(&queue, FieldTable::default());
    one.bind(&queue, &exchange, "");
    two.bind(&queue, &exchange, "a.*");
    one.confirmed(&exchange, "anything", "of one");
    two.confirmed(&exchange, "anything", "lost");
    two.confirmed(&exchange, "a.b", "of two");
    assert_eq!(one.drain(&queue), ["of one"]);
    assert_eq!(two.drain(&queue), ["of two"]);
}

#[test]
fn unknown_virtual_host_is_refused() {
    let broker = shared();
    let (code, text) = refused_at(&broker, "nowhere");
    assert_eq!(code, 530, "{text}");
    assert!(text.contains("nowhere"), "{text}");
}

#[test]
fn virtual_host_is_closed_to_whom_it_was_not_opened() {
    let test = "virtual_host_is_closed_to_whom_it_was_not_opened";
    let Some(broker) = wilco_for(test) else { return };
    let vhost = unique("vhost");
    broker.manage(&["vhost", "add", &vhost]);
    let (code, text) = refused_at(&broker, &vhost);
    assert_eq!(code, 530, "{text}");
    assert!(text.contains(&vhost) && text.contains("guest"), "{text}");
    // Even empty permissions are permission to enter.
    broker.manage(&["permission", "set", &vhost, "guest", "", "", ""]);
    let client = enter(&broker, &vhost);
    client.refuses(403, Level::Channel, |channel| {
        channel.try_declare("q", QueueDeclareOptions::durable(), FieldTable::default())
    });
    broker.manage(&["permission", "clear", &vhost, "guest"]);
    assert_eq!(refused_at(&broker, &vhost).0, 530);
}

#[test]
fn deleted_virtual_host_is_gone_with_all_it_had_and_stays_gone() {
    let test = "deleted_virtual_host_is_gone_with_all_it_had_and_stays_gone";
    let Some(mut broker) = Broker::own(test) else { return };
    let [kept, lost] = ["kept", "lost"].map(unique);
    add(&broker, &kept);
    add(&broker, &lost);
    for vhost in [&kept, &lost] {
        let client = enter(&broker, vhost);
        client.declare("q", FieldTable::default());
        client.declare("quorum", table([("x-queue-type", text("quorum"))]));
        client.bind("q", "amq.fanout", "");
        for queue in ["q", "quorum"] {
            persist(&client, "", queue, vhost);
        }
    }
    broker.manage(&["vhost", "delete", &lost]);
    assert_eq!(refused_at(&broker, &lost).0, 530);

    for graceful in [true, false] {
        if graceful {
            assert!(broker.stop().success());
        } else {
            broker.kill_nine();
        }
        broker.start();
        assert_eq!(refused_at(&broker, &lost).0, 530);
        let client = enter(&broker, &kept);
        assert_eq!((client.ready_count("q"), client.ready_count("quorum")), (1, 1));
    }

    // A new virtual host of the same name begins empty, now and after another start.
    broker.manage(&["vhost", "add", &lost]);
    assert_eq!(refused_at(&broker, &lost).0, 530, "permissions went too");
    broker.manage(&["permission", "set", &lost, "guest", ".*", ".*", ".*"]);
    let client = enter(&broker, &lost);
    has_no_queue(&client, "quorum");
    client.declare("q", FieldTable::default());
    persist(&client, "amq.fanout", "", "unroutable: the binding went too");
    assert_eq!(client.ready_count("q"), 0);
    drop(client);
    broker.restart();
    let client = enter(&broker, &lost);
    assert_eq!(client.ready_count("q"), 0);
    has_no_queue(&client, "quorum");
    assert_eq!(enter(&broker, &kept).drain("q"), [kept]);
}

#[test]
fn virtual_host_deleted_and_added_again_before_a_crash_is_empty() {
    let test = "virtual_host_deleted_and_added_again_before_a_crash_is_empty";
    let Some(mut broker) = Broker::own(test) else { return };
    add(&broker, "again");
    let client = enter(&broker, "again");
    for queue in ["q", "other"] {
        client.declare(queue, FieldTable::default());
        persist(&client, "", queue, "old");
    }
    broker.manage(&["vhost", "delete", "again"]);
    add(&broker, "again");
    let client = enter(&broker, "again");
    client.declare("q", FieldTable::default());
    persist(&client, "", "q", "new");
    broker.restart();
    let client = enter(&broker, "again");
    assert_eq!(client.drain("q"), ["new"]);
    has_no_queue(&client, "other");
}

#[test]
fn deleting_a_virtual_host_ends_its_connections_and_nobody_else_notices() {
    let test = "deleting_a_virtual_host_ends_its_connections_and_nobody_else_notices";
    let Some(broker) = wilco_for(test) else { return };
    let vhost = unique("vhost");
    add(&broker, &vhost);
    let mut bystander = end_to_end::Bystander::new(&broker);
    let client = enter(&broker, &vhost);
    let queue = client.queue("q", FieldTable::default());
    let consumer = client.consume(&queue);
    client.confirmed("", &queue, "unsettled");
    drop(consumer.next());
    broker.manage(&["vhost", "delete", &vhost]);
    client.is_closed();
    assert_eq!(refused_at(&broker, &vhost).0, 530);
    bystander.still_works();
}

#[test]
fn nothing_declared_in_a_deleted_virtual_host_comes_back() {
    let test = "nothing_declared_in_a_deleted_virtual_host_comes_back";
    let Some(mut broker) = Broker::own(test) else { return };
    add(&broker, "lost");
    let left = [(); 2].map(|()| enter_raw(&broker, "lost"));
    broker.manage(&["vhost", "delete", "lost"]);
    declare_ghosts(left);
    broker.restart();
    assert_eq!(refused_at(&broker, "lost").0, 530);
    add(&broker, "lost");
    has_no_ghosts(&broker, "lost");
    broker.restart();
    has_no_ghosts(&broker, "lost");
}

#[test]
fn nothing_declared_in_a_deleted_virtual_host_comes_to_its_namesake() {
    let test = "nothing_declared_in_a_deleted_virtual_host_comes_to_its_namesake";
    let Some(mut broker) = Broker::own(test) else { return };
    add(&broker, "again");
    let left = [(); 2].map(|()| enter_raw(&broker, "again"));
    broker.manage(&["vhost", "delete", "again"]);
    add(&broker, "again");
    let client = enter(&broker, "again");
    client.declare("q", FieldTable::default());
    persist(&client, "", "q", "kept");
    declare_ghosts(left);
    has_no_ghosts(&broker, "again");
    broker.restart();
    has_no_ghosts(&broker, "again");
    assert_eq!(enter(&broker, "again").drain("q"), ["kept"]);
}

#[test]
fn connection_of_a_deleted_virtual_host_does_no_harm_to_its_namesake() {
    let test = "connection_of_a_deleted_virtual_host_does_no_harm_to_its_namesake";
    let Some(mut broker) = Broker::own(test) else { return };
    add(&broker, "again");
    let [left, left_too] = [(); 2].map(|()| enter(&broker, "again"));
    let exchange = left.exchange(ExchangeKind::Fanout, FieldTable::default());
    broker.manage(&["vhost", "delete", "again"]);
    add(&broker, "again");
    let client = enter(&broker, "again");
    client.declare("q", FieldTable::default());
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    client
        .try_exchange(&exchange, ExchangeKind::Fanout, options, FieldTable::default())
        .expect("an exchange");
    client.bind("q", &exchange, "");
    persist(&client, "", "q", "kept");
    // What the old ones still had under way comes to nothing.
    drop((left, left_too));
    broker.restart();
    let client = enter(&broker, "again");
    persist(&client, &exchange, "", "bound");
    assert_eq!(client.drain("q"), ["kept", "bound"]);
}

fn enter_raw(broker: &Broker, vhost: &str) -> Raw {
    let mut raw = Raw::connect(broker.address());
    raw.login(&Login { vhost, ..Login::default() }).expect("a handshake");
    raw
}

/// Declares a queue and an exchange on connections whose virtual host is gone: the connections are
/// closed.
fn declare_ghosts([mut for_queue, mut for_exchange]: [Raw; 2]) {
    let none = Args::new();
    let queue = Args::new().u16(0).short("ghost").u8(0b10).table(&none);
    let exchange = Args::new().u16(0).short("ghost").short("fanout").u8(0b10).table(&none);
    for (raw, class, arguments) in [(&mut for_queue, 50, queue), (&mut for_exchange, 40, exchange)]
    {
        raw.method(1, 20, 10, &Args::new().short(""));
        raw.method(1, class, 10, &arguments);
        let answer = raw.next_frame().expect("an answer");
        assert!(answer.is(10, 50), "connection.close, not {answer:?}");
        assert_eq!(answer.reply_code(), 320);
    }
}

#[track_caller]
fn has_no_ghosts(broker: &Broker, vhost: &str) {
    let client = enter(broker, vhost);
    has_no_queue(&client, "ghost");
    client.refuses(404, Level::Channel, |channel| {
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        channel.try_exchange("ghost", ExchangeKind::Fanout, passive, FieldTable::default())
    });
}

#[test]
fn durable_things_of_a_virtual_host_survive_kill_nine() {
    let test = "durable_things_of_a_virtual_host_survive_kill_nine";
    let Some(mut broker) = Broker::own(test) else { return };
    let vhosts = ["one", "two"].map(unique);
    for vhost in &vhosts {
        add(&broker, vhost);
        let client = enter(&broker, vhost);
        client.declare("q", FieldTable::default());
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        client
            .try_exchange("exchange", ExchangeKind::Topic, options, FieldTable::default())
            .expect("an exchange");
        client.bind("q", "exchange", &format!("{vhost}.#"));
        persist(&client, "exchange", &format!("{vhost}.key"), vhost);
    }
    broker.restart();
    for vhost in &vhosts {
        let client = enter(&broker, vhost);
        for key in &vhosts {
            persist(&client, "exchange", &format!("{key}.key"), &format!("more {key}"));
        }
        assert_eq!(client.drain("q"), [vhost.clone(), format!("more {vhost}")]);
    }
    has_no_queue(&broker.client(), "q");
}
