//! The calls for webhooks: `/v1/webhooks`. For administrators only.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::parameters;
use super::webhook_view::View;
use crate::answer::json;
use crate::app::App;
use crate::caller::Caller;
use crate::extract::{Id, Json, Params, present};
use crate::problem::{Answer, Kind, Problem};
use crate::time::now_ms;
use crate::webhooks::connection::Kept;
use crate::webhooks::delivery;
use crate::webhooks::endpoint::{Endpoint, EndpointError};
use crate::webhooks::model::{Status, Webhook};
use crate::webhooks::signature::Secret;
use crate::webhooks::{Attempt, unknown};

/// The most bytes of a URL.
const URL_BYTES_MAX: usize = 2048;
/// The most characters of any other text.
const TEXT_CHARS_MAX: usize = 255;

/// No parameters at all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct New {
    url: String,
    #[serde(default, deserialize_with = "present")]
    secret: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "present")]
    vhost: Option<String>,
    #[serde(default, deserialize_with = "present")]
    queue: Option<String>,
    #[serde(default)]
    outcomes: Vec<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// A field that is left out stays as it is; `null` removes a filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    #[serde(default, deserialize_with = "present")]
    url: Option<String>,
    #[serde(default, deserialize_with = "present")]
    description: Option<String>,
    #[serde(default, deserialize_with = "present")]
    vhost: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    queue: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    outcomes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    enabled: Option<bool>,
}

#[derive(Serialize)]
struct List {
    webhooks: Vec<View>,
}

#[derive(Serialize)]
struct Tested {
    delivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(Nothing {}): Params<Nothing>,
) -> Answer {
    caller.check_administrator(app.ports())?;
    let webhooks = app.webhooks()?.all().into_iter().map(View::new).collect();
    Ok(json(&List { webhooks }))
}

pub(crate) async fn add(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Params(Nothing {}): Params<Nothing>,
    Json(new): Json<New>,
) -> Answer {
    caller.check_administrator(app.ports())?;
    let secret = match &new.secret {
        Some(text) => Secret::parse(text).ok_or_else(|| {
            Problem::bad(
                "secret: it is whsec_ and 24 to 64 bytes in base64; leave it out to get one",
            )
        })?,
        None => Secret::generate().map_err(Problem::store)?,
    };
    let webhook = Webhook {
        id: uuid::Uuid::now_v7().to_string(),
        url: checked_url(&app, new.url)?,
        secret,
        user: caller.name().to_owned(),
        user_incarnation: caller.user().incarnation,
        description: text("description", new.description)?,
        vhost: new.vhost.map(|name| text("vhost", name)).transpose()?,
        queue: new.queue.map(|name| text("queue", name)).transpose()?,
        outcomes: checked_outcomes(new.outcomes)?,
        enabled: new.enabled,
        created_at_ms: now_ms(),
        cursor: None,
        status: Status::default(),
    };
    let webhook = app.webhooks()?.add(webhook).await?;
    let location = format!("/v1/webhooks/{}", webhook.id);
    let secret = webhook.secret.reveal().to_owned();
    let mut response = json(&View::new(webhook).with_secret(secret));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(crate) async fn show(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(Nothing {}): Params<Nothing>,
) -> Answer {
    caller.check_administrator(app.ports())?;
    found(&app, &id)
}

pub(crate) async fn change(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(Nothing {}): Params<Nothing>,
    Json(change): Json<Change>,
) -> Answer {
    caller.check_administrator(app.ports())?;
    let url = change.url.map(|url| checked_url(&app, url)).transpose()?;
    let outcomes = change.outcomes.map(checked_outcomes).transpose()?;
    let description = change.description.map(|it| text("description", it)).transpose()?;
    let name = |key: &str, name: Option<Option<String>>| {
        name.map(|name| name.map(|name| text(key, name)).transpose()).transpose()
    };
    let (vhost, queue) = (name("vhost", change.vhost)?, name("queue", change.queue)?);
    let changed = app.webhooks()?.update(&id, |webhook| {
        // Whoever sends what others see to an address of their choice must be allowed to see it
        // themselves.
        webhook.belong_to(caller.user());
        webhook.url = url.unwrap_or_else(|| std::mem::take(&mut webhook.url));
        webhook.outcomes = outcomes.unwrap_or_else(|| std::mem::take(&mut webhook.outcomes));
        if let Some(description) = description {
            webhook.description = description;
        }
        if let Some(vhost) = vhost {
            webhook.vhost = vhost;
        }
        if let Some(queue) = queue {
            webhook.queue = queue;
        }
        if let Some(enabled) = change.enabled {
            webhook.enabled = enabled;
            // Switched by hand: earlier failures no longer count, and it is tried at once.
            webhook.status.disabled_reason = None;
            webhook.status.failure_count = 0;
            webhook.status.next_attempt_at_ms = None;
        }
    });
    changed.await?;
    app.webhooks()?.start(&id);
    found(&app, &id)
}

pub(crate) async fn delete(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(Nothing {}): Params<Nothing>,
) -> Answer {
    caller.check_administrator(app.ports())?;
    app.webhooks()?.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Posts an event that says it is a test, once, and reports the result.
pub(crate) async fn test(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    Params(Nothing {}): Params<Nothing>,
) -> Answer {
    caller.check_administrator(app.ports())?;
    let webhook = app.webhooks()?.find(&id).ok_or_else(|| unknown(&id))?;
    let _place = app.place_to_wait(&caller)?;
    let data = serde_json::json!({ "webhook": webhook.id });
    let body = delivery::envelope("webhook.test", now_ms(), data);
    let event_id = format!("test_{}", uuid::Uuid::now_v7());
    let tested =
        match delivery::attempt(app.webhooks()?, &webhook, &mut Kept::default(), &event_id, body)
            .await
        {
            Attempt::Delivered(status) => {
                Tested { delivered: true, status: Some(status.as_u16()), error: None }
            }
            Attempt::Gone => {
                let error = "it answered 410 Gone".to_owned();
                Tested { delivered: false, status: Some(410), error: Some(error) }
            }
            Attempt::Failed(error, status) => {
                let status = status.map(|status| status.as_u16());
                Tested { delivered: false, status, error: Some(error) }
            }
        };
    Ok(json(&tested))
}

fn found(app: &App, id: &str) -> Answer<Response> {
    let webhook = app.webhooks()?.find(id).ok_or_else(|| unknown(id))?;
    Ok(json(&View::new(webhook)))
}

fn checked_url(app: &App, url: String) -> Answer<String> {
    if url.len() > URL_BYTES_MAX {
        return Err(Problem::bad(format!("url: it is longer than {URL_BYTES_MAX} bytes")));
    }
    let allows_private = app.webhooks()?.client().allows_private();
    match Endpoint::parse(&url, allows_private) {
        Ok(_) => Ok(url),
        Err(reason @ EndpointError::Private) => {
            Err(Problem::new(Kind::PrivateAddress, format!("url: {reason}")))
        }
        Err(reason) => Err(Problem::bad(format!("url: {reason}"))),
    }
}

fn checked_outcomes(names: Vec<String>) -> Answer<Vec<String>> {
    names.iter().try_for_each(|name| parameters::outcome(name).map(drop))?;
    let unique: std::collections::BTreeSet<String> = names.into_iter().collect();
    Ok(unique.into_iter().collect())
}

fn text(name: &str, text: String) -> Answer<String> {
    if text.chars().nth(TEXT_CHARS_MAX).is_none() {
        return Ok(text);
    }
    Err(Problem::bad(format!("{name}: it is longer than {TEXT_CHARS_MAX} characters")))
}
