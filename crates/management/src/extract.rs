//! What a request says, read strictly: query, JSON body, path. Anything unknown is an error.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::app::App;
use crate::caller::Caller;
use crate::problem::{Kind, Problem};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies up to this size are not counted against the room for bodies.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// The query, as a structure that denies unknown fields.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            use std::error::Error;
            let source = rejection.source().map_or_else(String::new, ToString::to_string);
            Problem::bad(format!("query: {source}"))
        })?;
        Ok(Self(query.0))
    }
}

/// One part of the path, percent-decoded.
pub(crate) struct Id(pub(crate) String);

impl FromRequestParts<App> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let not_text = |_| Problem::bad("path: the id is not UTF-8 once percent-decoded");
        path.map(|Path(id)| Self(id)).map_err(not_text)
    }
}

/// The body as JSON, as a structure that denies unknown fields.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        check_json(request.headers())?;
        let bytes = read(request, app).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::bad(format!("body: {error}")))
    }
}

/// For fields that may be left out but may not be `null`, or in which `null` means something else.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A whole number that may be left out. JSON has only one kind of number, so `3.0` is whole, too.
pub(crate) fn whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let whole = |float: f64| (float.fract() == 0.0 && float >= 0.0).then_some(float as u64);
    let number = number.as_u64().or_else(|| number.as_f64().and_then(whole));
    let fitting = number.and_then(|number| T::try_from(number).ok());
    fitting
        .map(Some)
        .ok_or_else(|| D::Error::custom("a whole number of the allowed range is expected"))
}

/// Reads a body, within the bounds for one body and for all of them together.
async fn read(request: Request, app: &App) -> Result<Vec<u8>, Problem> {
    let bytes_max = app.body_bytes_max();
    let too_large = || {
        let detail = format!("the body of a request may have {bytes_max} bytes");
        Problem::new(Kind::TooLarge, detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let expected = length.unwrap_or(bytes_max);
    if length.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    // Held until the body is parsed; by then the handler has its own copy.
    let _room = match expected {
        0..=SMALL_BODY_BYTES => None,
        _ => {
            let caller = request.extensions().get::<Caller>();
            caller.map(|caller| app.room_for_body(caller, expected)).transpose()?
        }
    };
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let collected = tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(|_| {
        Problem::new(Kind::Timeout, "the body did not arrive within 30 seconds; send it again")
    })?;
    let collected = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => too_large(),
        None => Problem::bad(format!("body: {error}")),
    })?;
    Ok(collected.to_bytes().into())
}

/// Checks that a body is declared to be JSON.
pub(crate) fn check_json(headers: &HeaderMap) -> Result<(), Problem> {
    if is_json(headers) {
        return Ok(());
    }
    let detail = "send the body as JSON, with the header Content-Type: application/json";
    Err(Problem::new(Kind::UnsupportedMediaType, detail))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        let check = |value: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            assert_eq!(is_json(&headers), expected, "{value}");
        };
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("text/plain", false);
        check("application/jsonx", false);
        assert!(!is_json(&HeaderMap::new()));
    }
}
