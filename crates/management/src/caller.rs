//! Who asks, and what it may. Permissions are asked of the ports each time: what is taken away is
//! gone at once.

use std::net::IpAddr;

use crate::ports::{Access, LoginRefused, Ports};
use crate::problem::{Answer, Kind, Problem};

/// The tag of who may do everything, webhooks too.
const ADMINISTRATOR: &str = "administrator";
/// The tag of who may see what is nobody's.
const MONITORING: &str = "monitoring";

/// The user who asks, authenticated. Nothing else makes one, so whoever has one may act for it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    name: String,
}

impl Caller {
    /// The user who comes from this address with this password.
    pub(crate) async fn log_in(
        ports: &Ports,
        peer: IpAddr,
        name: String,
        password: &str,
    ) -> Result<Self, LoginRefused> {
        ports.broker.log_in(peer, &name, password).await?;
        Ok(Self { name })
    }

    /// The administrator in whose name something is done that it asked for earlier; `None` when
    /// there is none of this name any more.
    pub(crate) fn absent(ports: &Ports, name: &str) -> Option<Self> {
        let caller = Self { name: name.to_owned() };
        caller.has_tag(ports, &[ADMINISTRATOR]).then_some(caller)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may enter a virtual host, and there is one.
    pub(crate) fn may_enter(&self, ports: &Ports, vhost: &str) -> bool {
        ports.broker.may_enter(&self.name, vhost)
    }

    /// Whether it may access a queue or an exchange so.
    pub(crate) fn may(&self, ports: &Ports, vhost: &str, access: Access, name: &str) -> bool {
        ports.messages.may(&self.name, vhost, access, name)
    }

    /// Whether it may know of what is in no queue that anybody could name.
    pub(crate) fn oversees(&self, ports: &Ports, vhost: &str) -> bool {
        self.has_tag(ports, &[ADMINISTRATOR, MONITORING]) && self.may_enter(ports, vhost)
    }

    /// That it may take messages out of a queue and put them in.
    pub(crate) fn check_change(&self, ports: &Ports, vhost: &str, queue: &str) -> Answer<()> {
        for access in [Access::Read, Access::Write] {
            if !self.may(ports, vhost, access, queue) {
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
    pub(crate) fn check_administrator(&self, ports: &Ports) -> Answer<()> {
        if self.has_tag(ports, &[ADMINISTRATOR]) {
            return Ok(());
        }
        let detail = format!("user '{}' lacks the tag administrator", self.name);
        Err(Problem::new(Kind::Forbidden, detail))
    }

    fn has_tag(&self, ports: &Ports, wanted: &[&str]) -> bool {
        let tags = ports.broker.tags(&self.name).unwrap_or_default();
        tags.iter().any(|tag| wanted.contains(&tag.as_str()))
    }
}
