//! Accepting when the process has no file descriptor left. It runs in a process of its own, since
//! it uses them all up.

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use listener::{Admission, Listener, Place, bind};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: u64 = 100;

async fn greet(place: Place, mut stream: TcpStream, _peer: SocketAddr) {
    // Nothing can be done for a peer that is gone.
    let _ = stream.write_all(b"!").await;
    let _ = stream.read(&mut [0]).await;
    drop(place);
}

/// What the server sends within some time; `None` if it ends the connection.
async fn heard(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    let read = timeout(Duration::from_secs(20), stream.read(&mut byte));
    match read.await.expect("something happens") {
        Ok(1) => Some(byte[0]),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_descriptor_left_the_longest_silent_goes() {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let address = socket.local_addr().expect("an address");
    let listener = Listener::new(socket, "test", &Admission::unlimited(), 1000);
    let running = tokio::spawn(async move {
        listener.run(greet, std::future::pending()).await.farewell().await;
    });
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        assert_eq!(heard(&mut client).await, Some(b'!'));
        clients.push(client);
    }

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(LIMIT);
    setrlimit(Resource::Nofile, limit).expect("a lower limit");
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    // Just enough for the client's side of one connection.
    files.pop();
    let mut late = TcpStream::connect(address).await.expect("a connection");
    assert_eq!(heard(&mut late).await, Some(b'!'), "it was accepted");
    assert_eq!(heard(&mut clients[0]).await, None, "the first had been silent longest");
    drop(files);
    for client in &mut clients[1..] {
        client.write_all(b"?").await.expect("still there");
        assert_eq!(heard(client).await, None, "served until it was done");
    }
    running.abort();
}
