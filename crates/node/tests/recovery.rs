//! What is found at the start: messages, definitions, users, damage.

mod rig;

use amqp::{FieldTable, OwnedProperties};
use node::definitions::{Change, DefinitionStore, Permissions, StoredBinding};
use node::{DeclareExchange, DeclareQueue, Destination, NodeError, Publish};
use outcome::What;
use segment_log::Disk;

use rig::{Rig, bodies};

fn as_strs(bodies: &[String]) -> Vec<&str> {
    bodies.iter().map(String::as_str).collect()
}

#[test]
fn the_summary_counts_what_is_there() {
    let mut rig = Rig::new(4096);
    let mut client = rig.client();
    client.declare("a", &[]);
    client.declare("b", &[]);
    let transient = DeclareQueue::default();
    client.session.declare_queue("transient", &transient).expect("a new name");
    client.publish("", "a", &["1", "2", "3"]);
    client.publish("", "b", &["4"]);
    client.publish("", "transient", &["5"]);
    let got = client.get("a").expect("one of three");
    client.ack(&got);
    rig.commit();
    assert_eq!(rig.node.recovered().message_count, 0, "the first start found nothing");
    drop(client);
    rig.crash();
    let summary = rig.node.recovered();
    assert_eq!((summary.message_count, summary.queue_count), (3, 2));
    assert!(summary.log_bytes > 0);
    assert_eq!(summary.warnings, Vec::<String>::new());
    assert_eq!(rig.node.message_count(), 3);
    assert_eq!(rig.client().bodies("a"), ["2", "3"]);
    let passive = DeclareQueue { passive: true, ..DeclareQueue::default() };
    assert!(rig.client().session.declare_queue("transient", &passive).is_err());
}

#[test]
fn a_torn_tail_is_cut_off_with_a_warning_that_names_the_position() {
    let mut rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.publish("", "q", &["confirmed"]);
    rig.commit();
    let log = rig.disk.list().expect("up").into_iter().find(|name| name.ends_with(".log"));
    let log = log.expect("a segment");
    let mut contents = rig.disk.contents(&log).expect("listed");
    let end = contents.iter().rposition(|byte| *byte != 0).expect("records") + 1;
    contents.truncate(end);
    // Half a record, as left by a machine that stops while it writes.
    contents.extend_from_slice(&[40, 0, 0, 0, 1, 0, 7, 7, 7, 7, 7, 7, 1, 2, 3]);
    drop(client);
    rig.disk.put(&log, &contents);
    rig.crash();
    let warnings = &rig.node.recovered().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&format!("position {}", end - 32)), "{warnings:?}");
    assert_eq!(rig.client().bodies("q"), ["confirmed"]);
    // It is reported once.
    rig.crash();
    assert_eq!(rig.node.recovered().warnings, Vec::<String>::new());
}

/// Damages one byte of a body in the log.
fn damage(rig: &Rig, body: &str) {
    let names = rig.disk.list().expect("up");
    for name in names.iter().filter(|name| name.ends_with(".log")) {
        let contents = rig.disk.contents(name).expect("listed");
        let at = contents.windows(body.len()).position(|bytes| bytes == body.as_bytes());
        if let Some(at) = at {
            assert!(rig.disk.flip_byte(name, at as u64));
            return;
        }
    }
    panic!("{body} is not in the log");
}

#[test]
fn a_damaged_message_is_quarantined_with_a_warning_and_the_rest_is_kept() {
    let mut rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.publish("", "q", &["first", "damaged", "last"]);
    rig.commit();
    drop(client);
    damage(&rig, "damaged");
    rig.crash();
    let warnings = &rig.node.recovered().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("damaged") && warnings[0].contains("quarantine"), "{warnings:?}");
    assert_eq!(rig.node.recovered().message_count, 2);
    assert_eq!(rig.client().bodies("q"), ["first", "last"]);
    rig.crash();
    assert_eq!(rig.node.recovered().warnings, Vec::<String>::new(), "it is said once");
    assert_eq!(rig.client().bodies("q"), ["first", "last"]);
}

#[test]
fn a_message_that_becomes_unreadable_does_not_hold_up_the_others() {
    let mut rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.declare("q", &[]);
    client.publish("", "q", &["first", "spoilt", "last"]);
    rig.commit();
    damage(&rig, "spoilt");
    client.consume(1, "q", "consumer", false);
    let got = client.take();
    let came: Vec<&str> = got.iter().map(|got| got.body.as_str()).collect();
    assert_eq!(came, ["first", "last"]);
    got.iter().for_each(|got| client.ack(got));
    rig.commit();
    assert_eq!(rig.node.message_count(), 1, "it stays where it is");
    drop(client);
    rig.crash();
    assert_eq!(rig.node.message_count(), 0, "and the start tells what became of it");
    assert_eq!(rig.node.recovered().warnings.len(), 1);
}

#[test]
fn definitions_are_as_they_were() {
    let mut rig = Rig::new(4096);
    let mut client = rig.client();
    let durable = DeclareExchange { durable: true, ..DeclareExchange::default() };
    client.session.declare_exchange("kept", "topic", &durable).expect("a new name");
    let transient = DeclareExchange::default();
    client.session.declare_exchange("transient", "topic", &transient).expect("a new name");
    client.session.declare_exchange("inner", "fanout", &durable).expect("a new name");
    client.declare("q", &[("x-max-length", 3.into())]);
    client.declare("deleted", &[]);
    let (q, inner) = (Destination::queue("q"), Destination::exchange("inner"));
    let none = FieldTable::new();
    client.session.bind("kept", &inner, "a.*", &none).expect("bound");
    client.session.bind("inner", &q, "", &none).expect("bound");
    client.session.bind("kept", &q, "unbound", &none).expect("bound");
    client.session.unbind("kept", &q, "unbound", &none).expect("it was bound");
    client.session.delete_queue("deleted", false, false).expect("it is there");
    rig.commit();
    drop(client);
    // From the log the first time, from the definition store afterwards.
    for _ in 0..3 {
        rig.crash();
        let mut client = rig.client();
        client.publish("kept", "a.b", &["1", "2", "3", "4"]);
        client.publish("kept", "unbound", &["5"]);
        assert_eq!(client.bodies("q"), ["2", "3", "4"]);
        client.session.purge_queue("q").expect("it is there");
        let passive = DeclareExchange { passive: true, ..DeclareExchange::default() };
        assert!(client.session.declare_exchange("transient", "topic", &passive).is_err());
        let passive = DeclareQueue { passive: true, ..DeclareQueue::default() };
        assert!(client.session.declare_queue("deleted", &passive).is_err());
        rig.maintain(2);
    }
}

#[test]
fn the_guest_is_made_once() {
    let mut rig = Rig::new(4096);
    assert!(rig.node.check_password("guest", "guest"));
    rig.node.change_password("guest", "another").expect("it is there");
    rig.commit();
    rig.crash();
    assert!(rig.node.check_password("guest", "another"));
    assert!(!rig.node.check_password("guest", "guest"));
    rig.node.add_user("admin", "secret", &[]).expect("a new name");
    rig.node.delete_user("guest").expect("it is there");
    rig.commit();
    rig.crash();
    let names: Vec<String> = rig.node.users().into_iter().map(|user| user.name).collect();
    assert_eq!(names, ["admin"], "who was deleted is not made again");
}

#[test]
fn users_virtual_hosts_and_permissions_are_as_they_were() {
    let mut rig = Rig::new(4096);
    rig.node.add_vhost("v").expect("a new name");
    rig.node.add_vhost("gone").expect("a new name");
    rig.node.add_user("u", "secret", &["monitoring".to_owned()]).expect("a new name");
    let none = || String::new();
    let permissions =
        Permissions { configure: "^q$".to_owned(), write: none(), read: ".*".to_owned() };
    rig.node.set_permissions("v", "u", permissions.clone()).expect("both are there");
    rig.node.set_permissions("gone", "u", permissions).expect("both are there");
    rig.node.delete_vhost("gone").expect("it is there");
    rig.commit();
    for _ in 0..2 {
        rig.crash();
        assert_eq!(rig.node.vhosts(), ["/", "v"]);
        assert!(rig.node.check_password("u", "secret") && !rig.node.check_password("u", "guest"));
        assert!(matches!(rig.node.add_user("u", "x", &[]), Err(NodeError::Exists { .. })));
        let open = |vhost, user| {
            rig.node.open_session(vhost, user, Box::new(rig::Inbox::default())).map(|_| ())
        };
        assert!(open("gone", "u").is_err() && open("/", "u").is_err());
        let mut session =
            rig.node.open_session("v", "u", Box::new(rig::Inbox::default())).expect("allowed");
        let options = DeclareQueue { durable: true, ..DeclareQueue::default() };
        session.declare_queue("q", &options).expect("allowed");
        assert!(session.declare_queue("other", &options).is_err());
        rig.maintain(2);
    }
}

#[test]
fn a_later_queue_does_not_find_messages_of_one_that_is_gone() {
    let mut rig = Rig::new(1 << 20);
    let mut client = rig.client();
    let none = FieldTable::new();
    client.declare("durable", &[]);
    client.session.declare_queue("transient", &DeclareQueue::default()).expect("a new name");
    for queue in ["durable", "transient"] {
        client.session.bind("amq.fanout", &Destination::queue(queue), "", &none).expect("bound");
    }
    client.publish("amq.fanout", "", &["for both"]);
    rig.commit();
    drop(client);
    rig.crash();
    // The log names queues by their ids, and the transient queue had the next one.
    rig.client().declare("later", &[]);
    rig.commit();
    rig.crash();
    let mut client = rig.client();
    assert_eq!(client.bodies("durable"), ["for both"]);
    assert_eq!(client.bodies("later"), Vec::<String>::new());
}

#[test]
fn a_binding_to_nothing_is_not_found_by_a_later_queue() {
    let mut rig = Rig::new(4096);
    let options = DeclareExchange { durable: true, ..DeclareExchange::default() };
    rig.client().session.declare_exchange("x", "fanout", &options).expect("a new name");
    rig.commit();
    rig.crash();
    let directory = rig.disk.clone();
    // As left by a crash that loses the declaration of the queue and keeps its binding.
    drop(std::mem::replace(&mut rig, Rig::new(4096)));
    let store = DefinitionStore::open_on_disk(&directory, "definitions.redb").expect("closed");
    let binding = StoredBinding {
        destination_is_queue: true,
        destination: "later".to_owned(),
        source: "x".to_owned(),
        routing_key: String::new(),
        arguments: Vec::new(),
    };
    let change = Change::BindingPut { vhost: "/".to_owned(), binding };
    store.apply(&[change], store.applied_position()).expect("a disk that works");
    drop(store);
    rig.disk = directory;
    rig.crash();
    rig.client().declare("later", &[]);
    rig.commit();
    rig.crash();
    let mut client = rig.client();
    client.publish("x", "", &["unrouted"]);
    assert_eq!(client.bodies("later"), Vec::<String>::new());
}

#[test]
fn definitions_that_found_the_disk_full_are_applied_when_there_is_room() {
    let mut rig = Rig::new(1024);
    let mut client = rig.client();
    rig.maintain(2);
    for number in 0..40 {
        client.declare(&format!("q{number}"), &[]);
    }
    rig.commit();
    let names = rig.disk.list().expect("up");
    let used: usize = names.iter().filter_map(|n| rig.disk.contents(n)).map(|c| c.len()).sum();
    rig.disk.set_capacity_bytes(Some(used as u64));
    rig.node.maintain();
    rig.disk.set_capacity_bytes(None);
    client.declare("last", &[]);
    rig.commit();
    rig.maintain(5);
    assert!(rig.node.segment_count() <= 2, "{} segments", rig.node.segment_count());
    drop(client);
    rig.crash();
    assert_eq!(rig.node.recovered().queue_count, 41);
}

#[test]
fn a_start_that_fails_half_way_changes_nothing() {
    let mut rig = Rig::new(2048);
    let mut client = rig.client();
    client.declare("q", &[]);
    let all = bodies("m", 0..100);
    for one in all.chunks(5) {
        client.publish("", "q", &as_strs(one));
        rig.commit();
    }
    drop(client);
    for sync in 1..6 {
        rig.disk.crash();
        rig.disk.set_crash_at_sync(sync);
        let opened = node::Node::open_on(rig.disk.clone(), rig.options.clone());
        drop(opened);
        rig.crash();
        assert_eq!(rig.client().bodies("q"), all);
    }
}

/// Nobody logs for each message that a start has queued it again.
#[test]
fn what_a_worker_had_is_told_to_be_queued_again() {
    let mut rig = Rig::new(1 << 20);
    let mut client = rig.client();
    client.declare("q", &[]);
    let mut properties = Vec::new();
    let message_id = Some("m".into());
    OwnedProperties { message_id, ..OwnedProperties::default() }.encode(&mut properties);
    let publish = Publish {
        exchange: "",
        routing_key: "q".into(),
        mandatory: false,
        properties: &properties,
        body: b"x",
    };
    client.session.publish(1, &publish).expect("may be published");
    client.flush();
    client.get("q").expect("it is there");
    rig.commit();
    let told = |rig: &Rig| -> Vec<&str> {
        let events = rig.node.events_told("/", "m").expect("known");
        let names = events.iter().map(|event| match event.what {
            What::Published(_) => "published",
            What::Delivered { .. } => "delivered",
            What::Requeued { .. } => "requeued",
            _ => "other",
        });
        names.collect()
    };
    assert_eq!(told(&rig), ["published", "delivered"]);
    // The node is gone before it hears that its worker is.
    std::mem::forget(client);
    rig.crash();
    assert_eq!(told(&rig), ["published", "delivered", "requeued"]);
}
