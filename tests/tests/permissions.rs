//! Users and permissions, as the commands set them on a running broker or in a stopped store.

use end_to_end::{
    Broker, Channel, Client, Level, Session,
    broker::is_external,
    client::block,
    raw::{Login, Raw},
    shared, skip, table, text, unique,
};
use lapin::{
    ExchangeKind,
    options::{
        BasicConsumeOptions, ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        ExchangeUnbindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};

/// The broker shared by this file; `None`, after naming the skipped test, if it is not wilco.
fn wilco_for(test: &str) -> Option<Session> {
    if is_external() {
        skip(test, "users are managed with wilco's own commands");
        return None;
    }
    Some(shared())
}

#[track_caller]
fn permit(broker: &Broker, user: &str, [configure, write, read]: [&str; 3]) {
    broker.manage(&["permission", "set", "/", user, configure, write, read]);
}

fn add_user(broker: &Broker, permissions: [&str; 3]) -> String {
    let user = unique("anna");
    broker.manage(&["user", "add", &user, "--password", "secret"]);
    permit(broker, &user, permissions);
    user
}

fn uri(broker: &Broker, user: &str) -> String {
    format!("amqp://{user}:secret@{}/%2f", broker.address())
}

/// A connection of a new user with these permissions.
fn somebody(broker: &Broker, permissions: [&str; 3]) -> Client {
    Client::connect(&uri(broker, &add_user(broker, permissions)))
}

/// `Err` has the code with which the login was refused.
fn log_in(broker: &Broker, user: &str, password: &str) -> Result<(), u16> {
    let mut raw = Raw::connect(broker.address());
    let login = Login { user, password, ..Login::default() };
    match raw.login(&login) {
        Ok(_) => Ok(()),
        Err(Some(close)) if close.is(10, 50) => Err(close.reply_code()),
        Err(other) => panic!("neither let in nor refused: {other:?}"),
    }
}

/// Asserts that a call is refused for lack of `access`, such as `write access to exchange 'x'`.
#[track_caller]
fn needs<T>(client: &Client, access: &str, call: impl FnOnce(&Channel) -> lapin::Result<T>) {
    lacks(client, access, call(&client.open()));
}

/// As [`needs`], for the result of a call on a channel that was opened before.
#[track_caller]
fn lacks<T>(client: &Client, access: &str, result: lapin::Result<T>) {
    let refusal = client.refusal(result);
    assert_eq!((refusal.code, refusal.level), (403, Level::Channel), "{}", refusal.text);
    let start = format!("ACCESS_REFUSED - {access} in vhost '/' refused for user 'anna");
    assert!(refusal.text.starts_with(&start), "{:?} instead of {start:?}", refusal.text);
}

fn publish(channel: &Channel, exchange: &str, key: &str) -> lapin::Result<()> {
    channel.confirm_select();
    block(channel.send(exchange, key, "m", Default::default(), false)).map(drop)
}

fn declare(channel: &Channel, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
    channel.try_declare(queue, QueueDeclareOptions::durable(), arguments).map(drop)
}

fn exchange(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    channel.try_exchange(name, ExchangeKind::Fanout, ExchangeDeclareOptions::default(), arguments)
}

fn delete(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    block(channel.lapin().queue_delete(queue.into(), QueueDeleteOptions::default()))
}

fn purge(channel: &Channel, queue: &str) -> lapin::Result<u32> {
    block(channel.lapin().queue_purge(queue.into(), QueuePurgeOptions::default()))
}

fn unbind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let none = FieldTable::default();
    block(channel.lapin().queue_unbind(queue.into(), exchange.into(), key.into(), none))
}

fn link(channel: &Channel, destination: &str, source: &str) -> lapin::Result<()> {
    let (options, none) = (ExchangeBindOptions::default(), FieldTable::default());
    let (destination, source) = (destination.into(), source.into());
    block(channel.lapin().exchange_bind(destination, source, "".into(), options, none))
}

fn unlink(channel: &Channel, destination: &str, source: &str) -> lapin::Result<()> {
    let (options, none) = (ExchangeUnbindOptions::default(), FieldTable::default());
    let (destination, source) = (destination.into(), source.into());
    block(channel.lapin().exchange_unbind(destination, source, "".into(), options, none))
}

#[test]
fn declaring_and_deleting_need_configure() {
    let test = "declaring_and_deleting_need_configure";
    let Some(broker) = wilco_for(test) else { return };
    let guest = broker.client();
    let theirs = guest.queue("theirs", FieldTable::default());
    let their_exchange = guest.exchange(ExchangeKind::Fanout, FieldTable::default());
    let client = somebody(&broker, ["^mine", "", ""]);
    let mine = client.queue("mine", FieldTable::default());
    exchange(&client, &mine, FieldTable::default()).expect("an exchange");

    let [queue, other] = ["q", "not-mine"].map(unique);
    for name in [&queue, &other, &theirs] {
        needs(&client, &format!("configure access to queue '{name}'"), |channel| {
            declare(channel, name, FieldTable::default())
        });
    }
    let access = format!("configure access to exchange '{other}'");
    needs(&client, &access, |channel| exchange(channel, &other, FieldTable::default()));
    let access = format!("configure access to queue '{theirs}'");
    needs(&client, &access, |channel| delete(channel, &theirs));
    let access = format!("configure access to exchange '{their_exchange}'");
    needs(&client, &access, |channel| {
        let (name, options) = (their_exchange.as_str(), ExchangeDeleteOptions::default());
        block(channel.lapin().exchange_delete(name.into(), options))
    });

    // Looking needs no permission, and shows that nothing was deleted.
    client.passive(&theirs);
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    client
        .try_exchange(&their_exchange, ExchangeKind::Fanout, passive, FieldTable::default())
        .expect("the exchange is there");
    guest.refuses(404, Level::Channel, |channel| {
        let options = QueueDeclareOptions::default().passive();
        channel.try_declare(&queue, options, FieldTable::default())
    });
    client.delete(&mine);
}

#[test]
fn publishing_needs_write_on_the_exchange() {
    let Some(broker) = wilco_for("publishing_needs_write_on_the_exchange") else { return };
    let guest = broker.client();
    let queue = guest.queue("q", FieldTable::default());
    guest.bind(&queue, "amq.topic", &queue);
    guest.bind(&queue, "amq.direct", &queue);
    // Access to the queue is not access to the exchange.
    let client = somebody(&broker, [".*", &format!(r"^(amq\.topic|{queue})$"), ".*"]);
    needs(&client, "write access to exchange 'amq.direct'", |channel| {
        publish(channel, "amq.direct", &queue)
    });
    publish(&client, "amq.topic", &queue).expect("a confirm");
    assert_eq!(guest.drain(&queue), ["m"]);
}

#[test]
fn default_exchange_is_asked_for_as_amq_default() {
    let Some(broker) = wilco_for("default_exchange_is_asked_for_as_amq_default") else { return };
    let guest = broker.client();
    let queue = guest.queue("q", FieldTable::default());
    let outside = somebody(&broker, [".*", &format!("^({queue})?$"), ".*"]);
    needs(&outside, "write access to exchange 'amq.default'", |channel| {
        publish(channel, "", &queue)
    });
    let inside = somebody(&broker, ["", r"^amq\.default$", ""]);
    publish(&inside, "", &queue).expect("a confirm");
    assert_eq!(guest.drain(&queue), ["m"]);
}

#[test]
fn binding_needs_write_on_the_queue_and_read_on_the_exchange() {
    let test = "binding_needs_write_on_the_queue_and_read_on_the_exchange";
    let Some(broker) = wilco_for(test) else { return };
    let guest = broker.client();
    let [mine, theirs] = ["mine", "theirs"].map(|stem| guest.queue(stem, FieldTable::default()));
    guest.bind(&mine, "amq.direct", "kept");
    guest.bind(&theirs, "amq.topic", "kept");
    let client = somebody(&broker, ["", "^mine", r"^amq\.topic$"]);
    let bind = |channel: &Channel, queue: &str, exchange: &str| {
        channel.try_bind(queue, exchange, "key", FieldTable::default())
    };
    bind(&client, &mine, "amq.topic").expect("a binding");
    unbind(&client, &mine, "amq.topic", "key").expect("an unbinding");
    let write = format!("write access to queue '{theirs}'");
    needs(&client, &write, |channel| bind(channel, &theirs, "amq.topic"));
    needs(&client, &write, |channel| unbind(channel, &theirs, "amq.topic", "kept"));
    let read = "read access to exchange 'amq.direct'";
    needs(&client, read, |channel| bind(channel, &mine, "amq.direct"));
    needs(&client, read, |channel| unbind(channel, &mine, "amq.direct", "kept"));

    guest.confirm_select();
    for (exchange, queue) in [("amq.direct", &mine), ("amq.topic", &theirs)] {
        guest.confirmed(exchange, "key", "not bound");
        guest.confirmed(exchange, "kept", "still bound");
        assert_eq!(guest.drain(queue), ["still bound"]);
    }
}

#[test]
fn binding_exchanges_needs_write_on_the_destination_and_read_on_the_source() {
    let test = "binding_exchanges_needs_write_on_the_destination_and_read_on_the_source";
    let Some(broker) = wilco_for(test) else { return };
    let guest = broker.client();
    let [inner, outer] =
        [0, 1].map(|_| guest.exchange(ExchangeKind::Fanout, FieldTable::default()));
    let client = somebody(&broker, ["", &format!("^{inner}$"), &format!("^{outer}$")]);
    link(&client, &inner, &outer).expect("a binding");
    unlink(&client, &inner, &outer).expect("an unbinding");
    let write = format!("write access to exchange '{outer}'");
    needs(&client, &write, |channel| link(channel, &outer, &outer));
    needs(&client, &write, |channel| unlink(channel, &outer, &outer));
    let read = format!("read access to exchange '{inner}'");
    needs(&client, &read, |channel| link(channel, &inner, &inner));
    needs(&client, &read, |channel| unlink(channel, &inner, &inner));
}

#[test]
fn consuming_getting_and_purging_need_read() {
    let Some(broker) = wilco_for("consuming_getting_and_purging_need_read") else { return };
    let guest = broker.client();
    let [mine, theirs] = ["mine", "theirs"].map(|stem| guest.queue(stem, FieldTable::default()));
    guest.confirm_select();
    for queue in [&mine, &theirs] {
        for body in ["1", "2", "3"] {
            guest.confirmed("", queue, body);
        }
    }
    let client = somebody(&broker, [".*", ".*", "^mine"]);
    let access = format!("read access to queue '{theirs}'");
    needs(&client, &access, |channel| channel.try_get(&theirs, true));
    needs(&client, &access, |channel| {
        channel.try_consume(&theirs, BasicConsumeOptions::default(), FieldTable::default())
    });
    needs(&client, &access, |channel| purge(channel, &theirs));
    assert_eq!(guest.drain(&theirs), ["1", "2", "3"]);

    assert!(client.take(&mine).is_some());
    let consumer = client.consume(&mine);
    assert_eq!(consumer.bodies(2), ["2", "3"]);
    client.cancel(&consumer);
    assert_eq!(purge(&client, &mine).expect("a purge"), 0);
}

#[test]
fn dead_lettering_needs_read_on_the_queue_and_write_on_the_exchange() {
    let test = "dead_lettering_needs_read_on_the_queue_and_write_on_the_exchange";
    let Some(broker) = wilco_for(test) else { return };
    let to = |exchange: &str| table([("x-dead-letter-exchange", text(exchange))]);
    let client = somebody(&broker, [".*", r"^amq\.topic$", "^readable"]);
    let [readable, closed] = ["readable", "closed"].map(unique);
    needs(&client, "write access to exchange 'amq.direct'", |channel| {
        declare(channel, &readable, to("amq.direct"))
    });
    needs(&client, "write access to exchange 'amq.default'", |channel| {
        declare(channel, &readable, to(""))
    });
    needs(&client, &format!("read access to queue '{closed}'"), |channel| {
        declare(channel, &closed, to("amq.topic"))
    });
    for name in [&readable, &closed] {
        client.refuses(404, Level::Channel, |channel| {
            let options = QueueDeclareOptions::default().passive();
            channel.try_declare(name, options, FieldTable::default())
        });
    }
    client.declare(&readable, to("amq.topic"));
    client.declare(&closed, FieldTable::default());
}

#[test]
fn alternate_exchange_needs_read_on_the_exchange_and_write_on_the_alternate() {
    let test = "alternate_exchange_needs_read_on_the_exchange_and_write_on_the_alternate";
    let Some(broker) = wilco_for(test) else { return };
    let to = |exchange: &str| table([("alternate-exchange", text(exchange))]);
    let client = somebody(&broker, [".*", r"^amq\.topic$", "^readable"]);
    let [readable, closed] = ["readable", "closed"].map(unique);
    needs(&client, "write access to exchange 'amq.direct'", |channel| {
        exchange(channel, &readable, to("amq.direct"))
    });
    needs(&client, &format!("read access to exchange '{closed}'"), |channel| {
        exchange(channel, &closed, to("amq.topic"))
    });
    for name in [&readable, &closed] {
        client.refuses(404, Level::Channel, |channel| {
            let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
            channel.try_exchange(name, ExchangeKind::Fanout, passive, FieldTable::default())
        });
    }
    exchange(&client, &readable, to("amq.topic")).expect("an exchange");
    exchange(&client, &closed, FieldTable::default()).expect("an exchange");
}

#[test]
fn change_of_permissions_acts_on_a_live_channel() {
    let Some(broker) = wilco_for("change_of_permissions_acts_on_a_live_channel") else { return };
    let guest = broker.client();
    let queue = guest.queue("q", FieldTable::default());
    guest.bind(&queue, "amq.direct", &queue);
    let user = add_user(&broker, ["", ".*", ".*"]);
    let client = Client::connect(&uri(&broker, &user));
    let [publisher, reader] = [client.open(), client.open()];
    publisher.confirm_select();
    // More than once, so that a cached decision would be used.
    for _ in 0..3 {
        publisher.confirmed("amq.direct", &queue, "m");
        assert!(reader.take(&queue).is_some());
    }
    permit(&broker, &user, ["", "", ""]);
    let sent = publisher.send("amq.direct", &queue, "m", Default::default(), false);
    lacks(&client, "write access to exchange 'amq.direct'", block(sent));
    let access = format!("read access to queue '{queue}'");
    lacks(&client, &access, reader.try_get(&queue, true));
    assert_eq!(guest.ready_count(&queue), 0);

    permit(&broker, &user, ["^new", ".*", ".*"]);
    publish(&client.open(), "amq.direct", &queue).expect("a confirm");
    assert!(client.take(&queue).is_some());
    client.queue("new", FieldTable::default());
}

#[test]
fn cleared_permissions_end_a_connection() {
    let test = "cleared_permissions_end_a_connection";
    let Some(broker) = wilco_for(test) else { return };
    let user = add_user(&broker, [".*", ".*", ".*"]);
    let client = Client::connect(&uri(&broker, &user));
    client.refuses_unasked(320, Level::Connection, |_| {
        broker.manage(&["permission", "clear", "/", &user]);
    });
    assert_eq!(log_in(&broker, &user, "secret"), Err(530));
}

#[test]
fn new_password_works_at_once_and_the_old_one_does_not() {
    let test = "new_password_works_at_once_and_the_old_one_does_not";
    let Some(broker) = wilco_for(test) else { return };
    let user = add_user(&broker, [".*", ".*", ".*"]);
    let client = Client::connect(&uri(&broker, &user));
    assert_eq!(log_in(&broker, &user, "secret"), Ok(()));
    broker.manage(&["user", "passwd", &user, "--password", "changed"]);
    assert_eq!(log_in(&broker, &user, "secret"), Err(403));
    assert_eq!(log_in(&broker, &user, "changed"), Ok(()));
    client.queue("still-connected", FieldTable::default());
}

#[test]
fn deleted_user_is_out_and_cannot_log_in() {
    let test = "deleted_user_is_out_and_cannot_log_in";
    let Some(broker) = wilco_for(test) else { return };
    let user = add_user(&broker, [".*", ".*", ".*"]);
    let client = Client::connect(&uri(&broker, &user));
    client.refuses_unasked(320, Level::Connection, |_| {
        broker.manage(&["user", "delete", &user]);
    });
    assert_eq!(log_in(&broker, &user, "secret"), Err(403));

    // A new user of the same name has none of what the deleted user had.
    broker.manage(&["user", "add", &user, "--password", "other"]);
    assert_eq!(log_in(&broker, &user, "secret"), Err(403));
    assert_eq!(log_in(&broker, &user, "other"), Err(530));
}

#[test]
fn guest_is_let_in_from_this_machine_and_strangers_are_not() {
    let broker = shared();
    assert_eq!(log_in(&broker, "guest", "guest"), Ok(()));
    for (user, password) in [("guest", "wrong"), ("guest", ""), ("nobody", "guest"), ("", "")] {
        assert_eq!(log_in(&broker, user, password), Err(403), "{user}:{password}");
    }
}

#[test]
fn commands_that_cannot_be_done_say_why_and_change_nothing() {
    let test = "commands_that_cannot_be_done_say_why_and_change_nothing";
    let Some(broker) = wilco_for(test) else { return };
    let user = add_user(&broker, [".*", ".*", ".*"]);
    let absent = unique("absent");
    for arguments in [
        ["user", "add", &user, "--password", "other"].as_slice(),
        &["user", "add", &absent, "--password", ""],
        &["user", "passwd", &absent, "--password", "other"],
        &["user", "delete", &absent],
        &["vhost", "add", "/"],
        &["vhost", "delete", &absent],
        &["permission", "set", "/", &absent, ".*", ".*", ".*"],
        &["permission", "set", &absent, &user, ".*", ".*", ".*"],
        &["permission", "set", "/", &user, "", "(", ""],
        &["permission", "clear", "/", &absent],
    ] {
        let output = broker.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let client = Client::connect(&uri(&broker, &user));
    let queue = client.queue("q", FieldTable::default());
    publish(&client, "", &queue).expect("a confirm");
    assert_eq!(log_in(&broker, &absent, "other"), Err(403));
}

#[test]
fn commands_on_a_stopped_store_are_there_after_the_start() {
    let test = "commands_on_a_stopped_store_are_there_after_the_start";
    let Some(mut broker) = Broker::own(test) else { return };
    let kept = add_user(&broker, ["^mine", "", ""]);
    let deleted = add_user(&broker, [".*", ".*", ".*"]);
    for graceful in [true, false] {
        if graceful {
            broker.stop();
        } else {
            broker.kill_nine();
        }
        let vhost = unique("vhost");
        let user = add_user(&broker, ["^mine", "", ""]);
        broker.manage(&["vhost", "add", &vhost]);
        broker.manage(&["permission", "set", &vhost, &user, ".*", ".*", ".*"]);
        broker.manage(&["user", "passwd", &kept, "--password", &vhost]);
        if graceful {
            broker.manage(&["user", "delete", &deleted]);
        }
        let listed = broker.run(&["user", "list", "--json"]).stdout;
        let listed = String::from_utf8_lossy(&listed);
        assert!(listed.contains(&user) && listed.contains(&kept), "{listed}");
        assert!(!listed.contains(&deleted), "{listed}");
        broker.start();

        let client = Client::connect(&uri(&broker, &user));
        client.queue("mine", FieldTable::default());
        needs(&client, "configure access to queue 'theirs'", |channel| {
            declare(channel, "theirs", FieldTable::default())
        });
        let there = format!("amqp://{user}:secret@{}/{vhost}", broker.address());
        Client::connect(&there).queue("theirs", FieldTable::default());
        assert_eq!(log_in(&broker, &kept, "secret"), Err(403));
        assert_eq!(log_in(&broker, &kept, &vhost), Ok(()));
        assert_eq!(log_in(&broker, &deleted, "secret"), Err(403));
        assert_eq!(log_in(&broker, "guest", "guest"), Ok(()));
    }
}

#[test]
fn commands_on_a_running_broker_survive_its_death() {
    let test = "commands_on_a_running_broker_survive_its_death";
    let Some(mut broker) = Broker::own(test) else { return };
    for _ in 0..3 {
        let user = add_user(&broker, [".*", ".*", ".*"]);
        let other = add_user(&broker, [".*", ".*", ".*"]);
        broker.manage(&["user", "passwd", &user, "--password", "changed"]);
        broker.manage(&["user", "delete", &other]);
        permit(&broker, &user, ["^mine", "", ""]);
        broker.restart();
        assert_eq!(log_in(&broker, &user, "secret"), Err(403));
        assert_eq!(log_in(&broker, &other, "secret"), Err(403));
        let changed = format!("amqp://{user}:changed@{}/%2f", broker.address());
        let client = Client::connect(&changed);
        client.queue("mine", FieldTable::default());
        needs(&client, "configure access to queue 'theirs'", |channel| {
            declare(channel, "theirs", FieldTable::default())
        });
    }
}
