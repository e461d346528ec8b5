//! Where a webhook is posted to: a URL, checked as far as is possible without resolving it.

use axum::http::Uri;
use axum::http::uri::{Authority, Scheme};

use super::address::is_public;

/// A URL to post to, checked as far as is possible without resolving it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    uri: Uri,
    authority: Authority,
    is_tls: bool,
}

/// Why a URL cannot be an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// It is not a URL of the required form.
    #[error("{0}")]
    Url(&'static str),
    /// Its address does not belong to the public internet.
    #[error("it is at a private address, which webhooks.allow_private_addresses does not allow")]
    Private,
}

impl Endpoint {
    /// Reads a URL.
    pub(crate) fn parse(url: &str, allow_private: bool) -> Result<Self, EndpointError> {
        let wrong = |reason| Err(EndpointError::Url(reason));
        let Ok(uri) = url.parse::<Uri>() else { return wrong("it is no URL") };
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return wrong("it does not begin with https:// or http://"),
        };
        let Some(authority) = uri.authority().cloned() else { return wrong("it has no host") };
        if authority.as_str().contains('@') {
            return wrong("it has a user name; requests are signed by the secret instead");
        }
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.strip_prefix(authority.as_str()).unwrap_or_default();
        // RFC 3986, sections 3.3 and 3.4; there is no use for a fragment.
        if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&b))
        {
            return wrong("its path has characters that are to be percent-encoded");
        }
        let endpoint = Self { uri, authority, is_tls };
        let port = endpoint.authority.as_str().strip_prefix(endpoint.authority.host());
        if port.is_none_or(|port| !port.is_empty() && !is_port(port)) {
            return wrong("its port is not one from 1 to 65535");
        }
        let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let host = endpoint.host();
        match host.parse() {
            // A name is checked each time it is resolved; a literal address is checked now as well.
            Ok(ip) if !allow_private && !is_public(ip) => Err(EndpointError::Private),
            Ok(_) => Ok(endpoint),
            Err(_) if !host.is_empty() && host.bytes().all(is_name_byte) => Ok(endpoint),
            Err(_) => wrong("its host is neither a name nor an address"),
        }
    }

    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The path and query of the request.
    pub(super) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// The host; an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 })
    }
}

/// Whether this is `:` followed by a port.
fn is_port(text: &str) -> bool {
    let number = text.strip_prefix(':').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    number.and_then(|number| number.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_they_are_called() {
        let check = |url: &str, allow_private, expected: Result<(&str, u16), &str>| {
            let endpoint = Endpoint::parse(url, allow_private);
            let found = endpoint.as_ref().map(|endpoint| (endpoint.host(), endpoint.port()));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{url}"),
                (Err(found), Err(expected)) => {
                    assert!(found.to_string().contains(expected), "{url}: {found}");
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        };
        check("https://example.com/hook?a=b", false, Ok(("example.com", 443)));
        check("http://example.com:8080", false, Ok(("example.com", 8080)));
        check("http://[2606:4700::1111]/", false, Ok(("2606:4700::1111", 80)));
        check("http://127.0.0.1/", true, Ok(("127.0.0.1", 80)));
        check("http://127.0.0.1/", false, Err("private"));
        check("http://[::1]:80/", false, Err("private"));
        check("http://[::ffff:10.0.0.1]/", false, Err("private"));
        check("ftp://example.com/", false, Err("https://"));
        check("/hook", false, Err("https://"));
        check("https://user:word@example.com/", false, Err("user name"));
        check("not a url", false, Err("no URL"));
        check("https://example.com:0/", false, Err("port"));
        check("https://example.com:65536/", false, Err("port"));
        check("https://ex*mple.com/", false, Err("neither"));
        check("https://example.com/a|b", false, Err("percent-encoded"));
        check("https://example.com/#a", false, Err("percent-encoded"));
    }
}
