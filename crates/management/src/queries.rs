//! Questions over AMQP: each is a call of `/v1` by another way, with the same answer.
//!
//! Owns the translation from subject and parameters to the call. What may be known, and how much may wait
//! or be under way, is decided where it is for HTTP.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, header};
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tower_service::Service;

use crate::app::App;
use crate::caller::Caller;
use crate::ports::User;
use crate::problem::{Answer, Problem};
use crate::router;

/// Answers questions of users whom the broker knows already. Cloning is cheap.
#[derive(Clone)]
pub struct Queries {
    router: Router,
}

/// A question about messages.
#[derive(Debug, Clone)]
pub struct Query {
    /// Who asks.
    pub user: User,
    /// About whose messages.
    pub vhost: String,
    /// What is asked: `message`, `outcome`, `cancel`, `retry` or `outcomes`.
    pub subject: String,
    /// The parameters of the call, as a JSON object.
    pub body: Vec<u8>,
}

/// An answer, as over HTTP.
#[derive(Debug, Clone)]
pub struct QueryAnswer {
    /// The status.
    pub status: u16,
    /// `application/json`, or `application/problem+json`.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

impl Queries {
    pub(crate) fn new(app: App) -> Self {
        Self { router: router::answers(app) }
    }

    /// Answers a question. One that waits for an outcome takes as long as it says.
    pub async fn answer(&self, query: &Query) -> QueryAnswer {
        let response = match request(query) {
            Ok(request) => {
                let Ok(response) = Service::call(&mut self.router.clone(), request).await;
                response
            }
            Err(problem) => problem.into_response(),
        };
        let (parts, body) = response.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (status, content_type) = (parts.status.as_u16(), content_type.to_owned());
        QueryAnswer { status, content_type, body }
    }
}

/// The call that a question stands for.
fn request(query: &Query) -> Answer<Request<Body>> {
    let mut parameters: Map<String, Value> = match query.body.as_slice() {
        [] => Map::new(),
        body => serde_json::from_slice(body).map_err(|error| {
            Problem::bad(format!("body: a JSON object with the parameters is needed: {error}"))
        })?,
    };
    if parameters.contains_key("vhost") {
        return Err(Problem::bad("body: the virtual host is that of the connection"));
    }
    parameters.insert("vhost".to_owned(), Value::String(query.vhost.clone()));
    let (method, path) = match query.subject.as_str() {
        "message" => (Method::GET, message_path(&mut parameters, "")?),
        "outcome" => (Method::GET, message_path(&mut parameters, "/outcome")?),
        "cancel" => (Method::DELETE, message_path(&mut parameters, "")?),
        "retry" => (Method::POST, message_path(&mut parameters, "/retry")?),
        "outcomes" => (Method::GET, "/v1/outcomes".to_owned()),
        other => {
            let detail = format!(
                "routing key: '{}' is no question; there are message, outcome, cancel, retry and \
                 outcomes",
                other.escape_debug()
            );
            return Err(Problem::bad(detail));
        }
    };
    let mut uri = path;
    for (at, (name, value)) in parameters.iter().enumerate() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Problem::bad(format!("body: {name} is a text or a number")));
            }
        };
        uri.push(if at == 0 { '?' } else { '&' });
        percent_encode(name, &mut uri);
        uri.push('=');
        percent_encode(&text, &mut uri);
    }
    let caller = Caller::connected(query.user.clone());
    let request = Request::builder().method(method).uri(uri).extension(caller);
    request.body(Body::empty()).map_err(|error| Problem::bad(format!("body: {error}")))
}

fn message_path(parameters: &mut Map<String, Value>, rest: &str) -> Answer<String> {
    let Some(Value::String(id)) = parameters.remove("id") else {
        return Err(Problem::bad("body: the field id is missing or no text"));
    };
    let mut path = "/v1/messages/".to_owned();
    percent_encode(&id, &mut path);
    path.push_str(rest);
    Ok(path)
}

fn percent_encode(text: &str, out: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte.into()),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_call() {
        let check = |subject: &str, body: &str, expected: Result<&str, &str>| {
            let query = Query {
                user: User { name: "anna".to_owned(), incarnation: 0 },
                vhost: "a/b".to_owned(),
                subject: subject.to_owned(),
                body: body.as_bytes().to_vec(),
            };
            match (request(&query), expected) {
                (Ok(request), Ok(expected)) => {
                    assert_eq!(format!("{} {}", request.method(), request.uri()), expected);
                    assert!(request.extensions().get::<Caller>().is_some());
                }
                (Err(problem), Err(expected)) => {
                    let problem = format!("{problem:?}");
                    assert!(problem.contains(expected), "{problem}");
                }
                (result, _) => panic!("{subject} {body}: {result:?}"),
            }
        };
        check("message", r#"{"id":"a b/ü"}"#, Ok("GET /v1/messages/a%20b%2F%C3%BC?vhost=a%2Fb"));
        check(
            "outcome",
            r#"{"id":".","wait":5}"#,
            Ok("GET /v1/messages/%2E/outcome?vhost=a%2Fb&wait=5"),
        );
        check(
            "retry",
            r#"{"id":"i","queue":"q&x"}"#,
            Ok("POST /v1/messages/i/retry?queue=q%26x&vhost=a%2Fb"),
        );
        check("cancel", r#"{"id":"i"}"#, Ok("DELETE /v1/messages/i?vhost=a%2Fb"));
        check("outcomes", "", Ok("GET /v1/outcomes?vhost=a%2Fb"));
        check("message", "", Err("the field id is missing"));
        check("message", r#"{"id":7}"#, Err("the field id is missing"));
        check("message", "[]", Err("a JSON object"));
        check("message", r#"{"id":"i","vhost":"/"}"#, Err("that of the connection"));
        check("outcomes", r#"{"queue":["q"]}"#, Err("queue is a text or a number"));
        check("../webhooks", r#"{"id":"i"}"#, Err("is no question"));
    }
}
