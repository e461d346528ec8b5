//! In memory and on disk, the same changes give the same result, whatever they are.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::in_memory;

/// Few names, so that changes meet; among them some that sort next to each other, and the empty
/// name.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "a\0", "aa", "b", "ü"]).prop_map(str::to_owned)
}

fn arguments() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..3)
}

fn binding() -> impl Strategy<Value = StoredBinding> {
    (any::<bool>(), name(), name(), name(), arguments()).prop_map(
        |(destination_is_queue, destination, source, routing_key, arguments)| StoredBinding {
            destination_is_queue,
            destination,
            source,
            routing_key,
            arguments,
        },
    )
}

fn put() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (name(), 0..5_u64)
            .prop_map(|(name, incarnation)| Change::VhostPut { name, incarnation }),
        1 => (name(), name(), vec(name(), 0..2), 0..5_u64).prop_map(
            |(name, password_hash, tags, incarnation)| {
                Change::UserPut(User { name, password_hash, tags, incarnation })
            }
        ),
        1 => (name(), name(), name()).prop_map(|(vhost, user, configure)| {
            let permissions = Permissions { configure, ..Permissions::default() };
            Change::PermissionsPut { vhost, user, permissions }
        }),
        1 => (name(), name(), any::<[bool; 3]>(), arguments()).prop_map(
            |(vhost, name, [durable, auto_delete, internal], arguments)| {
                let kind = "topic".to_owned();
                let exchange =
                    StoredExchange { name, kind, durable, auto_delete, internal, arguments };
                Change::ExchangePut { vhost, exchange }
            }
        ),
        1 => (name(), name(), id(), any::<[bool; 3]>(), arguments()).prop_map(
            |(vhost, name, id, [durable, auto_delete, exclusive], arguments)| {
                let queue =
                    StoredQueue { id, name, durable, auto_delete, exclusive, arguments };
                Change::QueuePut { vhost, queue }
            }
        ),
        1 => (0..5_u32).prop_map(|end| Change::QueueIdsReserved { end }),
        4 => (name(), binding())
            .prop_map(|(vhost, binding)| Change::BindingPut { vhost, binding }),
    ]
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..3_u32, 1 => Just(u32::MAX)]
}

fn deletion() -> impl Strategy<Value = Change> {
    prop_oneof![
        name().prop_map(|name| Change::VhostDeleted { name }),
        name().prop_map(|name| Change::UserDeleted { name }),
        (name(), name()).prop_map(|(vhost, user)| Change::PermissionsDeleted { vhost, user }),
        (name(), name()).prop_map(|(vhost, name)| Change::ExchangeDeleted { vhost, name }),
        (name(), name(), id()).prop_map(|(vhost, name, id)| Change::QueueDeleted {
            vhost,
            name,
            id
        }),
        (name(), binding()).prop_map(|(vhost, binding)| Change::BindingDeleted { vhost, binding }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![4 => put(), 1 => deletion()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn applying_in_memory_and_on_disk_is_the_same(batches in vec(vec(change(), 0..30), 1..5)) {
        let store = in_memory();
        let mut expected = Definitions::default();
        for (position, batch) in batches.iter().enumerate() {
            store.apply(batch, position as u64).expect("applied");
            batch.iter().for_each(|change| expected.apply(change));
            prop_assert_eq!(&store.load().expect("definitions"), &expected);
            prop_assert_eq!(store.applied_position(), position as u64);
        }
    }

    #[test]
    fn a_change_reads_as_it_was_written(change in change()) {
        prop_assert_eq!(Change::decode(&change.encode()).expect("a change"), change);
    }

    #[test]
    fn nothing_is_left_of_what_is_deleted(changes in vec(put(), 0..60), name in name()) {
        let mut definitions = Definitions::default();
        changes.iter().for_each(|change| definitions.apply(change));
        let queues: Vec<_> = definitions.queues.values().cloned().collect();
        for queue in queues.iter().filter(|queue| queue.name == name) {
            let vhost = "a".to_owned();
            definitions.apply(&Change::QueueDeleted { vhost, name: name.clone(), id: queue.id });
        }
        definitions.apply(&Change::ExchangeDeleted { vhost: "b".into(), name: name.clone() });
        definitions.apply(&Change::VhostDeleted { name: "".into() });
        definitions.apply(&Change::UserDeleted { name: name.clone() });

        let of_a = definitions.queues.contains_key(&("a".to_owned(), name.clone()));
        prop_assert!(!of_a);
        for (vhost, binding) in &definitions.bindings {
            prop_assert!(!vhost.is_empty());
            if vhost == "b" {
                prop_assert!(binding.source != name);
                prop_assert!(binding.destination_is_queue || binding.destination != name);
            }
        }
        prop_assert!(definitions.permissions.keys().all(|(_, user)| *user != name));
        prop_assert!(definitions.exchanges.keys().all(|(vhost, _)| !vhost.is_empty()));
        prop_assert!(definitions.queues.keys().all(|(vhost, _)| !vhost.is_empty()));
    }
}
