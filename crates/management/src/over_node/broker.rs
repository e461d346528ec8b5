//! Users, and the state of the node.

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use node::auth::{Identity, LoginError};

use super::OverNode;
use crate::ports::{Broker, Changed, LoginRefused, Source, User};

#[async_trait]
impl Broker for OverNode {
    async fn log_in(
        &self,
        source: Source,
        user: &str,
        password: &str,
    ) -> Result<User, LoginRefused> {
        let Source { peer, is_forwarded } = source;
        // What a proxy passes on may come from anywhere, whatever address the proxy has.
        let from = if is_forwarded { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { peer };
        let checked = match self.node.may_connect_from(user, from) {
            true => self.node.log_in(peer, user, password).await.map_err(|error| match error {
                LoginError::Wrong => LoginRefused::Wrong,
                LoginError::TooManyFailures => LoginRefused::TooManyFailures,
                _ => LoginRefused::Unavailable,
            }),
            // The password is not looked at: how long that takes would tell whether it is right.
            false => Err(LoginRefused::Wrong),
        };
        let checked =
            checked.map(|who| User { name: who.user().to_owned(), incarnation: who.incarnation() });
        if let Err(refused) = &checked {
            tracing::warn!(target: "audit", %peer, is_forwarded, user = ?short(user), "HTTP login refused: {refused}");
        }
        checked
    }

    fn is_current(&self, user: &User) -> bool {
        self.node.is_current(&identity(user))
    }

    fn revoked(&self) -> Changed {
        Box::pin(self.node.revoked())
    }

    fn tags(&self, user: &str) -> Option<Vec<String>> {
        self.node.user_tags(user)
    }

    fn may_enter(&self, user: &str, vhost: &str) -> bool {
        self.node.may_enter(vhost, user)
    }

    fn has_history(&self) -> bool {
        self.node.recovered().log_bytes > 0
    }
}

/// As much of a name as a user's name may have.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(255)]
}

/// What the node calls a user.
pub(super) fn identity(user: &User) -> Identity {
    Identity::new(&user.name, user.incarnation)
}
