//! What users may do and see, and that it ends when they may no longer.

mod rig;

use amqp::{FieldTable, FieldValue, OwnedProperties};
use node::definitions::Permissions;
use node::{DeclareQueue, Destination, Limits, Node, Publish, Session};
use rig::{Inbox, Rig};

fn add_user(node: &Node, name: &str, [configure, write, read]: [&str; 3]) {
    // No change waits for the disk: nobody commits here.
    node.add_user(name, "password", &[]).expect("added");
    let permissions =
        Permissions { configure: configure.into(), write: write.into(), read: read.into() };
    node.set_permissions("/", name, permissions).expect("set");
}

fn open(node: &Node, user: &str) -> Session {
    let mut session = node.open_session("/", user, Box::<Inbox>::default()).expect("may enter");
    session.open_channel(1).expect("new");
    session
}

fn publish(
    session: &mut Session,
    exchange: &str,
    key: &str,
    id: Option<&str>,
) -> Result<(), String> {
    let mut properties = Vec::new();
    let message_id = id.map(Into::into);
    OwnedProperties { message_id, ..OwnedProperties::default() }.encode(&mut properties);
    let publish = Publish {
        exchange,
        routing_key: key.into(),
        mandatory: false,
        properties: &properties,
        body: b"x",
    };
    session.publish(1, &publish).map_err(|error| error.to_string())?;
    match session.flush().pop() {
        Some((_, error)) => Err(error.to_string()),
        None => Ok(()),
    }
}

#[test]
fn a_session_ends_with_its_user_or_its_permissions_and_others_go_on() {
    let rig = Rig::new(1 << 20);
    type Lose = fn(&Node);
    let losses: [(&str, Lose); 3] = [
        ("deleted", |node| node.delete_user("anna").expect("deleted")),
        ("cleared", |node| node.clear_permissions("/", "anna").expect("cleared")),
        ("another of that name", |node| {
            node.delete_user("anna").expect("deleted");
            add_user(node, "anna", [".*"; 3]);
        }),
    ];
    for (what, lose) in losses {
        add_user(&rig.node, "anna", [".*"; 3]);
        let (mut annas, mut guests) = (open(&rig.node, "anna"), open(&rig.node, "guest"));
        assert_eq!(annas.check_not_ended().map_err(|error| error.to_string()), Ok(()));
        annas.outbox().take_dirty();
        lose(&rig.node);
        assert!(annas.outbox().take_dirty(), "{what}: its owner is woken");
        let text = annas.check_not_ended().expect_err(what).reply_text().to_string();
        assert!(text.starts_with("CONNECTION_FORCED - user 'anna'"), "{text}");
        assert!(annas.declare_queue("q", &DeclareQueue::default()).is_err(), "{what}");
        assert!(guests.declare_queue("q", &DeclareQueue::default()).is_ok(), "{what}");
        drop(annas);
        let _ = rig.node.delete_user("anna");
    }
}

#[test]
fn a_login_is_for_the_user_it_was_checked_for() {
    let rig = Rig::new(1 << 20);
    add_user(&rig.node, "anna", [".*"; 3]);
    let old = rig.node.identity("anna").expect("she is there");
    rig.node.delete_user("anna").expect("deleted");
    add_user(&rig.node, "anna", [".*"; 3]);
    let open = |who| rig.node.open_session_as("/", who, Box::<Inbox>::default()).map(drop);
    assert!(open(&old).is_err(), "another has her name");
    assert!(open(&rig.node.identity("anna").expect("she is there")).is_ok());
}

#[test]
fn a_user_has_as_many_connections_as_the_limit_says() {
    let mut options = Rig::new(1 << 20).options;
    options.limits = Limits { connections_per_user_max: 2, ..options.limits };
    let node = Node::open_on(segment_log::FaultyDisk::new(1), options).expect("an empty disk");
    add_user(&node, "anna", [".*"; 3]);
    let connect = |user: &str| {
        let who = node.identity(user).expect("a user");
        let opened = node.open_connection("/", &who, Box::<Inbox>::default());
        opened.map_err(|error| error.to_string())
    };
    let mut annas = vec![connect("anna").expect("one"), connect("anna").expect("two")];
    let text = connect("anna").map(drop).expect_err("three");
    assert!(text.contains("limits.connections_per_user_max"), "{text}");
    assert!(connect("guest").is_ok(), "another user");
    annas.pop();
    assert!(connect("anna").is_ok());
}

#[test]
fn one_users_transactions_take_half_of_the_memory_at_most() {
    let mut options = Rig::new(1 << 20).options;
    options.limits = Limits {
        memory_bytes_max: 4 << 20,
        message_bytes_max: 1 << 10,
        connection_unfinished_bytes_max: 1 << 40,
        ..options.limits
    };
    // All may have 16 MiB and one message: what a small limit leaves at least.
    let node = Node::open_on(segment_log::FaultyDisk::new(1), options).expect("an empty disk");
    add_user(&node, "anna", [".*"; 3]);
    let fill = |user: &str| {
        let mut sessions = Vec::new();
        let mut taken = 0_u64;
        let text = loop {
            let mut session = open(&node, user);
            let result = session.take_unfinished(1 << 20);
            sessions.push(session);
            match result {
                Ok(()) => taken += 1 << 20,
                Err(error) => break error.to_string(),
            }
        };
        (sessions, taken, text)
    };
    let (annas, of_anna, text) = fill("anna");
    assert!(text.contains("of user 'anna'"), "{text}");
    let (guests, of_guest, _) = fill("guest");
    assert!(of_guest * 4 >= of_anna * 3, "anna has {of_anna}, guest {of_guest}");
    drop((annas, guests));
    assert_eq!(fill("anna").1, of_anna, "all of it came back");
}

#[test]
fn permissions_are_looked_at_again_at_the_commit() {
    let rig = Rig::new(1 << 20);
    add_user(&rig.node, "anna", [".*"; 3]);
    let mut annas = open(&rig.node, "anna");
    annas.select_transactions(1).expect("new");
    annas.declare_queue("q", &DeclareQueue::default()).expect("new");
    publish(&mut annas, "", "q", None).expect("may publish");
    annas.commit(1).expect("nothing has changed");
    publish(&mut annas, "", "q", None).expect("may still publish");
    let only_read = Permissions { read: ".*".into(), ..Permissions::default() };
    rig.node.set_permissions("/", "anna", only_read).expect("set");
    let error = annas.commit(1).expect_err("may not publish any more").to_string();
    assert!(error.contains("write access to exchange 'amq.default'"), "{error}");
    annas.close_channel(1).expect("open");
    assert_eq!(rig.node.message_count(), 1, "nothing of the second was carried out");
}

/// A queue that only its owner reads is sent what the owner may see.
#[test]
fn a_watcher_of_its_own_queue_sees_what_its_user_may_read() {
    let rig = Rig::new(1 << 20);
    add_user(&rig.node, "anna", ["^anna", "^anna", "^(anna|open|amq.wilco)"]);
    let mut guests = open(&rig.node, "guest");
    for queue in ["open", "secret"] {
        guests.declare_queue(queue, &DeclareQueue::default()).expect("new");
    }
    let mut annas = open(&rig.node, "anna");
    let options = DeclareQueue { exclusive: true, ..DeclareQueue::default() };
    annas.declare_queue("anna-watch", &options).expect("new");
    let to = Destination::queue("anna-watch");
    annas.bind("amq.wilco.outcomes", &to, "#", &FieldTable::new()).expect("may bind");
    for (exchange, key) in [("", "open"), ("", "secret"), ("amq.topic", "nowhere")] {
        publish(&mut guests, exchange, key, Some("id")).expect("may publish");
    }
    for queue in ["open", "secret"] {
        guests.purge_queue(queue).expect("there");
    }
    rig.commit();
    let passive = DeclareQueue { passive: true, ..DeclareQueue::default() };
    let count = annas.declare_queue("anna-watch", &passive).expect("hers").message_count;
    assert_eq!(count, 1, "the outcome in 'open' only");
}

#[test]
fn a_queue_asks_only_for_what_is_addressed_to_it() {
    let rig = Rig::new(1 << 20);
    let mut guests = open(&rig.node, "guest");
    let mut arguments = FieldTable::new();
    arguments.insert("x-deadline", FieldValue::I64(1));
    arguments.insert("x-confirm-on", "ack");
    let options = DeclareQueue { arguments, ..DeclareQueue::default() };
    guests.declare_queue("asks", &options).expect("new");
    guests.bind("amq.topic", &Destination::queue("asks"), "#", &FieldTable::new()).expect("bound");
    publish(&mut guests, "amq.topic", "k", Some("shared")).expect("published");
    publish(&mut guests, "", "asks", Some("named")).expect("published");
    rig.pass_ms(10);
    rig.maintain(3);
    let outcomes = |id: &str| {
        let events = rig.node.events_told("/", id).expect("known");
        events.iter().filter(|event| matches!(event.what, outcome::What::Settled(_))).count()
    };
    assert_eq!((outcomes("shared"), outcomes("named")), (0, 1));
}
