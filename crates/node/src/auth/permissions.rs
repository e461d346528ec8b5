//! What one user may do in one virtual host, compiled for fast answers.
//!
//! The rules are RabbitMQ's: a pattern matches anywhere in the name unless it is anchored; the
//! empty pattern stands for `^$`; the default exchange, whose name is empty, is checked as
//! `amq.default`. Patterns work on bytes, so `\w` and `(?i)` are ASCII-only, as there.

use regex::bytes::{Regex, RegexBuilder};

use super::AuthError;
use crate::definitions::Permissions;

/// Limit for one compiled pattern, far above any serious use.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The three kinds of permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Declare or delete a resource.
    Configure,
    /// Put something into a resource: publish to an exchange, bind a queue.
    Write,
    /// Take something out of a resource: consume from a queue, bind to an exchange.
    Read,
}

impl Access {
    /// The name RabbitMQ gives it in an error text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// [`Permissions`] with their patterns compiled.
#[derive(Clone, Debug)]
pub struct CompiledPermissions {
    /// Which exchanges and queues may be declared and deleted.
    pub configure: Regex,
    /// Which exchanges may be published to, which queues bound.
    pub write: Regex,
    /// Which queues may be consumed from, which exchanges bound from.
    pub read: Regex,
}

impl CompiledPermissions {
    /// Compiles the three patterns.
    ///
    /// # Errors
    /// [`AuthError::Pattern`] for the first pattern that is not valid.
    pub fn compile(permissions: &Permissions) -> Result<Self, AuthError> {
        Ok(Self {
            configure: compile(Access::Configure, &permissions.configure)?,
            write: compile(Access::Write, &permissions.write)?,
            read: compile(Access::Read, &permissions.read)?,
        })
    }

    /// Whether this access to a resource of this name is allowed.
    pub fn allow(&self, access: Access, name: &str) -> bool {
        let pattern = match access {
            Access::Configure => &self.configure,
            Access::Write => &self.write,
            Access::Read => &self.read,
        };
        pattern.is_match(resource_name(name).as_bytes())
    }
}

/// The name by which a resource is checked.
fn resource_name(name: &str) -> &str {
    if name.is_empty() { "amq.default" } else { name }
}

fn compile(access: Access, pattern: &str) -> Result<Regex, AuthError> {
    RegexBuilder::new(if pattern.is_empty() { "^$" } else { pattern })
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|error| AuthError::Pattern {
            access: access.name(),
            pattern: pattern.to_owned(),
            reason: reason(&error),
        })
}

/// The last line of the error: the lines before draw the pattern with a mark beneath it.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let permissions = Permissions { configure: pattern.to_owned(), ..Permissions::default() };
        let compiled = CompiledPermissions::compile(&permissions).expect("a pattern");
        assert_eq!(compiled.allow(Access::Configure, name), expected, "{pattern:?} on {name:?}");
        assert!(!compiled.allow(Access::Write, name), "'' allows nothing");
    }

    #[test]
    fn patterns_match_as_in_rabbitmq() {
        check(".*", "orders", true);
        check(".*", "", true);
        check("", "orders", false);
        check("", "", false);
        check("^$", "orders", false);
        check("orders", "my-orders-2", true);
        check("^orders", "my-orders", false);
        check("^orders$", "orders", true);
        check("^(amq\\.gen.*|amq\\.default)$", "amq.gen-x", true);
        check("^(amq\\.gen.*|amq\\.default)$", "", true);
        check("amq.default", "", true);
        check("^bücher$", "bücher", true);
        check("(?i)^ORDERS$", "orders", true);
        check("^\\w+$", "a_1", true);
        check("^\\w+$", "a-1", false);
    }

    #[test]
    fn each_kind_of_access_has_its_own_pattern() {
        let permissions =
            Permissions { configure: "^c".into(), write: "^w".into(), read: "^r".into() };
        let compiled = CompiledPermissions::compile(&permissions).expect("patterns");
        assert!(compiled.allow(Access::Configure, "c1") && !compiled.allow(Access::Configure, "w"));
        assert!(compiled.allow(Access::Write, "w1") && !compiled.allow(Access::Write, "r"));
        assert!(compiled.allow(Access::Read, "r1") && !compiled.allow(Access::Read, "c"));
    }

    #[test]
    fn a_bad_pattern_is_named_in_one_line() {
        let error = |pattern: &str| {
            let permissions = Permissions { read: pattern.to_owned(), ..Permissions::default() };
            CompiledPermissions::compile(&permissions).expect_err("no pattern").to_string()
        };
        assert_eq!(
            error("(a"),
            "the read permission \"(a\" is not a valid pattern: unclosed group"
        );
        let text = error("(?!a)");
        assert!(text.contains("look-around") && !text.contains('\n'), "{text}");
        let text = error("(a{1000}){1000}");
        assert!(text.ends_with("it is too large"), "{text}");
    }
}
