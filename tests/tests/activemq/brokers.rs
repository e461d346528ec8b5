//! The brokers, and what is done with each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use end_to_end::Server;
use wilco::{Backoff, Context, Failure, Producer, Queue, Wilco};

/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const BROKERS: [&str; 3] = ["artemis-2.56", "activemq-6.3", "activemq-5.18"];

pub(crate) type Texts = Queue<String, String>;

/// A broker, and its address for STOMP.
pub(crate) struct Activemq {
    pub(crate) name: &'static str,
    pub(crate) server: Server,
}

impl Activemq {
    pub(crate) fn is_artemis(&self) -> bool {
        self.name.starts_with("artemis")
    }

    /// Where it speaks AMQP 1.0.
    pub(crate) fn amqp(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where it speaks STOMP: Classic has a port for each protocol.
    pub(crate) fn stomp(&self) -> SocketAddr {
        match self.is_artemis() {
            true => self.amqp(),
            false => SocketAddr::from(([127, 0, 0, 2], self.amqp().port())),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("activemq://admin:admin@{}", self.amqp())
    }

    /// A broker that has just been started may not let anybody in at once.
    pub(crate) async fn connect(&self) -> Wilco {
        let began = Instant::now();
        loop {
            match Wilco::connect(&self.url()).await {
                Ok(wilco) => return wilco,
                Err(error) if began.elapsed() > PATIENCE => panic!("{}: {error}", self.url()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Starts each broker in turn.
pub(crate) fn on_each(test: &str, run: impl AsyncFn(&mut Activemq)) {
    on_each_with(test, "", run);
}

/// The same, with options of Classic's AMQP.
pub(crate) fn on_each_with(test: &str, options: &str, run: impl AsyncFn(&mut Activemq)) {
    for name in BROKERS {
        let prepare = |directory: &std::path::Path| {
            std::fs::write(directory.join("amqp.options"), options).expect("a file");
        };
        let server = Server::start_with(&format!("{test} on {name}"), name, prepare);
        let Some(server) = server else { continue };
        eprintln!("{name}");
        let mut broker = Activemq { name, server };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(run(&mut broker));
    }
}

pub(crate) async fn producer(wilco: &Wilco, queue: &Texts) -> Producer<String, String> {
    let producer = wilco.producer(queue.clone()).outcome_timeout(PATIENCE).send_timeout(PATIENCE);
    producer.build().await.expect("a producer")
}

#[test]
fn what_the_broker_would_give_up_on_is_tried_as_often_as_was_said() {
    const ATTEMPTS: u32 = 25;
    on_each("what_the_broker_would_give_up_on_is_tried_as_often_as_was_said", async |broker| {
        let wilco = broker.connect().await;
        let queue = Texts::new("often");
        // Without a wait, so that it is the same message each time.
        let handler = async |body: String, context: Context| match context.attempt() {
            ATTEMPTS => Ok(body),
            _ => Err(Failure::retry("not yet")),
        };
        let worker = wilco.worker().handle(queue.clone(), handler);
        let _working = worker.attempts(ATTEMPTS, Backoff::constant(Duration::ZERO)).spawn();
        let receipt = producer(&wilco, &queue).await.send(&"x".to_owned()).await.expect("taken");
        let outcome = receipt.outcome_within(PATIENCE).await.expect("known");
        assert_eq!(outcome.details().attempts, ATTEMPTS as u16, "{outcome}");
        assert!(outcome.is_processed(), "{outcome}");
        wilco.close().await;
    });
}

#[test]
fn a_queue_is_emptied_and_deleted() {
    on_each("a_queue_is_emptied_and_deleted", async |broker| {
        let wilco = broker.connect().await;
        let queue = Texts::new("emptied");
        let producer = producer(&wilco, &queue).await;
        for count in [0, 1, 1200] {
            for number in 0..count {
                producer.send(&number.to_string()).await.expect("taken");
            }
            assert_eq!(wilco.purge_queue("emptied").await.expect("purged"), count);
        }
        producer.send(&"x".to_owned()).await.expect("taken");
        assert_eq!(wilco.delete_queue("emptied").await.expect("deleted"), 1);
        let handler = async |body: String| Ok::<_, Failure>(body);
        let _working = wilco.worker().handle(queue, handler).spawn();
        for _ in 0..2 {
            let receipt = producer.send(&"x".to_owned()).await.expect("it is made again");
            assert!(receipt.outcome_within(PATIENCE).await.expect("known").is_processed());
            // Also if somebody works on it.
            assert_eq!(wilco.delete_queue("emptied").await.expect("deleted"), 0);
        }
        wilco.close().await;
    });
}

#[test]
fn names_that_mean_other_queues_are_refused() {
    on_each("names_that_mean_other_queues_are_refused", async |broker| {
        let wilco = broker.connect().await;
        for name in ["all.*", "all.>", "#", "a,b", "a::b", "topic://a", "a?b=c", " a"] {
            let refused = wilco.declare_queue(name).await.expect_err(name);
            assert_eq!(refused.kind(), wilco::ErrorKind::Invalid, "{refused}");
        }
        wilco.close().await;
    });
}
