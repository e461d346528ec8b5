//! The table of paths, and the answers at all other paths.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::app::App;
use crate::auth;
use crate::bounded_answer;
use crate::browser;
use crate::extract::Id;
use crate::problem::{Answer, Kind, Problem};
use crate::v1::{events, messages, outcomes, publish, webhooks};

/// The description of the API.
const OPENAPI: &str = include_str!("../openapi.json");

/// The calls about single messages and outcomes, for those whom the broker knows already: each request
/// has its caller among its extensions.
pub(crate) fn answers(app: App) -> Router {
    of_messages()
        .route_layer(middleware::from_fn_with_state(app.clone(), bounded_answer::bound))
        .fallback(unknown_path)
        .with_state(app)
}

fn of_messages() -> Router<App> {
    Router::new()
        .route("/v1/messages/{id}", get(messages::show).delete(messages::cancel))
        .route("/v1/messages/{id}/outcome", get(messages::wait_for_outcome))
        .route("/v1/messages/{id}/retry", post(messages::retry))
        .route("/v1/outcomes", get(outcomes::list))
}

/// The paths, and what serves them.
pub(crate) fn router(app: App) -> Router {
    let guarded = of_messages()
        .route("/v1/messages", post(publish::publish))
        .route("/v1/events", get(events::serve))
        .route("/v1/webhooks", get(webhooks::list).post(webhooks::add))
        .route(
            "/v1/webhooks/{id}",
            get(webhooks::show).patch(webhooks::change).delete(webhooks::delete),
        )
        .route("/v1/webhooks/{id}/test", post(webhooks::test))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(middleware::from_fn_with_state(app.clone(), bounded_answer::bound))
        .route_layer(middleware::from_fn_with_state(app.clone(), auth::authenticate))
        // Before the user is known: a page that guesses passwords is turned away here.
        .route_layer(middleware::from_fn_with_state(app.clone(), browser::guard));
    let open = Router::new()
        .route("/v1/openapi.json", get(openapi))
        .route("/problems/{name}", get(problem_page))
        .method_not_allowed_fallback(method_not_allowed);
    guarded.merge(open).fallback(unknown_path).with_state(app)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn problem_page(State(_): State<App>, Id(name): Id) -> Answer {
    let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
    let Some(kind) = kind else { return Err(unknown_path().await) };
    let text = format!("{} ({})\n\n{}\n", kind.title(), kind.status(), kind.page());
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((StatusCode::OK, headers, text).into_response())
}

async fn unknown_path() -> Problem {
    Problem::new(Kind::UnknownPath, "GET /v1/openapi.json lists the paths there are")
}

async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "use one of the methods in the header Allow")
}
