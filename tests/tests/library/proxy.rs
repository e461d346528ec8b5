//! Connections that are cut or fall silent, anywhere: through a proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use end_to_end::{Random, shared, unique};
use wilco::{Failure, Queue, Wilco};

use super::{AT_ONCE, block};

/// Passes on what comes, until so many bytes have gone one way: then that connection is cut, or nothing
/// passes on it any more while it stays open.
pub(super) struct Proxy {
    port: u16,
    faults: Arc<Faults>,
}

struct Faults {
    /// Bytes to the broker, and from it; negative: without end.
    left: [AtomicI64; 2],
    stalls: bool,
}

const ENDLESS: i64 = -1;

impl Proxy {
    pub(super) fn start(target: String, stalls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let left = [AtomicI64::new(ENDLESS), AtomicI64::new(ENDLESS)];
        let faults = Arc::new(Faults { left, stalls });
        let shared = Arc::clone(&faults);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect(&target) else { continue };
                let ways = [(&client, &broker, 0), (&broker, &client, 1)];
                for (from, to, way) in ways {
                    let both = (from.try_clone().expect("open"), to.try_clone().expect("open"));
                    let faults = Arc::clone(&shared);
                    std::thread::spawn(move || faults.pump(both.0, both.1, way));
                }
            }
        });
        Self { port, faults }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}/?heartbeat=1", self.port)
    }

    /// One connection, the next that gets there, fails after so many bytes this way.
    pub(super) fn fail_after(&self, way: usize, bytes: u64) {
        self.faults.left[way].store(bytes as i64, Ordering::SeqCst);
    }
}

impl Faults {
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, way: usize) {
        let mut chunk = [0; 4096];
        let mut is_stalled = false;
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if is_stalled {
                continue;
            }
            let left = &self.left[way];
            let before = left.load(Ordering::SeqCst);
            let count = count as i64;
            let fails = before != ENDLESS && count >= before;
            let passes = if fails { before } else { count };
            if before != ENDLESS {
                left.store(if fails { ENDLESS } else { before - count }, Ordering::SeqCst);
            }
            if to.write_all(&chunk[..passes as usize]).is_err() {
                break;
            }
            match (fails, self.stalls) {
                (true, true) => is_stalled = true,
                (true, false) => break,
                (false, _) => {}
            }
        }
        // Either end may be gone already.
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

/// Sends and works while connections fail; everything is answered, and rightly.
pub(super) async fn go_on(
    proxy: &Proxy,
    url: &str,
    rounds: u32,
    bytes_max: u64,
    random: &mut Random,
) {
    let wilco = Wilco::connect(url).await.expect("it passes");
    let queue: Queue<u32, u32> = Queue::named(unique("proxied"));
    let count = Arc::new(AtomicU32::new(0));
    let handler = {
        let count = Arc::clone(&count);
        move |number: u32| {
            count.fetch_add(1, Ordering::Relaxed);
            async move { if number % 5 == 4 { Err(Failure::permanent(number)) } else { Ok(number + 1) } }
        }
    };
    let worker = wilco.worker().handle(queue.clone(), handler).attempts(20, AT_ONCE);
    let worker = tokio::spawn(worker.run());
    let producer = wilco.producer(queue).build().await.expect("a producer");
    for round in 0..rounds {
        proxy.fail_after(random.below(2) as usize, random.below(bytes_max));
        let mut receipts = Vec::new();
        for number in 0..5 {
            let send = producer.send(&number).id(format!("{}-{round}-{number}", unique("m")));
            receipts.push(send.await.expect("stored, however long it takes"));
        }
        for (number, receipt) in (0..).zip(receipts) {
            let outcome = receipt.outcome().await.expect("known");
            match number {
                4 => assert_eq!(outcome.failed().expect("it fails").error, "4"),
                _ => {
                    let done = outcome.processed().expect("processed");
                    assert_eq!(done.result().expect("a number"), number + 1);
                }
            }
        }
    }
    let worked = count.load(Ordering::Relaxed);
    assert!(worked >= rounds * 5, "{worked}");
    worker.abort();
    wilco.close().await;
}

#[test]
fn whatever_byte_a_connection_is_cut_at_everything_is_answered() {
    let broker = shared();
    let proxy = Proxy::start(broker.address().to_owned(), false);
    let mut random = Random::seeded();
    println!("WILCO_TEST_SEED={}", random.state());
    block(go_on(&proxy, &proxy.url(), 60, 3000, &mut random));
}

#[test]
fn a_connection_that_falls_silent_is_given_up() {
    let broker = shared();
    let proxy = Proxy::start(broker.address().to_owned(), true);
    let mut random = Random::seeded();
    println!("WILCO_TEST_SEED={}", random.state());
    let began = std::time::Instant::now();
    block(go_on(&proxy, &proxy.url(), 4, 1500, &mut random));
    assert!(began.elapsed() > Duration::from_secs(1), "nothing fell silent");
}
