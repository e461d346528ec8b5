//! Where an engine is, as a URL says it.
//!
//! `amqp://user:password@host1:5672,host2:5673/vhost?heartbeat=10&name=shop&ledger=sqlite:shop.db`:
//! everything but the scheme may be left out. Parts are percent-encoded where needed; `%2f` is the virtual host `/`.
//! `embedded:PATH` and `memory:` are brokers in this process.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// AMQP's port.
const PORT: u16 = 5672;

/// What a URL names.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// A server.
    Amqp(Address),
    /// A broker in this process, with a store in a directory or in memory.
    #[cfg(feature = "embedded")]
    Embedded(Option<std::path::PathBuf>),
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        if url == "memory:" || url.starts_with("embedded:") {
            return Self::in_process(url.strip_prefix("embedded:"));
        }
        Address::parse(url).map(Self::Amqp)
    }

    #[cfg(feature = "embedded")]
    fn in_process(path: Option<&str>) -> Result<Self, Error> {
        if path == Some("") {
            return Err(bad("embedded: needs the directory of its store, such as embedded:orders"));
        }
        Ok(Self::Embedded(path.map(Into::into)))
    }

    #[cfg(not(feature = "embedded"))]
    fn in_process(_: Option<&str>) -> Result<Self, Error> {
        Err(bad("embedded: and memory: need the feature embedded of the crate wilco"))
    }
}

/// Where to connect, as whom, and how.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) user: String,
    pub(crate) password: String,
    /// At least one.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) virtual_host: String,
    pub(crate) name: Option<String>,
    pub(crate) heartbeat: Option<Duration>,
    /// The URL of the ledger, for a broker that keeps none.
    pub(crate) ledger: Option<String>,
}

impl Address {
    /// Reads what is behind `amqp://`.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let rest = url.strip_prefix("amqp://").ok_or_else(|| unknown_scheme(url))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None if credentials.is_empty() => ("guest".to_owned(), "guest".to_owned()),
            None => (decode(credentials)?, String::new()),
        };
        let hosts = hosts.split(',').map(host).collect::<Result<_, _>>()?;
        let virtual_host = if path.is_empty() { "/".to_owned() } else { decode(path)? };
        let (name, heartbeat, ledger) = (None, None, None);
        let mut address = Self { user, password, hosts, virtual_host, name, heartbeat, ledger };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            address.set(option)?;
        }
        Ok(address)
    }

    fn set(&mut self, option: &str) -> Result<(), Error> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "heartbeat" => {
                let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                let seconds = seconds
                    .ok_or_else(|| bad(&format!("heartbeat={value:?}: 1 to 3600 seconds")))?;
                self.heartbeat = Some(Duration::from_secs(seconds));
            }
            "name" => self.name = Some(decode(value)?),
            "ledger" => self.ledger = Some(decode(value)?),
            _ => {
                return Err(bad(&format!(
                    "the option {name:?} is unknown; there are heartbeat, ledger and name"
                )));
            }
        }
        Ok(())
    }

    /// What the broker shows in its list of connections.
    pub(crate) fn connection_name(&self) -> String {
        let executable = || {
            let path = std::env::current_exe().ok()?;
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        self.name.clone().or_else(executable).unwrap_or_else(|| "wilco client".to_owned())
    }
}

/// Without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "amqp://{}@", self.user)?;
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}:{port}", if at == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.virtual_host.replace('/', "%2f"))
    }
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn host(text: &str) -> Result<(String, u16), Error> {
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| bad(&format!("{port:?} is not a port")))?)
        }
        _ => (text, PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((if host.is_empty() { "127.0.0.1".to_owned() } else { host.to_owned() }, port))
}

fn decode(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|octet| char::from(*octet).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(bad("behind each % there are two hexadecimal digits"));
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| bad("what is percent-encoded is not UTF-8"))
}

/// Never repeats the URL, which may hold a password.
fn bad(why: &str) -> Error {
    let text =
        format!("the URL cannot be used: {why}; it looks like amqp://user:password@host:5672/%2f");
    Error::new(ErrorKind::Url, text)
}

fn unknown_scheme(url: &str) -> Error {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric());
    match is_scheme {
        true => bad(&format!("'{scheme}:' is not supported")),
        false => bad("it does not begin with amqp://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_defaults_and_are_percent_decoded() {
        let check = |text: &str, user: &str, password: &str, hosts: &[(&str, u16)], vhost: &str| {
            let address = Address::parse(text).expect(text);
            assert_eq!((&*address.user, &*address.password), (user, password), "{text}");
            let read: Vec<_> = address.hosts.iter().map(|(host, port)| (&**host, *port)).collect();
            assert_eq!((&*read, &*address.virtual_host), (hosts, vhost), "{text}");
        };
        check("amqp://", "guest", "guest", &[("127.0.0.1", 5672)], "/");
        check("amqp://h", "guest", "guest", &[("h", 5672)], "/");
        check("amqp://a:b%40@h:5679/%2f", "a", "b@", &[("h", 5679)], "/");
        check("amqp://u@[::1]:1/test?heartbeat=5", "u", "", &[("::1", 1)], "test");
        check(
            "amqp://one:1,two,three:3/v",
            "guest",
            "guest",
            &[("one", 1), ("two", 5672), ("three", 3)],
            "v",
        );
        let options = Address::parse("amqp://h/?heartbeat=5&name=a%20b").expect("two options");
        assert_eq!(options.heartbeat, Some(Duration::from_secs(5)));
        assert_eq!(options.connection_name(), "a b");
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_no_password_repeated() {
        for text in [
            "",
            "h",
            "http://u:geheim@h",
            "amqp://u:geheim@h:port",
            "amqp://u:geheim%4@h",
            "amqp://u:geheim@h/%FF",
            "amqp://u:geheim@h/?x=1",
            "amqp://u:geheim@h/?heartbeat=0",
            "amqp://u:geheim@h/?heartbeat=x",
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Url, "{text}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
        let address = Address::parse("amqp://u:geheim@h").expect("a good one");
        assert!(!format!("{address} {address:?}").contains("geheim"));
    }
}
