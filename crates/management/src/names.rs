//! The names under which this server is known, besides its addresses.

use std::net::IpAddr;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// This machine's name.
    machine: String,
    /// Those that the operator lists.
    listed: Vec<String>,
}

impl Names {
    pub(crate) fn new(listed: &[String]) -> Self {
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { machine, listed: listed.to_vec() }
    }

    /// Whether the host of an authority (`host` or `host:port`) is an address, `localhost`, or one of
    /// the names.
    pub(crate) fn include(&self, authority: &str) -> bool {
        let host = host(authority);
        host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || host.eq_ignore_ascii_case(&self.machine)
            || self.are_listed(authority)
    }

    /// Whether the operator lists the host of an authority.
    pub(crate) fn are_listed(&self, authority: &str) -> bool {
        self.listed.iter().any(|name| name.eq_ignore_ascii_case(host(authority)))
    }
}

/// The host of an authority, without brackets and port.
fn host(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
