//! Random settings and commands.

use broker::arguments::Overflow;
use broker::queue::{ConsumerOptions, Settings, Settlement};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Publish(Publication),
    /// More than may wait for a handover.
    PublishMany(Publication, u16),
    Assign,
    /// Begins a handover, unless one is under way.
    Take,
    /// Ends what `Take` began: the bits say which deliveries reach nobody.
    HandOver(u64),
    /// Settles one of the deliveries there were, the latest first, current or not.
    Settle(usize, Settlement),
    Get {
        no_ack: bool,
    },
    AddConsumer(ConsumerOptions, u32),
    RemoveConsumer(usize),
    /// The endpoint of a consumer has room for so many from now on; whether it says so.
    MakeRoom(usize, u32, bool),
    Purge,
    Tick,
    Wait(u64),
    Touch,
    /// Compaction moves the record of a message.
    Relocate(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub priority: u8,
    pub expiration_ms: Option<u32>,
    pub body_bytes: usize,
    pub is_logged: bool,
    /// Of a logged message; others are kept anyway.
    pub keep_body: bool,
}

fn publication() -> impl Strategy<Value = Publication> {
    let priority = prop_oneof![3 => 0u8..4, 1 => any::<u8>()];
    let expiration_ms = prop_oneof![4 => Just(None), 1 => (0u32..30).prop_map(Some)];
    (priority, expiration_ms, 0usize..8, any::<bool>(), any::<bool>()).prop_map(
        |(priority, expiration_ms, body_bytes, is_logged, keep_body)| Publication {
            priority,
            expiration_ms,
            body_bytes,
            is_logged,
            keep_body,
        },
    )
}

/// A message that recovery found, with its attempts before.
pub(crate) fn restored() -> impl Strategy<Value = (Publication, u16)> {
    (publication(), 0u16..3)
}

fn consumer() -> impl Strategy<Value = ConsumerOptions> {
    let exclusive = prop_oneof![9 => Just(false), 1 => Just(true)];
    (0u32..5, prop::bool::weighted(0.25), exclusive, -1i32..2).prop_map(
        |(prefetch, no_ack, exclusive, priority)| ConsumerOptions {
            prefetch,
            no_ack,
            exclusive,
            priority,
        },
    )
}

fn settlement() -> impl Strategy<Value = Settlement> {
    prop_oneof![
        3 => Just(Settlement::Ack),
        1 => Just(Settlement::Reject),
        3 => Just(Settlement::Requeue),
    ]
}

fn room() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0u32), 2 => 1u32..6, 2 => Just(1_000_000)]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    use Command::*;
    prop_oneof![
        24 => publication().prop_map(Publish),
        1 => (publication(), 500u16..600).prop_map(|(p, count)| PublishMany(p, count)),
        10 => Just(Assign),
        10 => Just(Take),
        12 => prop_oneof![2 => Just(0u64), 1 => any::<u64>()].prop_map(HandOver),
        20 => (0usize..24, settlement()).prop_map(|(pick, s)| Settle(pick, s)),
        6 => any::<bool>().prop_map(|no_ack| Get { no_ack }),
        6 => (consumer(), room()).prop_map(|(c, room)| AddConsumer(c, room)),
        3 => (0usize..8).prop_map(RemoveConsumer),
        4 => (0usize..8, room(), any::<bool>()).prop_map(|(pick, r, told)| MakeRoom(pick, r, told)),
        1 => Just(Purge),
        6 => Just(Tick),
        8 => (0u64..25).prop_map(Wait),
        1 => Just(Touch),
        2 => (0usize..50).prop_map(Relocate),
    ]
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    fn maybe<T: Strategy>(values: T) -> impl Strategy<Value = Option<T::Value>>
    where
        T::Value: Clone,
    {
        prop::option::weighted(0.35, values)
    }
    let limits = (maybe(0u64..6), maybe(0u64..24));
    let overflow = prop_oneof![
        2 => Just(Overflow::DropHead),
        1 => Just(Overflow::RejectPublish),
        1 => Just(Overflow::RejectPublishDlx),
    ];
    let times = (maybe(0u64..40), maybe(1u64..60), maybe(1u64..50));
    let priority_max = prop_oneof![4 => Just(0u8), 2 => 1u8..4, 1 => Just(255)];
    let flags = (any::<bool>(), prop::bool::weighted(0.2), any::<bool>());
    (limits, overflow, times, priority_max, maybe(0u32..4), flags).prop_map(
        |(limits, overflow, times, priority_max, delivery_limit, flags)| Settings {
            message_ttl_ms: times.0,
            expires_ms: times.1,
            dead_letters: flags.0,
            length_max: limits.0,
            bytes_max: limits.1,
            overflow,
            priority_max,
            single_active_consumer: flags.1,
            delivery_limit,
            consumer_timeout_ms: times.2,
            counts_deliveries: flags.2,
            ..Settings::default()
        },
    )
}
