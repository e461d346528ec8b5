//! The loop with real sockets: who is admitted, who makes way, and how it stops.
//!
//! The protocol is one byte: `k` makes a connection known, `s` makes it silent again; both are
//! echoed.

use std::net::SocketAddr;
use std::time::Duration;

use listener::{Admission, Listener, OpenFiles, Place, bind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

async fn serve(place: Place, mut stream: TcpStream, _peer: SocketAddr) {
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte).await {
        match byte[0] {
            b'k' => place.known(),
            b's' => place.silent(),
            _ => return,
        }
        if stream.write_all(&byte).await.is_err() {
            return;
        }
    }
}

struct Rig {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Rig {
    fn new(admission: &Admission, connections_max: usize) -> Self {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = socket.local_addr().expect("an address");
        let listener = Listener::new(socket, "test", admission, connections_max);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            listener.run(serve, shutdown).await.farewell().await;
        });
        Self { address, stop, running }
    }

    async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.expect("a connection"))
    }

    async fn known(&self) -> Client {
        let mut client = self.connect().await;
        assert!(client.says(b"k").await, "was not let in");
        client
    }
}

struct Client(TcpStream);

impl Client {
    /// Whether the server echoes the byte.
    async fn says(&mut self, byte: &[u8; 1]) -> bool {
        let mut echo = [0];
        self.0.write_all(byte).await.is_ok()
            && patient(self.0.read(&mut echo)).await.is_ok_and(|count| count == 1 && echo == *byte)
    }

    async fn is_ended(&mut self) -> bool {
        !matches!(patient(self.0.read(&mut [0])).await, Ok(1))
    }
}

async fn patient<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it happens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_silent_goes_for_somebody_new() {
    let rig = Rig::new(&Admission::unlimited(), 5);
    let mut known = rig.known().await;
    let _others = [rig.known().await, rig.known().await];
    // Surely admitted before the next one.
    let mut first = rig.known().await;
    let mut second = rig.known().await;
    assert!(first.says(b"s").await && second.says(b"s").await);
    let mut new = rig.known().await;
    assert!(first.is_ended().await);
    assert!(second.says(b"k").await && new.says(b"k").await && known.says(b"k").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_silent_connections_locks_nobody_out() {
    let rig = Rig::new(&Admission::unlimited(), 8);
    let mut early = rig.known().await;
    let mut flood = Vec::new();
    for _ in 0..10 {
        for _ in 0..20 {
            flood.push(rig.connect().await);
        }
        assert!(rig.known().await.says(b"k").await);
    }
    assert!(early.says(b"k").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_known_stays_and_the_new_one_is_refused() {
    let rig = Rig::new(&Admission::unlimited(), 2);
    let (mut first, mut second) = (rig.known().await, rig.known().await);
    assert!(rig.connect().await.is_ended().await);
    assert!(first.says(b"k").await && second.says(b"k").await);
    drop(first);
    // The place is free once the server has noticed.
    patient(async {
        while !rig.connect().await.says(b"k").await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_share_what_the_store_leaves() {
    // 82 files are the store's and 16 are always kept free: room for two.
    let admission = Admission::new(OpenFiles::with_limit(100), || 82);
    let (one, other) = (Rig::new(&admission, 100), Rig::new(&admission, 100));
    let mut known = one.known().await;
    let mut silent = one.known().await;
    assert!(silent.says(b"s").await);
    let mut new = other.known().await;
    assert!(silent.is_ended().await);
    assert!(other.connect().await.is_ended().await, "there is no room");
    assert!(known.says(b"k").await && new.says(b"k").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_stops_waits_for_its_connections() {
    let rig = Rig::new(&Admission::unlimited(), 10);
    let mut client = rig.known().await;
    rig.stop.send(()).expect("it runs");
    assert!(client.says(b"s").await, "there is time to say goodbye");
    drop(client);
    patient(rig.running).await.expect("it ends");
}
