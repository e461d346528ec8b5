//! The broker for programs that do not start one themselves.
//!
//! A wilco started here has an empty store and a port of its own, and is killed when dropped: nobody
//! needs its store then.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// What the broker prints before its port once it listens.
const BEFORE_PORT: &str = "amqp://guest:guest@127.0.0.1:";
/// What the broker would read from the environment.
const VARIABLES: [&str; 5] =
    ["WILCO_DATA", "WILCO_AMQP", "WILCO_HTTP", "WILCO_CONFIG", "WILCO_LOG"];

/// A broker on 127.0.0.1 that knows guest with the password guest.
pub(super) struct Broker {
    /// Present if it was started here.
    child: Option<Child>,
    port: u16,
}

impl Broker {
    /// Starts wilco in `directory`, which is emptied first, and waits until it listens. What it
    /// prints goes to `log`.
    pub(super) fn start(binary: &Path, directory: &Path, log: &Path) -> Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        if let Some(logs) = log.parent() {
            fs::create_dir_all(logs)?;
        }
        let output =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        // A relative path would be looked for in the broker's directory.
        let mut wilco = Command::new(fs::canonicalize(binary).context("wilco is not there")?);
        for variable in VARIABLES {
            wilco.env_remove(variable);
        }
        let child = wilco
            .args(["serve", "--amqp", "127.0.0.1:0", "--http", "off", "--data"])
            .arg(directory.join("data"))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("wilco does not start")?;
        let mut broker = Self { child: Some(child), port: 0 };
        broker.port = broker.wait_for_port(log)?;
        Ok(broker)
    }

    /// One that somebody else runs. `None` if the URL names another machine, user or virtual host.
    pub(super) fn running(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("amqp://guest:guest@")?;
        let (address, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = address.split_once(':').unwrap_or((address, "5672"));
        let is_ours =
            matches!(host, "127.0.0.1" | "localhost") && matches!(vhost, "" | "%2f" | "%2F");
        if !is_ours {
            return None;
        }
        Some(Self { child: None, port: port.parse().ok()? })
    }

    /// The port of its AMQP listener.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn wait_for_port(&mut self, log: &Path) -> Result<u16> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(port) = port_in(&String::from_utf8_lossy(&fs::read(log)?)) {
                return Ok(port);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("wilco ended ({status}), see {}", log.display());
            }
            if Instant::now() > deadline {
                bail!("wilco does not get ready, see {}", log.display());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only if it has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The port in what the broker has printed so far.
fn port_in(output: &str) -> Option<u16> {
    let (_, rest) = output.split_once(BEFORE_PORT)?;
    rest.split_once('/')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_read_once_it_is_printed_whole() {
        let output = "wilco 0.1.0\n  amqp       amqp://guest:guest@127.0.0.1:38529/\n";
        assert_eq!(port_in(output), Some(38529));
        assert_eq!(port_in(&output[..output.len() - 4]), None);
        assert_eq!(port_in("wilco 0.1.0\n"), None);
    }

    #[test]
    fn only_guest_on_this_machine_will_do() {
        let port = |url: &str| Broker::running(url).map(|broker| broker.port());
        assert_eq!(port("amqp://guest:guest@127.0.0.1:5673/%2F"), Some(5673));
        assert_eq!(port("amqp://guest:guest@localhost"), Some(5672));
        assert_eq!(port("amqp://guest:guest@example.com:5672/"), None);
        assert_eq!(port("amqp://guest:guest@127.0.0.1:5672/other"), None);
        assert_eq!(port("amqp://somebody:else@127.0.0.1:5672/"), None);
    }
}
