//! Errors as clients see them: problem details (RFC 9457), each of a kind that has a page of its
//! own.
//!
//! Owns the list of kinds, with the status of each and a text that says what to do. Never says more
//! than the caller may know: to a user, what it may not read does not exist.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::ports::MessagesError;

macro_rules! kinds {
    ($($kind:ident, $name:literal, $status:ident, $title:literal, $page:literal;)*) => {
        /// What is wrong, from a fixed list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind {
            $(#[doc = $title] $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// The last part of its `type`.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The HTTP status.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// One short line, the same for every occurrence.
            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }

            /// What it means and what to do about it.
            pub(crate) fn page(self) -> &'static str {
                match self { $(Self::$kind => $page,)* }
            }
        }
    };
}

kinds! {
    BadRequest, "bad-request", BAD_REQUEST, "The request is not understood",
        "A parameter or a field of the body is missing, unknown or has a value that is not allowed. \
         `detail` names it. GET /v1/openapi.json describes every call.";
    ReservedTarget, "reserved-target", BAD_REQUEST, "Nobody publishes there over HTTP",
        "amq.wilco.report is for workers, on the channel that holds the message; questions to \
         amq.wilco.query are answered over AMQP; only the broker publishes to amq.wilco.outcomes; \
         an address of direct reply-to is for replies over AMQP.";
    Unauthenticated, "unauthenticated", UNAUTHORIZED, "Name and password are needed",
        "Send the name and password of a user of the broker with HTTP basic authentication. The \
         user guest may come from this machine only, and not through a proxy, unless \
         auth.loopback_users says otherwise.";
    Forbidden, "forbidden", FORBIDDEN, "The user may not do this",
        "The user lacks a permission. `detail` says which; `wilco permission set` grants it.";
    CrossSite, "cross-site", FORBIDDEN, "Another site's page may not do this",
        "The request comes from a page of another site (headers Origin and Sec-Fetch-Site), and would \
         change something. Send it from a page of this server, or from a program without these \
         headers. Behind a proxy that rewrites Host, list the public name in http.names.";
    UnknownHost, "unknown-host", FORBIDDEN, "The server is not known under this name",
        "A browser asked under a name (header Host) that is no address, not localhost, not the \
         machine's name and not in http.names. If the name is right, list it there.";
    PrivateAddress, "private-address", FORBIDDEN, "The address is a private one",
        "Webhooks may call addresses of the public internet only, unless the configuration says \
         webhooks.allow_private_addresses = true.";
    UnknownPath, "unknown-path", NOT_FOUND, "There is nothing at this path",
        "GET /v1/openapi.json lists the paths there are.";
    UnknownVhost, "unknown-vhost", NOT_FOUND, "There is no such virtual host",
        "The query parameter `vhost` names a virtual host that does not exist or that the user has \
         no permissions in. Without it, it is `/`.";
    UnknownExchange, "unknown-exchange", NOT_FOUND, "There is no such exchange",
        "Declare the exchange first, over AMQP. The default exchange has an empty name and takes a \
         queue's name as routing key.";
    UnknownMessage, "unknown-message", NOT_FOUND, "No such message is known",
        "Nobody published a message with this id here, or it was so long ago that it is forgotten \
         (ledger.retention_hours), or none of its queues may be read by this user. A message \
         without the property message_id, and without asking for its outcome, is not followed.";
    UnknownWebhook, "unknown-webhook", NOT_FOUND, "There is no such webhook",
        "GET /v1/webhooks lists those there are.";
    MethodNotAllowed, "method-not-allowed", METHOD_NOT_ALLOWED, "The path has no such method",
        "The header Allow of the answer lists the methods of this path.";
    AmbiguousQueue, "ambiguous-queue", CONFLICT, "More than one queue could be meant",
        "The message is in several queues. Name one with the query parameter `queue`.";
    BeingWorkedOn, "being-worked-on", CONFLICT, "A worker has the message",
        "Only a message that waits in its queue can be cancelled. Wait for its outcome, or stop the \
         worker: what it has not acked goes back to the queue.";
    AlreadySettled, "already-settled", CONFLICT, "The message has its outcome already",
        "There is nothing left to cancel. GET /v1/messages/{id} shows the outcome.";
    NotFailed, "not-failed", CONFLICT, "The message has not failed",
        "Only a message whose outcome is not `processed` can be tried again, and only once it has \
         an outcome.";
    TooManyWebhooks, "too-many-webhooks", CONFLICT, "There are too many webhooks",
        "Delete one that is not needed any more, or let one serve several queues.";
    ContentGone, "content-gone", GONE, "The message's content is not kept",
        "The ledger keeps what a failed message contained only up to 64 KiB, and not while the \
         disk was nearly full. Publish the message again.";
    QueueGone, "queue-gone", GONE, "The queue is deleted",
        "Declare the queue again, or publish the message elsewhere.";
    TooLarge, "too-large", PAYLOAD_TOO_LARGE, "The request is too large",
        "A message may have limits.message_bytes_max bytes; a body in base64 takes a third more.";
    UnsupportedMediaType, "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "The body is not declared to be JSON",
        "Send the header Content-Type: application/json.";
    Timeout, "timeout", REQUEST_TIMEOUT, "The request did not arrive in time",
        "The body of a request must arrive within 30 seconds.";
    Refused, "refused", SERVICE_UNAVAILABLE, "A queue refused the message",
        "A queue that the message was routed to is full and refuses what is new (x-overflow: \
         reject-publish). Try again when its consumers have made room.";
    Busy, "busy", SERVICE_UNAVAILABLE, "The server is busy",
        "Too many requests wait at once, or the server is short of memory or disk. Try again after \
         the time in the header Retry-After.";
    Store, "store", INTERNAL_SERVER_ERROR, "The store cannot be read or written",
        "Look at the server's log. After a failed write nothing is confirmed until a restart.";
}

/// An error for the client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
}

/// What every handler answers.
pub(crate) type Answer<T = Response> = Result<T, Problem>;

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// A problem; `detail` is a sentence that says what to do.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// A value that is not allowed.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, detail)
    }

    /// For `map_err`: any failure of the store. The log has the details.
    pub(crate) fn store(error: impl std::fmt::Display) -> Self {
        tracing::error!("HTTP: {error}");
        Self::new(Kind::Store, "the store cannot be read or written; the server's log says why")
    }

    /// The kind of a problem.
    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

/// How each error of the port appears to a client.
impl From<MessagesError> for Problem {
    fn from(error: MessagesError) -> Self {
        let kind = match &error {
            MessagesError::Unknown => Kind::UnknownMessage,
            MessagesError::BeingWorkedOn => Kind::BeingWorkedOn,
            MessagesError::AlreadySettled => Kind::AlreadySettled,
            MessagesError::NotFailed => Kind::NotFailed,
            MessagesError::ContentGone => Kind::ContentGone,
            MessagesError::QueueGone(_) => Kind::QueueGone,
            MessagesError::ReservedTarget(_) => Kind::ReservedTarget,
            MessagesError::UnknownExchange(_) => Kind::UnknownExchange,
            MessagesError::Forbidden(_) => Kind::Forbidden,
            MessagesError::Invalid(_) => Kind::BadRequest,
            MessagesError::TooLarge(_) => Kind::TooLarge,
            MessagesError::Refused | MessagesError::QueueFull(_) => Kind::Refused,
            MessagesError::Busy(_) => Kind::Busy,
            MessagesError::Store(_) => return Self::store(error),
        };
        Self::new(kind, error.to_string())
    }
}

/// `application/problem+json`.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = Body {
            r#type: format!("/problems/{}", self.kind.name()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, json).into_response();
        let mut set = |name: HeaderName, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, "application/problem+json");
        match self.kind {
            Kind::Unauthenticated => {
                set(header::WWW_AUTHENTICATE, "Basic realm=\"wilco\", charset=\"UTF-8\"");
            }
            Kind::Busy | Kind::Refused => set(header::RETRY_AFTER, "1"),
            Kind::Timeout | Kind::TooLarge => set(header::CONNECTION, "close"),
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn each_kind_is_a_problem_with_a_page() {
        for kind in Kind::ALL {
            let response = Problem::new(*kind, "do this").into_response();
            assert_eq!(response.status(), kind.status());
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["type"], format!("/problems/{}", kind.name()));
            assert_eq!(body["status"], kind.status().as_u16());
            assert_eq!(body["detail"], "do this");
            assert!(kind.page().ends_with('.') && !kind.page().contains("  "), "{}", kind.page());
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        let check = |error: MessagesError, status: u16| {
            assert_eq!(Problem::from(error).kind().status().as_u16(), status);
        };
        check(MessagesError::Unknown, 404);
        check(MessagesError::BeingWorkedOn, 409);
        check(MessagesError::AlreadySettled, 409);
        check(MessagesError::NotFailed, 409);
        check(MessagesError::ContentGone, 410);
        check(MessagesError::QueueGone("q".to_owned()), 410);
        check(MessagesError::Refused, 503);
        check(MessagesError::Store("x".to_owned()), 500);
    }

    #[test]
    fn names_are_all_different() {
        let names: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn who_is_not_known_is_told_how_to_say_it() {
        let response = Problem::new(Kind::Unauthenticated, "").into_response();
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(Problem::bad("x").kind(), Kind::BadRequest);
    }
}
