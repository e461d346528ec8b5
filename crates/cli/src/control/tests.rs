//! The control socket, with both its ends at work.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::*;
use crate::config::Config;
use crate::failure::Failure;

fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.store.data = data.to_owned();
    config
}

/// Runs `test` while a node is open in `data` and serves its control socket.
fn while_served(data: &Path, test: impl FnOnce(&Config)) {
    let config = config(data);
    let node = node::Node::open(config.node_options()).expect("a node");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listener = {
        let _entered = runtime.enter();
        Listener::bind(data).expect("a socket")
    };
    runtime.spawn(listener.run(node.clone()));
    test(&config);
    drop(runtime);
    node.close();
}

fn user(name: &str) -> Request {
    Request::UserAdd {
        name: name.into(),
        password: "secret".into(),
        tags: vec!["monitoring".into()],
    }
}

fn names(response: Result<Response, Failure>) -> Vec<String> {
    match response {
        Ok(Response::Users(users)) => users.into_iter().map(|user| user.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_the_same_with_and_without_a_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let config = config(&data);
    assert_eq!(call(&config, user("offline")).expect("done"), Response::Done);
    while_served(&data, |config| {
        assert_eq!(call(config, user("online")).expect("done"), Response::Done);
        assert_eq!(names(call(config, Request::UserList)), ["guest", "offline", "online"]);
        let add = Request::VhostAdd { name: "shop".into() };
        assert_eq!(call(config, add).expect("done"), Response::Done);
        let set = Request::PermissionSet {
            vhost: "shop".into(),
            user: "online".into(),
            configure: String::new(),
            write: "^orders$".into(),
            read: ".*".into(),
        };
        assert_eq!(call(config, set).expect("done"), Response::Done);
    });
    assert!(!data.join("control.sock").exists());
    assert_eq!(names(call(&config, Request::UserList)), ["guest", "offline", "online"]);
    match call(&config, Request::PermissionList).expect("a list") {
        Response::Permissions(entries) => assert!(entries.contains(&PermissionEntry {
            vhost: "shop".into(),
            user: "online".into(),
            configure: String::new(),
            write: "^orders$".into(),
            read: ".*".into(),
        })),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_is_a_failure_with_its_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    while_served(&directory.path().join("data"), |config| {
        call(config, user("anna")).expect("done");
        for request in [user("anna"), Request::UserDelete { name: "bert".into() }] {
            match call(config, request) {
                Err(Failure::Runtime(reason)) => assert!(!reason.contains('\n'), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        let set = Request::PermissionSet {
            vhost: "/".into(),
            user: "anna".into(),
            configure: "(".into(),
            write: String::new(),
            read: String::new(),
        };
        match call(config, set) {
            Err(Failure::Runtime(reason)) => assert!(reason.contains("configure"), "{reason}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_socket_is_its_owners_and_stale_ones_are_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("control.sock"), "").expect("written");
    while_served(directory.path(), |_| {
        let metadata = fs::metadata(directory.path().join("control.sock")).expect("a socket");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    });
}

#[test]
fn a_directory_deeper_than_a_socket_address_works() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("deep".repeat(20)).join("er".repeat(40));
    fs::create_dir_all(&data).expect("made");
    while_served(&data, |config| {
        assert!(data.join("control.sock").exists());
        assert_eq!(names(call(config, Request::UserList)), ["guest"]);
    });
    assert!(!data.join("control.sock").exists());
}

#[test]
fn what_is_no_request_is_answered_and_hung_up() {
    let directory = tempfile::tempdir().expect("a directory");
    while_served(directory.path(), |config| {
        let overlong = vec![b' '; 100_000];
        for line in [&b"hello\n"[..], b"{\"command\":\"shutdown\"}\n", b"\xff\n", &overlong] {
            let path = directory.path().join("control.sock");
            let mut stream = UnixStream::connect(path).expect("connected");
            // The server may hang up before it has read the whole line.
            let _ = stream.write_all(line);
            let mut answer = String::new();
            if BufReader::new(&stream).read_line(&mut answer).is_ok() && !answer.is_empty() {
                assert!(
                    answer.starts_with("{\"error\":\"the request is not understood"),
                    "{answer}"
                );
            }
        }
        assert_eq!(names(call(config, Request::UserList)), ["guest"]);
    });
}

#[test]
fn a_question_makes_no_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    match call(&config(&data), Request::UserList) {
        Err(Failure::Runtime(reason)) => assert!(reason.starts_with("there is no store in ")),
        other => panic!("{other:?}"),
    }
    assert!(!data.exists());
}
