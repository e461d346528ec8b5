//! What a browser may be made to do: it sends its user's password with requests of any page.
//!
//! A request with a browser's marks (`Origin`, `Sec-Fetch-*`) is served only under a name that is known
//! to be ours, or a page could make its own name point here. A request that changes something must come
//! from a page of ours. Programs send no such marks, and are not asked for anything.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;

use crate::app::App;
use crate::extract::check_json;
use crate::names::Names;
use crate::problem::{Answer, Kind, Problem};

/// Refuses what a page of somebody else makes a browser send, and bodies that are not JSON.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Answer {
    check(app.names(), request.method(), request.headers())?;
    Ok(next.run(request).await)
}

fn check(names: &Names, method: &Method, headers: &HeaderMap) -> Answer<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (origin, site) = (text("origin"), text("sec-fetch-site"));
    let is_browser = origin.is_some() || headers.keys().any(is_fetch_metadata);
    let authority = text(header::HOST.as_str()).unwrap_or_default();
    if is_browser && !names.include(authority) {
        let detail = format!(
            "'{authority}' is not known as a name of this server; add it to http.names if it is one"
        );
        return Err(Problem::new(Kind::UnknownHost, detail));
    }
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let is_foreign = origin.is_some_and(|origin| !is_own(names, origin, authority));
    if changes && (is_foreign || site == Some("cross-site")) {
        let detail = "another site's page may not change anything here";
        return Err(Problem::new(Kind::CrossSite, detail));
    }
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || text(header::CONTENT_LENGTH.as_str()).is_some_and(|length| length != "0");
    if has_body { check_json(headers) } else { Ok(()) }
}

fn is_fetch_metadata(name: &header::HeaderName) -> bool {
    name.as_str().starts_with("sec-fetch-")
}

/// Whether a page of this origin is one of ours: it was loaded from where it now asks, or, past a proxy
/// that rewrites `Host`, under a listed name.
fn is_own(names: &Names, origin: &str, authority: &str) -> bool {
    let Some((scheme, of_page)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let plain = |authority: &str| {
        let lower = authority.to_ascii_lowercase();
        lower.strip_suffix(default_port).map(str::to_owned).unwrap_or(lower)
    };
    plain(of_page) == plain(authority) || names.are_listed(of_page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(method: Method, sent: &[(&str, &str)]) -> Result<(), Kind> {
        let names = Names::new(&["wilco.example".to_owned()]);
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.insert(name, value.parse().expect("a value"));
        }
        check(&names, &method, &headers).map_err(|problem| problem.kind())
    }

    #[test]
    fn programs_may_call_under_any_name() {
        assert_eq!(answer(Method::POST, &[("host", "queue.internal")]), Ok(()));
        assert_eq!(answer(Method::POST, &[]), Ok(()));
    }

    #[test]
    fn a_browser_is_served_under_known_names_only() {
        let hosts = [
            ("127.0.0.1:15680", Ok(())),
            ("[::1]:15680", Ok(())),
            ("LOCALHOST", Ok(())),
            ("wilco.example:443", Ok(())),
            ("evil.example", Err(Kind::UnknownHost)),
            ("localhost.evil.example", Err(Kind::UnknownHost)),
            ("127.0.0.1.evil.example", Err(Kind::UnknownHost)),
            ("", Err(Kind::UnknownHost)),
        ];
        for (host, expected) in hosts {
            let sent = [("host", host), ("sec-fetch-site", "same-origin")];
            assert_eq!(answer(Method::GET, &sent), expected, "{host}");
        }
    }

    #[test]
    fn only_our_own_pages_change_anything() {
        let own = ("host", "127.0.0.1:15680");
        let origins = [
            ("http://127.0.0.1:15680", Ok(())),
            ("https://wilco.example", Ok(())),
            ("http://127.0.0.1:8080", Err(Kind::CrossSite)),
            ("http://localhost:3000", Err(Kind::CrossSite)),
            ("https://evil.example", Err(Kind::CrossSite)),
            ("null", Err(Kind::CrossSite)),
        ];
        for (origin, expected) in origins {
            assert_eq!(answer(Method::POST, &[own, ("origin", origin)]), expected, "{origin}");
            assert_eq!(answer(Method::GET, &[own, ("origin", origin)]), Ok(()), "{origin}");
        }
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(answer(Method::DELETE, &[own, cross]), Err(Kind::CrossSite));
        let default_port = [("host", "wilco.example"), ("origin", "https://wilco.example:443")];
        assert_eq!(answer(Method::POST, &default_port), Ok(()));
    }

    #[test]
    fn a_body_is_json() {
        let length = ("content-length", "3");
        let media = |value| answer(Method::POST, &[length, ("content-type", value)]);
        assert_eq!(media("application/json"), Ok(()));
        for wrong in ["text/plain", "application/x-www-form-urlencoded"] {
            assert_eq!(media(wrong), Err(Kind::UnsupportedMediaType), "{wrong}");
        }
        let chunked = [("transfer-encoding", "chunked")];
        assert_eq!(answer(Method::POST, &chunked), Err(Kind::UnsupportedMediaType));
        let nothing = [("content-length", "0"), ("content-type", "text/plain")];
        assert_eq!(answer(Method::POST, &nothing), Ok(()));
    }
}
