//! Each process of the shop, and the broker, are killed at random moments; then orders, stock and mails
//! agree all the same.
//!
//! `WILCO_TEST_SEED` repeats the order in which a run killed them, not the moments of everything else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use end_to_end::{Broker, Random, Server, skip};

/// How long a shop that only finishes what is open may take, on a machine that does much else.
const FINISH: Duration = Duration::from_secs(120);
/// What the shop does while it is being killed: more orders than it has the time for, so that there are
/// always some in the middle of something.
const BUSY: &[&str] = &["shop", "--orders", "1000000", "--every", "4"];

/// The processes of a shop in a directory of its own.
struct Shop {
    directory: tempfile::TempDir,
    url: String,
    database: String,
    running: Vec<Running>,
}

/// A process that is started again whenever it is killed.
struct Running {
    name: &'static str,
    command: Command,
    child: Option<Child>,
}

impl Running {
    fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        self.child = Some(self.command.spawn().expect("it starts"));
    }

    /// SIGKILL. That it ran until then is part of the test: nothing ends a process but this.
    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = child.try_wait().expect("a process");
        assert!(ended.is_none(), "{} has ended by itself: {ended:?}", self.name);
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Shop {
    fn new(url: &str, database: Option<String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let database = database
            .unwrap_or_else(|| format!("sqlite:{}", directory.path().join("orders.db").display()));
        Self { directory, url: url.to_owned(), database, running: Vec::new() }
    }

    /// A command of the example, which adds what it says to this file.
    fn command(&self, arguments: &[&str], log: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
        command.args(arguments).args(["--url", &self.url, "--database", &self.database]);
        self.logged(command, log)
    }

    fn logged(&self, mut command: Command, log: &str) -> Command {
        let path = self.directory.path().join(log);
        let log = File::options().create(true).append(true).open(path).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the same log")).stderr(log);
        command
    }

    fn add(&mut self, name: &'static str, command: Command) {
        let mut running = Running { name, command, child: None };
        running.start();
        self.running.push(running);
    }

    /// Starts all three, and a worker for mails that is not the example's own if one is given. The shop
    /// comes first: its first orders find no queue, those that follow only one.
    fn open(&mut self, mail: Option<Command>) {
        let mail = mail.unwrap_or_else(|| self.command(&["mail"], "mail.log"));
        let stock = self.command(&["stock"], "stock.log");
        self.add("shop", self.command(BUSY, "shop.log"));
        for (name, command) in [("stock", stock), ("mail", mail)] {
            std::thread::sleep(Duration::from_millis(400));
            self.add(name, command);
        }
    }

    /// Kills one or several of the processes and the broker, again and again; returns how many.
    fn kill_at_random(
        &mut self,
        mut broker: Option<&mut Broker>,
        random: &mut Random,
        time: Duration,
    ) -> u32 {
        let began = Instant::now();
        let mut kills = 0;
        while began.elapsed() < time {
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            let mut victims: Vec<_> =
                self.running.iter_mut().filter(|_| random.percent(40)).collect();
            let mut broker = broker.as_mut().filter(|_| random.percent(30));
            for victim in &mut victims {
                victim.kill();
                kills += 1;
            }
            if let Some(broker) = &mut broker {
                broker.kill_nine();
                kills += 1;
            }
            std::thread::sleep(Duration::from_millis(random.below(300)));
            if let Some(broker) = &mut broker {
                broker.start();
            }
            for victim in &mut victims {
                victim.start();
            }
        }
        kills
    }

    /// No more orders are placed; what is open is finished.
    fn finish(&mut self) {
        let shop = self.running.iter_mut().find(|it| it.name == "shop").expect("there is a shop");
        shop.kill();
        let mut finishing = Running {
            name: "shop --orders 0",
            command: self.command(&["shop", "--orders", "0"], "shop.log"),
            child: None,
        };
        finishing.start();
        let began = Instant::now();
        let child = finishing.child.as_mut().expect("it runs");
        while child.try_wait().expect("a process").is_none() {
            assert!(began.elapsed() < FINISH, "orders stay open: {:?}", self.check());
            std::thread::sleep(Duration::from_millis(50));
        }
        let ended = child.wait().expect("it has ended");
        assert!(ended.success(), "{ended}");
    }

    fn check(&self) -> Output {
        let mut command = self.command(&["check"], "check.log");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("it runs")
    }

    /// All agrees, and there was something to be right about.
    fn agrees(&self, orders_min: u64) -> String {
        let output = self.check();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let mut numbers = text.split(' ').filter_map(|word| word.parse::<u64>().ok());
        let (processed, cancelled) = (numbers.next(), numbers.next());
        let (processed, cancelled) = processed.zip(cancelled).expect("two numbers");
        assert!(processed + cancelled >= orders_min && processed > 0 && cancelled > 0, "{text}");
        text
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.running.clear();
        if std::thread::panicking() {
            for log in ["shop.log", "stock.log", "mail.log"] {
                let text = std::fs::read_to_string(self.directory.path().join(log));
                let text = text.unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let last = lines[lines.len().saturating_sub(60)..].join("\n");
                eprintln!("--- the end of {log} ---\n{last}");
            }
        }
    }
}

/// Kills for a while, lets everything come to its end, and looks whether all agrees.
fn run(test: &str, shop: &mut Shop, broker: Option<&mut Broker>, time: Duration) {
    let mut random = Random::seeded();
    let seed = random.state();
    eprintln!("{test}: WILCO_TEST_SEED={seed}");
    let kills = shop.kill_at_random(broker, &mut random, time);
    shop.finish();
    eprintln!("{test}: {kills} kills; {}", shop.agrees(50).trim());
}

#[test]
fn orders_stock_and_mails_agree_whatever_is_killed() {
    let test = "orders_stock_and_mails_agree_whatever_is_killed";
    let Some(mut broker) = Broker::own(test) else { return };
    let mut shop = Shop::new(&broker.uri(), None);
    shop.open(None);
    run(test, &mut shop, Some(&mut broker), Duration::from_secs(20));
}

#[test]
fn in_postgresql_they_agree_too() {
    let test = "in_postgresql_they_agree_too";
    let Some(mut broker) = Broker::own(test) else { return };
    let Some(server) = Server::start(test, "postgresql") else { return };
    let database = format!("postgres://postgres@{}/postgres", server.address());
    let mut shop = Shop::new(&broker.uri(), Some(database));
    shop.open(None);
    run(test, &mut shop, Some(&mut broker), Duration::from_secs(8));
}

#[test]
fn with_a_mail_worker_in_python_they_agree_too() {
    let test = "with_a_mail_worker_in_python_they_agree_too";
    let Some(mut broker) = Broker::own(test) else { return };
    let python = python();
    if !python.exists() {
        return skip(test, "no Python environment with pika; `cargo xtask test` makes one");
    }
    let mut shop = Shop::new(&broker.uri(), None);
    let mut mail = Command::new(python);
    mail.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("mail_worker.py"));
    mail.arg(broker.uri()).arg(shop.directory.path().join("orders.db"));
    let mail = shop.logged(mail, "mail.log");
    shop.open(Some(mail));
    run(test, &mut shop, Some(&mut broker), Duration::from_secs(8));
}

/// The server is not killed here: `tests/tests/contract.rs` does that.
#[test]
fn with_rabbitmq_and_a_ledger_they_agree_too() {
    let test = "with_rabbitmq_and_a_ledger_they_agree_too";
    let Some(server) = Server::start(test, "rabbitmq-4.3") else { return };
    let mut shop = Shop::new("", None);
    let ledger = shop.directory.path().join("ledger.db");
    shop.url = format!("amqp://{}/?ledger=sqlite:{}", server.address(), ledger.display());
    shop.open(None);
    run(test, &mut shop, None, Duration::from_secs(8));
}

/// That of `cargo xtask test`, unless one is named.
fn python() -> PathBuf {
    match std::env::var_os("WILCO_TEST_PYTHON") {
        Some(python) => python.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/xtask/venv/bin/python"),
    }
}

#[test]
fn all_in_one_process_finishes_what_another_has_left() {
    let mut shop = Shop::new("memory:", None);
    let first = shop.command(&["all", "--orders", "1000000", "--every", "5"], "shop.log");
    shop.add("all", first);
    // Until some are finished; with the process, its broker is gone, and all that it had.
    end_to_end::eventually("orders are placed and finished", || {
        let text = String::from_utf8_lossy(&shop.check().stdout).into_owned();
        let processed = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
        processed.is_some_and(|processed| processed >= 20)
    });
    shop.running[0].kill();
    let last = shop.command(&["all", "--orders", "10", "--every", "1"], "shop.log").status();
    assert!(last.expect("it runs").success(), "it says that something does not agree");
    shop.agrees(30);
}
