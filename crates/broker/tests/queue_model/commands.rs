//! Random settings and commands.

use broker::arguments::{Overflow, QueueArguments, RetryKind};
use broker::queue::{ConsumerSettings, DeadLetterAddress, Retry, Settings, Settlement};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Publish(Publication),
    /// Publishes more messages than may wait for dispatch.
    PublishMany(Publication, u16),
    Assign,
    /// Begins a dispatch, unless one is under way.
    Take,
    /// Ends what `Take` began: the bits say which deliveries reach nobody.
    Dispatch(u64),
    /// Settles one of all deliveries so far, the latest first, whether current or not.
    Settle(usize, Settlement),
    Get {
        no_ack: bool,
    },
    AddConsumer(ConsumerSettings, u32),
    RemoveConsumer(usize),
    /// The endpoint of a consumer has room for this many from now on; whether it reports that.
    MakeRoom(usize, u32, bool),
    Purge,
    Tick,
    Wait(u64),
    Touch,
    /// Compaction moves the record of a message.
    Relocate(usize),
    /// Somebody cancels one of the logged messages; whether they know its current place.
    Cancel(usize, bool),
}

#[derive(Debug, Clone)]
pub(crate) struct Publication {
    pub priority: u8,
    pub expiration_ms: Option<u64>,
    pub body_bytes: usize,
    pub is_logged: bool,
    /// Only matters for a logged message; other bodies are kept anyway.
    pub keep_body: bool,
    pub is_tracked: bool,
    /// The deadline of a tracked message, ms from publishing.
    pub deadline_ms: Option<u64>,
}

fn publication() -> impl Strategy<Value = Publication> {
    let priority = prop_oneof![3 => 0u8..4, 1 => any::<u8>()];
    let expiration_ms = prop_oneof![4 => Just(None), 1 => (0u64..30).prop_map(Some)];
    let deadline_ms = prop_oneof![1 => Just(None), 1 => (1u64..60).prop_map(Some)];
    let tracking = (any::<bool>(), deadline_ms);
    (priority, expiration_ms, 0usize..8, any::<bool>(), any::<bool>(), tracking).prop_map(
        |(priority, expiration_ms, body_bytes, is_logged, keep_body, tracking)| Publication {
            priority,
            expiration_ms,
            body_bytes,
            is_logged,
            keep_body,
            is_tracked: tracking.0,
            deadline_ms: tracking.1.filter(|_| tracking.0),
        },
    )
}

/// A message that recovery found, with its earlier attempts and whether its missed deadline was
/// reported.
pub(crate) fn restored() -> impl Strategy<Value = (Publication, u16, bool)> {
    (publication(), 0u16..3, any::<bool>())
}

/// Predictable waits: in proportion to the deliveries, or always the same.
fn retry() -> impl Strategy<Value = Option<Retry>> {
    let max_ms = prop::option::of(0u64..60);
    prop_oneof![
        2 => Just(QueueArguments::default()),
        1 => (0u64..25, max_ms).prop_map(|(min_ms, max_ms)| QueueArguments {
            delayed_retry: RetryKind::All,
            delayed_retry_min_ms: Some(min_ms),
            delayed_retry_max_ms: max_ms,
            ..QueueArguments::default()
        }),
        1 => (1u64..50).prop_map(|wait_ms| QueueArguments {
            retry_delay_min_ms: Some(wait_ms),
            retry_delay_max_ms: Some(wait_ms),
            ..QueueArguments::default()
        }),
    ]
    .prop_map(|arguments| Settings::resolve(&arguments).retry)
}

fn consumer() -> impl Strategy<Value = ConsumerSettings> {
    let exclusive = prop_oneof![9 => Just(false), 1 => Just(true)];
    let timeout_ms = prop::option::weighted(0.3, 1u64..40);
    (0u32..5, prop::bool::weighted(0.25), exclusive, -1i32..2, timeout_ms).prop_map(
        |(prefetch, no_ack, exclusive, priority, timeout_ms)| ConsumerSettings {
            prefetch,
            no_ack,
            exclusive,
            priority,
            timeout_ms,
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
        12 => prop_oneof![2 => Just(0u64), 1 => any::<u64>()].prop_map(Dispatch),
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
        3 => (0usize..50, prop::bool::weighted(0.9)).prop_map(|(pick, knows)| Cancel(pick, knows)),
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
    let attempts = (maybe(0u32..4), retry());
    (limits, overflow, times, priority_max, attempts, flags).prop_map(
        |(limits, overflow, times, priority_max, (delivery_limit, retry), flags)| Settings {
            message_ttl_ms: times.0,
            expires_ms: times.1,
            dead_letter: flags
                .0
                .then(|| DeadLetterAddress { exchange: "dlx".to_owned(), routing_key: None }),
            length_max: limits.0,
            bytes_max: limits.1,
            overflow,
            priority_max,
            single_active_consumer: flags.1,
            delivery_limit,
            consumer_timeout_ms: times.2,
            counts_deliveries: flags.2,
            retry,
            ..Settings::default()
        },
    )
}
