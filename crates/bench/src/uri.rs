//! AMQP URIs: `amqp://user:password@host:port/vhost`, percent-encoded where needed.

use std::fmt;
use std::str::FromStr;

/// Where to connect, and as which user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Uri {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) virtual_host: String,
}

impl FromStr for Uri {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("amqps://") {
            return Err("amqps is not supported: TLS would be measured, not the broker".into());
        }
        let rest = text.strip_prefix("amqp://").ok_or("an AMQP URI starts with amqp://")?;
        // Heartbeats and the like after `?` mean nothing to a load generator.
        let rest = rest.split('?').next().unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None if credentials.is_empty() => ("guest".into(), "guest".into()),
            None => (decode(credentials)?, "guest".into()),
        };
        let (host, port) = match address.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| format!("bad port {port:?}"))?)
            }
            _ => (address, 5672),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            user,
            password,
            host: if host.is_empty() { "127.0.0.1".into() } else { host.into() },
            port,
            virtual_host: if path.is_empty() { "/".into() } else { decode(path)? },
        })
    }
}

/// Without the password.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let virtual_host = self.virtual_host.replace('/', "%2f");
        write!(f, "amqp://{}@{}:{}/{virtual_host}", self.user, self.host, self.port)
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |octet: u8| char::from(octet).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return Err(format!("bad percent-encoding in {text:?}"));
                };
                bytes.push((high * 16 + low) as u8);
                rest = tail;
            }
            (b'%', _) => return Err(format!("bad percent-encoding in {text:?}")),
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_uri_have_defaults_and_are_percent_decoded() {
        let check = |text: &str, expected: (&str, &str, &str, u16, &str)| {
            let uri: Uri = text.parse().unwrap();
            let parts = (&*uri.user, &*uri.password, &*uri.host, uri.port, &*uri.virtual_host);
            assert_eq!(parts, expected, "{text}");
        };
        check("amqp://127.0.0.1", ("guest", "guest", "127.0.0.1", 5672, "/"));
        check("amqp://a:b%40@h:5679/%2f", ("a", "b@", "h", 5679, "/"));
        check("amqp://u:p@[::1]:1/test?heartbeat=5", ("u", "p", "::1", 1, "test"));
        check("amqp://", ("guest", "guest", "127.0.0.1", 5672, "/"));
        assert!("http://x".parse::<Uri>().is_err());
        assert!("amqp://x:y/".parse::<Uri>().is_err());
        assert!("amqp://a%4:b@h/".parse::<Uri>().is_err());
    }
}
