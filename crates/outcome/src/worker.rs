//! Who works on a message: the user that logged in, and what its client calls itself.
//!
//! The name is whatever the client says, so it may pass for anybody's; the user was authenticated.
//! The log and the ledger have both as one text, which is what [`Details`](crate::Details) and events
//! hold: user, a zero byte, name. No user's name has control characters. Texts from before there were
//! users in them are names only.

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worker<'a> {
    /// The user's name; empty if it is not known.
    pub user: &'a str,
    /// Name of the connection, `/`, tag of the consumer.
    pub name: &'a str,
}

/// The most bytes of the text.
const BYTES_MAX: usize = 255;

impl<'a> Worker<'a> {
    /// Reads a text.
    pub fn parse(text: &'a str) -> Self {
        match text.split_once('\0') {
            Some((user, name)) if !user.is_empty() => Self { user, name },
            _ => Self { user: "", name: text },
        }
    }

    /// Both in one text of at most 255 bytes; the name is cut.
    pub fn text(&self) -> String {
        let Self { user, name } = *self;
        let mut text = match user {
            "" => name.to_owned(),
            user => format!("{user}\0{name}"),
        };
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_name_are_told_apart_whatever_a_client_calls_itself() {
        let table = [
            ("anna", "billing/ctag-1"),
            ("anna", "bert\0admin/ctag"),
            ("anna", ""),
            ("", "from before"),
            ("", ""),
        ];
        for (user, name) in table {
            let worker = Worker { user, name };
            assert_eq!(Worker::parse(&worker.text()), worker);
        }
    }

    #[test]
    fn a_long_name_is_cut_and_its_user_is_not() {
        let (user, name) = ("u".repeat(200), "ü".repeat(200));
        let text = Worker { user: &user, name: &name }.text();
        assert!(text.len() <= BYTES_MAX);
        assert_eq!(Worker::parse(&text).user, user);
    }
}
