//! The binary as a user sees it: what it prints, where, and its exit code.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `wilco` in a directory of its own, without this test's environment.
fn wilco(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wilco"));
    command.current_dir(directory).args(arguments);
    for variable in ["WILCO_DATA", "WILCO_AMQP", "WILCO_HTTP", "WILCO_CONFIG", "WILCO_LOG"] {
        command.env_remove(variable);
    }
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    wilco(directory, arguments).stdin(Stdio::null()).output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Checks that a command fails with this code and one line that contains this text.
fn check_failure(output: &Output, code: i32, text: &str) {
    let line = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(code), "{line}");
    assert!(line.starts_with("wilco: ") && line.contains(text), "{line}");
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    assert!(output.stdout.is_empty(), "{}", stdout(output));
}

/// A running server; killed at the end if it is still running.
struct Server {
    child: Child,
    announcement: Vec<String>,
}

impl Server {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = wilco(directory, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let announcement = lines.by_ref().take(5).map(|line| line.expect("text")).collect();
        Self { child, announcement }
    }

    fn address(&self) -> &str {
        let uri = self.announcement[1].split_whitespace().last().expect("a URL");
        uri.rsplit('@').next().expect("an address").trim_end_matches('/')
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("it runs").success());
    }

    fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                return status.code();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_makes_no_sense_is_one_line_and_exit_code_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let check =
        |arguments: &[&str], text| check_failure(&run(directory.path(), arguments), 2, text);
    check(&["--frobnicate"], "unexpected argument '--frobnicate'");
    check(&["frobnicate"], "unrecognized subcommand 'frobnicate'");
    check(&["user"], "a subcommand is missing");
    check(&["user", "add"], "<NAME>");
    check(&["serve", "--amqp", "here"], "--amqp: \"here\" is not allowed");
    check(&["config", "check", "--config", "missing.toml"], "cannot read missing.toml");
    check(&["user", "add", "anna"], "the password is empty");

    fs::write(directory.path().join("wilco.toml"), "[listen]\nport = 1\n").expect("written");
    check(&[], "wilco.toml:2: listen.port: unknown key; expected amqp or http");
    check(&["config", "check"], "wilco.toml:2: listen.port");
    assert!(!directory.path().join("wilco-data").exists());
}

#[test]
fn a_configuration_is_checked_and_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("my.toml"), "[limits]\nchannel_max = 7\n").expect("written");
    let output = run(directory.path(), &["config", "check", "--config", "my.toml"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "my.toml is valid\n"));

    let mut command = wilco(directory.path(), &["config", "show", "--amqp", "127.0.0.1:7"]);
    command.env("WILCO_CONFIG", "my.toml").env("WILCO_DATA", "elsewhere");
    let shown = stdout(&command.output().expect("it runs"));
    for line in ["channel_max = 7", "amqp = \"127.0.0.1:7\"", "data = \"elsewhere\""] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}

#[test]
fn a_server_says_where_it_is_and_stops_when_told_to() {
    for signal in ["-TERM", "-INT"] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server =
            Server::start(directory.path(), &["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let [version, amqp, http, store, recovered] = &server.announcement[..] else {
            panic!("{:?}", server.announcement)
        };
        assert_eq!(version, concat!("wilco ", env!("CARGO_PKG_VERSION")));
        assert!(amqp.contains("amqp://guest:guest@127.0.0.1:"), "{amqp}");
        assert!(http.contains("http://127.0.0.1:") || http.ends_with(" off"), "{http}");
        let data = fs::canonicalize(directory.path()).expect("there").join("wilco-data");
        assert!(store.contains(&data.display().to_string()), "{store}");
        assert!(recovered.contains("0 messages in 0 queues in "), "{recovered}");
        TcpStream::connect(server.address()).expect("it listens");
        server.signal(signal);
        assert_eq!(server.wait(), Some(0), "{signal}");
        assert!(!data.join("control.sock").exists());
    }
}

#[test]
fn a_store_in_use_and_a_busy_port_are_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().expect("a directory");
    let _server = Server::start(directory.path(), &["serve", "--amqp", "127.0.0.1:0"]);
    let second = run(directory.path(), &["serve", "--amqp", "127.0.0.1:0"]);
    check_failure(&second, 1, "in use by another process");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let output = run(directory.path(), &["--data", "other", "--amqp", &address]);
    // The failure is the last line, after anything that is logged.
    let last = String::from_utf8(output.stderr).expect("text");
    let last = last.lines().last().expect("a line");
    assert!(last.starts_with(&format!("wilco: cannot listen on {address}: ")), "{last}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn users_are_managed_on_a_running_server_and_on_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |arguments: &[&str], expected: &str| {
        let output = run(directory.path(), arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), error.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(stdout(&output).contains(expected), "{arguments:?}: {}", stdout(&output));
    };
    check_failure(&run(directory.path(), &["user", "list"]), 1, "there is no store in wilco-data");
    check(&["user", "add", "anna", "--password", "x", "--tag", "monitoring"], "user anna added");

    let mut server =
        Server::start(directory.path(), &["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    check(&["user", "list"], "anna   monitoring\nguest  administrator\n");
    let mut add = wilco(directory.path(), &["user", "add", "bert"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    add.stdin.take().expect("piped").write_all(b"secret\n").expect("written");
    assert!(add.wait().expect("waited for").success());
    check(&["vhost", "add", "shop"], "virtual host shop added");
    check(&["permission", "set", "shop", "bert", "", "^orders$", ".*"], "set");
    check_failure(&run(directory.path(), &["user", "delete", "zoe"]), 1, "zoe");
    check_failure(
        &run(directory.path(), &["permission", "set", "shop", "bert", "(", "", ""]),
        1,
        "the configure permission \"(\" is not a valid pattern: unclosed group",
    );
    server.signal("-TERM");
    server.wait();

    check(&["user", "list", "--json"], "\"name\": \"bert\"");
    check(&["permission", "list"], "shop   bert              ^orders$  .*\n");
    check(&["user", "passwd", "bert", "--password", "other"], "password of user bert changed");
    check(&["permission", "clear", "shop", "bert"], "cleared");
    check(&["vhost", "delete", "shop"], "virtual host shop deleted");
    check(&["vhost", "list", "--json"], "[\n  \"/\"\n]\n");
    check(&["user", "delete", "bert"], "user bert deleted");
}

#[test]
fn what_was_answered_survives_a_kill() {
    let directory = tempfile::tempdir().expect("a directory");
    for number in 0..10 {
        let mut server =
            Server::start(directory.path(), &["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        let name = format!("vhost-{number}");
        assert!(run(directory.path(), &["vhost", "add", &name]).status.success());
        server.signal("-KILL");
        server.wait();
        let listed = stdout(&run(directory.path(), &["vhost", "list"]));
        assert!(listed.lines().any(|line| line == name), "{name} in {listed}");
    }
}
