//! Users, and the state of the node.

use std::net::IpAddr;

use async_trait::async_trait;
use node::auth::LoginError;

use super::OverNode;
use crate::ports::{Broker, LoginRefused};

#[async_trait]
impl Broker for OverNode {
    async fn log_in(&self, peer: IpAddr, user: &str, password: &str) -> Result<(), LoginRefused> {
        self.node.log_in(peer, user, password).await.map_err(|error| match error {
            LoginError::Wrong => LoginRefused::Wrong,
            LoginError::TooManyFailures => LoginRefused::TooManyFailures,
            _ => LoginRefused::Unavailable,
        })?;
        if self.node.may_connect_from(user, peer) { Ok(()) } else { Err(LoginRefused::Wrong) }
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
