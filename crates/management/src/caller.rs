//! Who is asking, and what that user may do. Permissions are looked up in the ports each time, so
//! one that is taken away is gone at once.

use crate::ports::{Access, LoginRefused, Ports, Source, User};
use crate::problem::{Answer, Kind, Problem};

/// The tag of users who may do everything, including webhooks.
const ADMINISTRATOR: &str = "administrator";
/// The tag of users who may see what belongs to no queue.
const MONITORING: &str = "monitoring";

/// An authenticated user. Values are made nowhere else, so whoever holds one may act for that user.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    user: User,
}

impl Caller {
    /// Logs in the user who comes from there with this password.
    pub(crate) async fn log_in(
        ports: &Ports,
        source: Source,
        name: &str,
        password: &str,
    ) -> Result<Self, LoginRefused> {
        Ok(Self { user: ports.broker.log_in(source, name, password).await? })
    }

    /// Somebody whom the broker knows already: the user of a connection of its own.
    pub(crate) fn connected(user: User) -> Self {
        Self { user }
    }

    /// The administrator on whose behalf something is done that they asked for earlier; `None` if
    /// they no longer exist or are no administrator any more.
    pub(crate) fn absent(ports: &Ports, user: User) -> Option<Self> {
        let caller = Self { user };
        caller.has_tag(ports, &[ADMINISTRATOR]).then_some(caller)
    }

    /// The user's name.
    pub(crate) fn name(&self) -> &str {
        &self.user.name
    }

    /// The user.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// Whether the virtual host exists and the user may enter it.
    pub(crate) fn may_enter(&self, ports: &Ports, vhost: &str) -> bool {
        ports.broker.is_current(&self.user) && ports.broker.may_enter(self.name(), vhost)
    }

    /// Whether the user has this access to a queue or an exchange.
    pub(crate) fn may(&self, ports: &Ports, vhost: &str, access: Access, name: &str) -> bool {
        ports.broker.is_current(&self.user) && ports.messages.may(self.name(), vhost, access, name)
    }

    /// Whether the user may know about messages that are in no queue anybody could name.
    pub(crate) fn oversees(&self, ports: &Ports, vhost: &str) -> bool {
        self.has_tag(ports, &[ADMINISTRATOR, MONITORING]) && self.may_enter(ports, vhost)
    }

    /// Checks that the user may take messages out of a queue and put them in.
    pub(crate) fn check_change(&self, ports: &Ports, vhost: &str, queue: &str) -> Answer<()> {
        for access in [Access::Read, Access::Write] {
            if !self.may(ports, vhost, access, queue) {
                let (user, access) = (self.name(), access.name());
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

    /// Checks that the user is an administrator.
    pub(crate) fn check_administrator(&self, ports: &Ports) -> Answer<()> {
        if self.has_tag(ports, &[ADMINISTRATOR]) {
            return Ok(());
        }
        let detail = format!("user '{}' lacks the tag administrator", self.name());
        Err(Problem::new(Kind::Forbidden, detail))
    }

    fn has_tag(&self, ports: &Ports, wanted: &[&str]) -> bool {
        let tags = ports.broker.tags(self.name()).unwrap_or_default();
        ports.broker.is_current(&self.user) && tags.iter().any(|tag| wanted.contains(&tag.as_str()))
    }
}
