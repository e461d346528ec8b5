//! The guarantees, each with its test.

mod crashes;
mod ids;
mod outbox;
mod told;
mod topics;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use wilco::{Capability, Wilco};

use crate::engine::{Engine, Failing};

/// What is promised, and its test.
#[derive(Debug)]
pub struct Guarantee {
    /// In a sentence.
    pub promise: &'static str,
    /// Who fails meanwhile.
    pub failing: Failing,
    /// What the engine must be able to do for it; where it cannot, the library must say so.
    pub needs: &'static [Capability],
    test: fn(Bench) -> Testing,
}

type Testing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a test works with.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) wilco: Wilco,
}

impl Bench {
    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.wilco.can(capability)
    }
}

impl Guarantee {
    /// Whether an engine that can do this keeps it.
    pub fn holds_with(&self, can: &[Capability]) -> bool {
        self.needs.iter().all(|needed| can.contains(needed))
    }

    /// Tests it, on an engine that may have other users; or, where the engine cannot do what it needs, that
    /// the library says so.
    ///
    /// # Panics
    /// It does not hold.
    pub async fn check(&self, engine: &Arc<dyn Engine>) {
        let wilco = engine.connect().await;
        (self.test)(Bench { engine: Arc::clone(engine), wilco }).await;
    }
}

macro_rules! guarantees {
    ($($failing:ident $needs:tt $promise:literal => $test:path;)*) => {
        /// All of them.
        pub const GUARANTEES: &[Guarantee] = &[
            $(Guarantee {
                promise: $promise,
                failing: Failing::$failing,
                needs: guarantees!(@ $needs),
                test: |bench| Box::pin($test(bench)),
            },)*
        ];
    };
    (@ [$($needed:ident),*]) => { &[$(Capability::$needed),*] };
}

guarantees! {
    Nobody [] "the producer is told what its worker gave back" => told::processed;
    Nobody [] "the producer is told why a message failed, with all causes" => told::failed;
    Nobody [] "a failure that may pass is tried again, as often as was said" => told::retried;
    Nobody [] "a body that cannot be read, and a panic, fail that message alone" => told::unreadable;
    Nobody [] "each message is told once" => told::once;
    Nobody [] "headers and large bodies arrive as they were sent" => told::contents;
    Nobody [] "one worker with one place gets messages in the order in which they were sent" => told::order;
    Nobody [] "a missed deadline is told, and a late success after it" => told::late;
    Nobody [] "progress is told" => told::progress;
    Nobody [] "a worker that stops gives back what it has not finished, and nothing fails" => told::stopped;
    Nobody [Dropped] "a purge is told" => told::purged;
    Nobody [] "an id that is sent again is not processed again" => ids::sent_again;
    Nobody [SharedIds] "an id is processed once, however many workers there are" => ids::several_workers;
    Nobody [Attach] "another process finds a message by its id, and what became of it" => ids::attached;
    Nobody [Retry] "what has failed is tried again by its id" => ids::retried;
    Nobody [Cancel] "what waits is taken out by its id" => ids::cancelled;
    Nobody [Watch] "whoever watches a queue sees what becomes of everybody's messages" => ids::watched;
    Nobody [Topics] "one message to a topic has an outcome in each of its queues" => topics::outcomes;
    Nobody [Topics] "an id that another process sends to a topic again is told in all its queues" => topics::sent_again;
    Nobody [] "what is put into an outbox is processed, and that is told" => outbox::told;
    Worker [] "what a worker had when it ended is worked on by another" => crashes::worker;
    Worker [] "a message that ends its worker each time fails in the end" => crashes::poison;
    Worker [SharedIds] "what a worker has processed is not processed again after its end" => crashes::worker_between;
    Worker [Delay] "what was to be tried again later still is, at its time" => crashes::worker_delay;
    Producer [] "what was confirmed is processed" => crashes::producer_crash;
    Producer [Attach] "what became of it is known by its id" => crashes::producer_attach;
    Producer [] "what is in an outbox is processed once, whichever relay ends, and that is told" => outbox::relay_ended;
    Engine [Durable] "nothing confirmed is lost, and every outcome is told" => crashes::engine;
    Engine [Durable] "what is in an outbox is processed, and that is told" => outbox::engine;
}
