//! Who is asking: HTTP basic authentication against the broker's users. What a user may do,
//! `caller` says.
//!
//! Never stores a password.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use listener::Place;

use crate::app::App;
use crate::caller::Caller;
use crate::ports::{LoginRefused, Source};
use crate::problem::{Answer, Kind, Problem};

/// How long the answer to an address with too many failed logins is delayed, so that trying again
/// takes time.
const REFUSED_DELAY: Duration = Duration::from_millis(500);

/// Where a request came from; set by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Lets a request through if it names a user and that user's password.
pub(crate) async fn authenticate(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Answer {
    let value = request.headers().get(header::AUTHORIZATION);
    let Some((name, password)) = value.and_then(|value| credentials(value.as_bytes())) else {
        let detail = "send name and password of a user with HTTP basic authentication";
        return Err(Problem::new(Kind::Unauthenticated, detail));
    };
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    // A request from an unknown address is treated as coming from far away.
    let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let source = Source { peer, is_forwarded: is_forwarded(request.headers()) };
    let caller = match Caller::log_in(app.ports(), source, &name, &password).await {
        Ok(caller) => caller,
        Err(refused) => {
            if refused == LoginRefused::TooManyFailures {
                tokio::time::sleep(REFUSED_DELAY).await;
            }
            return Err(Problem::new(Kind::Unauthenticated, refused.to_string()));
        }
    };
    if let Some(place) = request.extensions().get::<Arc<Place>>() {
        place.known();
    }
    request.extensions_mut().insert(caller);
    let response: Response = next.run(request).await;
    Ok(response)
}

/// Whether a proxy has passed a request on, as far as proxies say so.
fn is_forwarded(headers: &HeaderMap) -> bool {
    let says_so = |name: &str| {
        matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded")
    };
    headers.keys().any(|name| says_so(name.as_str()))
}

/// Name and password of `Basic ...` (RFC 7617).
fn credentials(value: &[u8]) -> Option<(String, String)> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_passes_on_says_so() {
        let of = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, header::HeaderValue::from_static("x"));
            is_forwarded(&headers)
        };
        let signs =
            ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded", "x-real-ip", "via"];
        assert!(signs.into_iter().all(of));
        assert!(!["host", "authorization", "x-request-id"].into_iter().any(of));
    }

    #[test]
    fn credentials_are_read_as_the_rfc_says() {
        let check = |value: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(name, password)| (name.to_owned(), password.to_owned()));
            assert_eq!(credentials(value.as_bytes()), expected, "{value}");
        };
        check("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame")));
        check("Basic dGVzdDoxMjPCow==", Some(("test", "123£")));
        check("Basic YTpiOmM=", Some(("a", "b:c")));
        check("Basic Og==", Some(("", "")));
        check("Basic QQ==", None);
        check("Basic !", None);
        check("Bearer abc", None);
        check("Basic", None);
    }
}
