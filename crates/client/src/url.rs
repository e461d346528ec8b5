//! Where an engine is, as a URL says it.
//!
//! `amqp://user:password@host1:5672,host2:5673/vhost?heartbeat=10&name=shop&ledger=sqlite:shop.db`:
//! everything but the scheme may be left out. Parts are percent-encoded where needed; `%2f` is the virtual host `/`.
//! `embedded:PATH` and `memory:` are brokers in this process.
//!
//! `kafka://user:password@host1:9092,host2` (feature `kafka`) and `activemq://user:password@host1:5672,host2` (AMQP 1.0,
//! feature `activemq`) have neither virtual host nor heartbeat. Kafka's own options are `partitions=COUNT`, of topics that
//! are made, and `groups=classic` or `groups=share`.
//!
//! `amqps://`, `kafkas://` and `activemqs://` are the same over TLS (feature `tls`), with AMQP's port 5671. Their further
//! options are named as [RabbitMQ's clients](https://www.rabbitmq.com/docs/uri-query-parameters) name them; files are in
//! PEM, and read at each connect:
//!
//! - `cacertfile=PATH`: who may have issued the broker's certificate, instead of the authorities of the system;
//! - `certfile=PATH` and `keyfile=PATH`: our own certificate and its key, for a broker that demands one; without
//!   `keyfile` the key is in the first file, too;
//! - `server_name_indication=NAME`: what the broker's certificate is for, if not for the host in the URL;
//! - `verify=verify_none`: whoever answers is taken for the broker, and each time a warning is logged; `verify_peer`
//!   is the default;
//! - `auth_mechanism=external`: our certificate says who we are, and no password; `plain` is the default, and Kafka
//!   also has `scram-sha-256` and `scram-sha-512`.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::tls::TlsOptions;

/// What a URL names.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// A server.
    Server(Box<Address>),
    /// A broker in this process, with a store in a directory or in memory.
    #[cfg(feature = "embedded")]
    Embedded(Option<std::path::PathBuf>),
}

impl Endpoint {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        if url == "memory:" || url.starts_with("embedded:") {
            return Self::in_process(url.strip_prefix("embedded:"));
        }
        Address::parse(url).map(Box::new).map(Self::Server)
    }

    #[cfg(feature = "embedded")]
    fn in_process(path: Option<&str>) -> Result<Self, Error> {
        if path == Some("") {
            return Err(bad("embedded: needs the directory of its store", "embedded:orders"));
        }
        Ok(Self::Embedded(path.map(Into::into)))
    }

    #[cfg(not(feature = "embedded"))]
    fn in_process(_: Option<&str>) -> Result<Self, Error> {
        let why = "embedded: and memory: need the feature embedded of the crate wilco";
        Err(bad(why, Scheme::Amqp.example()))
    }
}

/// How to speak to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// AMQP 0-9-1: a wilco server, or RabbitMQ.
    Amqp,
    /// Kafka's protocol.
    Kafka,
    /// AMQP 1.0: ActiveMQ Artemis and Classic.
    Activemq,
}

impl Scheme {
    /// The scheme with or without TLS, and what is behind.
    fn split(url: &str) -> Option<(Self, bool, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let schemes = [("amqp", Self::Amqp), ("kafka", Self::Kafka), ("activemq", Self::Activemq)];
        schemes.into_iter().find_map(|(name, this)| match scheme.strip_prefix(name)? {
            "" => Some((this, false, rest)),
            "s" => Some((this, true, rest)),
            _ => None,
        })
    }

    fn name(self, is_tls: bool) -> &'static str {
        match (self, is_tls) {
            (Self::Amqp, false) => "amqp",
            (Self::Amqp, true) => "amqps",
            (Self::Kafka, false) => "kafka",
            (Self::Kafka, true) => "kafkas",
            (Self::Activemq, false) => "activemq",
            (Self::Activemq, true) => "activemqs",
        }
    }

    fn port(self, is_tls: bool) -> u16 {
        match self {
            Self::Kafka => 9092,
            Self::Amqp | Self::Activemq if is_tls => 5671,
            Self::Amqp | Self::Activemq => 5672,
        }
    }

    fn example(self) -> &'static str {
        match self {
            Self::Amqp => "amqp://user:password@host:5672/%2f",
            Self::Kafka => "kafka://user:password@host1:9092,host2:9092",
            Self::Activemq => "activemq://user:password@host:5672",
        }
    }

    /// The feature of the crate without which there is none.
    fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Kafka if cfg!(not(feature = "kafka")) => Some("kafka"),
            Self::Activemq if cfg!(not(feature = "activemq")) => Some("activemq"),
            _ => None,
        }
    }
}

/// How a broker is to know who we are: mechanisms of SASL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// By user and password.
    Plain,
    /// By our certificate.
    External,
    /// By user and password, which the broker does not get to see (RFC 5802, RFC 7677).
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    /// Its name in AMQP.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::External => "EXTERNAL",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    fn parse(text: &str, scheme: Scheme) -> Result<Self, String> {
        let all = [Self::Plain, Self::External, Self::ScramSha256, Self::ScramSha512];
        // Kafka has a mechanism of its own for certificates, that needs no name here.
        let has = |it: &Self| match it {
            Self::Plain => true,
            Self::External => scheme != Scheme::Kafka,
            Self::ScramSha256 | Self::ScramSha512 => scheme == Scheme::Kafka,
        };
        let mut had = all.into_iter().filter(has);
        had.find(|it| it.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names: Vec<_> =
                all.iter().filter(|it| has(it)).map(|it| it.name().to_ascii_lowercase()).collect();
            format!("auth_mechanism={text:?}: {}", names.join(" or "))
        })
    }
}

/// How workers share the messages of a topic, on Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Each partition has one worker at a time.
    Classic,
    /// Each message has one worker at a time.
    Share,
}

/// Where to connect, as whom, and how.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    /// Empty: nobody in particular.
    pub(crate) user: String,
    pub(crate) password: String,
    /// At least one.
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) virtual_host: String,
    pub(crate) name: Option<String>,
    pub(crate) heartbeat: Option<Duration>,
    /// The URL of the ledger, for a broker that keeps none.
    pub(crate) ledger: Option<String>,
    /// With TLS, and how.
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) mechanism: Mechanism,
    /// Of topics that are made, on Kafka.
    pub(crate) partitions: Option<u16>,
    /// Else whatever the broker has.
    pub(crate) groups: Option<Groups>,
}

impl Address {
    /// Reads a URL of a server.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, is_tls, rest) = Scheme::split(url).ok_or_else(|| unknown_scheme(url))?;
        Self::read(scheme, is_tls, rest).map_err(|why| bad(&why, scheme.example()))
    }

    /// Reads what is behind the scheme.
    fn read(scheme: Scheme, is_tls: bool, rest: &str) -> Result<Self, String> {
        if let Some(feature) = scheme.missing_feature() {
            return Err(format!("{feature}:// needs the feature {feature} of the crate wilco"));
        }
        let tls = is_tls.then(TlsOptions::new).transpose()?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None if credentials.is_empty() && scheme == Scheme::Amqp => {
                ("guest".to_owned(), "guest".to_owned())
            }
            None => (decode(credentials)?, String::new()),
        };
        let port = scheme.port(is_tls);
        let hosts = hosts.split(',').map(|text| host(text, port)).collect::<Result<_, _>>()?;
        if scheme != Scheme::Amqp && !path.is_empty() {
            return Err(
                "behind the hosts there is nothing but options, as in ?name=shop".to_owned()
            );
        }
        let virtual_host = if path.is_empty() { "/".to_owned() } else { decode(path)? };
        let mut address = Self {
            scheme,
            user,
            password,
            hosts,
            virtual_host,
            name: None,
            heartbeat: None,
            ledger: None,
            tls,
            mechanism: Mechanism::Plain,
            partitions: None,
            groups: None,
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            address.set(option)?;
        }
        address.check()?;
        Ok(address)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, self.scheme) {
            ("heartbeat", Scheme::Amqp) => {
                let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                let seconds =
                    seconds.ok_or_else(|| format!("heartbeat={value:?}: 1 to 3600 seconds"))?;
                self.heartbeat = Some(Duration::from_secs(seconds));
            }
            ("name", _) => self.name = Some(decode(value)?),
            ("ledger", _) => self.ledger = Some(decode(value)?),
            ("auth_mechanism", _) => self.mechanism = Mechanism::parse(value, self.scheme)?,
            ("partitions", Scheme::Kafka) => {
                let count = value.parse().ok().filter(|count| (1..=10_000).contains(count));
                self.partitions =
                    Some(count.ok_or_else(|| format!("partitions={value:?}: 1 to 10000"))?);
            }
            ("groups", Scheme::Kafka) => {
                self.groups = Some(match value {
                    "classic" => Groups::Classic,
                    "share" => Groups::Share,
                    _ => return Err(format!("groups={value:?}: classic or share")),
                });
            }
            (
                "cacertfile" | "certfile" | "keyfile" | "server_name_indication" | "verify",
                scheme,
            ) => {
                let value = decode(value)?;
                let Some(tls) = &mut self.tls else {
                    return Err(format!("{name} is for {}:// only", scheme.name(true)));
                };
                tls.set(name, value)?;
            }
            // Without it: of a password that is not percent-encoded, it may be a part.
            (_, scheme) => {
                let own = match scheme {
                    Scheme::Amqp => ", heartbeat",
                    Scheme::Kafka => ", groups, partitions",
                    Scheme::Activemq => "",
                };
                return Err(format!(
                    "an option is unknown; there are auth_mechanism, ledger, name{own}, and for {}:// \
                     cacertfile, certfile, keyfile, server_name_indication and verify",
                    scheme.name(true)
                ));
            }
        }
        Ok(())
    }

    /// Whether the options go together.
    fn check(&self) -> Result<(), String> {
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        let has_certificate = self.tls.as_ref().is_some_and(TlsOptions::has_certificate);
        if self.mechanism == Mechanism::External && !has_certificate {
            let tls = self.scheme.name(true);
            return Err(format!(
                "auth_mechanism=external needs {tls}:// and certfile, which says who we are"
            ));
        }
        let is_scram = matches!(self.mechanism, Mechanism::ScramSha256 | Mechanism::ScramSha512);
        if is_scram && self.user.is_empty() {
            let name = self.mechanism.name().to_ascii_lowercase();
            return Err(format!("auth_mechanism={name} needs a user and a password"));
        }
        Ok(())
    }

    /// Whether the URL names no TLS where TLS is likely.
    pub(crate) fn may_want_tls(&self) -> bool {
        let port = self.scheme.port(true);
        self.tls.is_none()
            && port != self.scheme.port(false)
            && self.hosts.iter().any(|(_, it)| *it == port)
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
        write!(f, "{}://", self.scheme.name(self.tls.is_some()))?;
        // The broker is not told of the user if a certificate says who we are.
        if self.mechanism != Mechanism::External && !self.user.is_empty() {
            write!(f, "{}@", self.user)?;
        }
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}:{port}", if at == 0 { "" } else { "," })?;
        }
        match self.scheme {
            Scheme::Amqp => write!(f, "/{}", self.virtual_host.replace('/', "%2f")),
            Scheme::Kafka | Scheme::Activemq => Ok(()),
        }
    }
}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

fn host(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => {
            let why = "a port is a number up to 65535, and of a password all but letters and digits is \
                       percent-encoded";
            (host, port.parse().map_err(|_| why)?)
        }
        _ => (text, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((if host.is_empty() { "127.0.0.1".to_owned() } else { host.to_owned() }, port))
}

fn decode(text: &str) -> Result<String, String> {
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
            return Err("behind each % there are two hexadecimal digits".to_owned());
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "what is percent-encoded is not UTF-8".to_owned())
}

/// Never repeats the URL, which may hold a password.
fn bad(why: &str, example: &str) -> Error {
    let text = format!("the URL cannot be used: {why}; it looks like {example}");
    Error::new(ErrorKind::Url, text)
}

fn unknown_scheme(url: &str) -> Error {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let why = match is_scheme {
        true => format!("'{scheme}:' is not supported"),
        false => {
            "it begins neither with amqp:// nor with amqps://, kafka:// or activemq://".to_owned()
        }
    };
    bad(&why, Scheme::Amqp.example())
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
            "amqp://u:geheim/x@h",
            "amqp://u:ab?geheim@h/",
            "amqp://u:ab?geheim=1@h/",
            "amqp://u:geheim@h/?verify=verify_peer",
            "amqp://u:geheim@h/?cacertfile=ca.pem",
            "amqp://u:geheim@h/?auth_mechanism=external",
            "amqp://u:geheim@h/?auth_mechanism=amqplain",
            "amqps://u:geheim@h/?verify=no",
            "amqps://u:geheim@h/?cacertfile=",
            "amqps://u:geheim@h/?cacertfile=%4",
            "amqps://u:geheim@h/?keyfile=key.pem",
            "amqps://u:geheim@h/?auth_mechanism=external",
            "amqps://u:geheim@h/?password=x",
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Url, "{text}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
        let address = Address::parse("amqp://u:geheim@h").expect("a good one");
        assert!(!format!("{address} {address:?}").contains("geheim"));
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_has_a_port_and_options_of_its_own() {
        let address =
            Address::parse("amqps://a,b:1/v?cacertfile=my%20ca.pem&heartbeat=5&verify=verify_none");
        let address = address.expect("a good one");
        assert_eq!(address.hosts, [("a".to_owned(), 5671), ("b".to_owned(), 1)]);
        assert_eq!(address.to_string(), "amqps://guest@a:5671,b:1/v");
        let mut expected = TlsOptions::new().expect("there is TLS");
        expected.set("cacertfile", "my ca.pem".to_owned()).expect("a path");
        expected.set("verify", "verify_none".to_owned()).expect("one of two");
        assert_eq!(address.tls, Some(expected));
        let address =
            Address::parse("amqps://h?certfile=c.pem&auth_mechanism=EXTERNAL").expect("a good one");
        assert_eq!(address.mechanism, Mechanism::External);
        assert_eq!(address.to_string(), "amqps://h:5671/%2f");
        assert_eq!(Address::parse("amqp://h").expect("a good one").tls, None);
        let is_likely = |url: &str| Address::parse(url).expect("a good one").may_want_tls();
        assert!(is_likely("amqp://h:5671") && !is_likely("amqp://h") && !is_likely("amqps://h"));
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn kafka_has_options_of_its_own() {
        let address = Address::parse("kafka://u:p@a,b:1?groups=share&partitions=6&name=x");
        let address = address.expect("a good one");
        assert_eq!(address.hosts, [("a".to_owned(), 9092), ("b".to_owned(), 1)]);
        assert_eq!((address.groups, address.partitions), (Some(Groups::Share), Some(6)));
        assert_eq!(address.to_string(), "kafka://u@a:9092,b:1");
        assert_eq!(Address::parse("kafka://h").expect("a good one").user, "");
        for text in [
            "kafka://h/v",
            "kafka://h?heartbeat=5",
            "kafka://h?groups=some",
            "kafka://h?partitions=0",
            "kafka://h?auth_mechanism=external",
            "kafka://h?auth_mechanism=scram-sha-256",
            "kafka://u:geheim@h?x=1",
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Url, "{text}");
            assert!(
                error.to_string().contains("kafka://user") && !error.to_string().contains("geheim")
            );
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_its_feature_says_so() {
        let error = Address::parse("amqps://u:geheim@h").expect_err("no TLS");
        assert_eq!(error.kind(), ErrorKind::Url);
        assert!(error.to_string().contains("feature tls"), "{error}");
    }
}
