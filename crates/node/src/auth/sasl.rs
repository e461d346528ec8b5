//! SASL responses: what a client sends in `connection.start-ok`.

use amqp::TableRef;

use super::AuthError;

/// User and password of a PLAIN response (RFC 4616): `[authorization id] NUL user NUL password`. As
/// in RabbitMQ nobody acts for someone else: the authorization id is empty or equals the user.
///
/// # Errors
/// [`AuthError::Response`].
pub fn parse_plain(response: &[u8]) -> Result<(String, String), AuthError> {
    let malformed = |reason| malformed("PLAIN", reason);
    let mut parts = response.split(|byte| *byte == 0);
    let (Some(acts_for), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("expected NUL, user, NUL, password"));
    };
    if !acts_for.is_empty() && acts_for != user {
        return Err(malformed("the authorization id is not the user"));
    }
    let text = |part: &[u8]| {
        std::str::from_utf8(part)
            .map(str::to_owned)
            .map_err(|_| malformed("user and password must be UTF-8"))
    };
    Ok((text(user)?, text(password)?))
}

/// User and password of an AMQPLAIN response: the entries LOGIN and PASSWORD of a field table that
/// has no length in front.
///
/// # Errors
/// [`AuthError::Response`].
pub fn parse_amqplain(response: &[u8]) -> Result<(String, String), AuthError> {
    let table = TableRef::new(response);
    let entry = |name: &'static str, reason| {
        let value = table
            .get(name)
            .map_err(|_| malformed("AMQPLAIN", "it is no field table"))?
            .ok_or_else(|| malformed("AMQPLAIN", reason))?;
        value.as_str().map(str::to_owned).ok_or_else(|| malformed("AMQPLAIN", reason))
    };
    Ok((
        entry("LOGIN", "LOGIN must be there, as a long string of UTF-8")?,
        entry("PASSWORD", "PASSWORD must be there, as a long string of UTF-8")?,
    ))
}

fn malformed(mechanism: &'static str, reason: &str) -> AuthError {
    AuthError::Response { mechanism, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn plain_is_read() {
        let check = |response: &[u8], expected| {
            assert_eq!(parse_plain(response).ok(), expected, "{}", response.escape_ascii());
        };
        check(b"\0guest\0guest", pair("guest", "guest"));
        check(b"guest\0guest\0secret", pair("guest", "secret"));
        check(b"\0guest\0", pair("guest", ""));
        check(b"\0\0", pair("", ""));
        check("\0zoë\0pässwort".as_bytes(), pair("zoë", "pässwort"));
        check(b"other\0guest\0guest", None);
        check(b"\0guest", None);
        check(b"\0guest\0a\0b", None);
        check(b"\0gu\xffest\0guest", None);
        check(b"guest", None);
        check(b"", None);
    }

    #[test]
    fn amqplain_is_read() {
        let check = |response: &[u8], expected| {
            assert_eq!(parse_amqplain(response).ok(), expected, "{}", response.escape_ascii());
        };
        check(b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x01p", pair("guest", "p"));
        check(b"\x08PASSWORDS\0\0\0\x01p\x05LOGINS\0\0\0\x05guest", pair("guest", "p"));
        check(b"\x05LOGINS\0\0\0\x05guest", None);
        check(b"\x05LOGINt\x01\x08PASSWORDS\0\0\0\x01p", None);
        check(b"\x05LOGINS\0\0\0\xffguest\x08PASSWORDS\0\0\0\x01p", None);
        check(b"\x05LOGIN", None);
        check(b"", None);
    }

    #[test]
    fn an_error_never_shows_the_password() {
        let error = parse_plain(b"x\0guest\0secret").expect_err("no login").to_string();
        assert_eq!(error, "the PLAIN response is malformed: the authorization id is not the user");
    }
}
