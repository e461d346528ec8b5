//! Who asks, and what it may: HTTP basic authentication with the broker's users.
//!
//! Never keeps a password. A wrong name costs as much time as a wrong password.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use listener::Place;
use node::Node;
use node::auth::{Access, LoginError};

use crate::app::App;
use crate::problem::{Answer, Kind, Problem};
use crate::view::Sight;

/// Who failed too often is told so after this, so that trying on takes time.
const REFUSED_DELAY: Duration = Duration::from_millis(500);

/// Where a request came from; set by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The user who asks, authenticated. Nothing else makes one, so whoever has one may act for it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    name: String,
}

/// Lets a request through that names a user and its password.
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
    // A request of which nobody knows where it comes from comes from far away.
    let peer = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let logged_in = app.node().log_in(peer, &name, &password).await;
    if logged_in == Err(LoginError::TooManyFailures) {
        tokio::time::sleep(REFUSED_DELAY).await;
    }
    let is_welcome = logged_in.is_ok() && app.node().may_connect_from(&name, peer);
    if !is_welcome {
        let detail = match logged_in {
            Ok(()) | Err(LoginError::Wrong) => {
                "name or password is wrong, or the user may not come from this address".to_owned()
            }
            Err(error) => error.to_string(),
        };
        return Err(Problem::new(Kind::Unauthenticated, detail));
    }
    if let Some(place) = request.extensions().get::<Arc<Place>>() {
        place.known();
    }
    request.extensions_mut().insert(Caller { name });
    let response: Response = next.run(request).await;
    Ok(response)
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

impl Caller {
    /// The administrator in whose name something is done that it asked for earlier; `None` when
    /// there is none of this name any more.
    pub(crate) fn absent(node: &Node, name: &str) -> Option<Self> {
        let caller = Self { name: name.to_owned() };
        caller.has_tag(node, &["administrator"]).then_some(caller)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it sees in a virtual host, `/` unless named, which is there and which it may enter.
    pub(crate) fn sight(&self, app: &App, vhost: Option<String>) -> Answer<Sight> {
        let vhost = vhost.unwrap_or_else(|| "/".to_owned());
        let is_there = app.node().vhosts().contains(&vhost);
        if is_there && self.may_enter(app.node(), &vhost) {
            return Ok(Sight::new(app.node(), self, &vhost));
        }
        let user = &self.name;
        let detail = format!("there is no virtual host '{vhost}' that user '{user}' may enter");
        Err(Problem::new(Kind::UnknownVhost, detail))
    }

    /// Whether it may read what became of messages of a queue.
    pub(crate) fn may_read(&self, node: &Node, vhost: &str, queue: &str) -> bool {
        node.may(vhost, &self.name, Access::Read, queue)
    }

    /// Whether it may know of what is in no queue that anybody could name.
    pub(crate) fn oversees(&self, node: &Node, vhost: &str) -> bool {
        self.has_tag(node, &["administrator", "monitoring"]) && self.may_enter(node, vhost)
    }

    fn may_enter(&self, node: &Node, vhost: &str) -> bool {
        let permissions = node.permissions();
        permissions.iter().any(|(of, user, _)| of == vhost && *user == self.name)
    }

    /// That it may take messages out of a queue and put them in.
    pub(crate) fn check_change(&self, app: &App, vhost: &str, queue: &str) -> Answer<()> {
        for access in [Access::Read, Access::Write] {
            if !app.node().may(vhost, &self.name, access, queue) {
                let (user, access) = (&self.name, access.name());
                return Err(Problem::new(
                    Kind::Forbidden,
                    format!(
                        "user '{user}' lacks {access} access to queue '{queue}' in virtual host \
                         '{vhost}'"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// That it is an administrator.
    pub(crate) fn check_administrator(&self, app: &App) -> Answer<()> {
        if self.has_tag(app.node(), &["administrator"]) {
            return Ok(());
        }
        let detail = format!("user '{}' lacks the tag administrator", self.name);
        Err(Problem::new(Kind::Forbidden, detail))
    }

    fn has_tag(&self, node: &Node, tags: &[&str]) -> bool {
        let users = node.users();
        let user = users.into_iter().find(|user| user.name == self.name);
        user.is_some_and(|user| user.tags.iter().any(|tag| tags.contains(&tag.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
