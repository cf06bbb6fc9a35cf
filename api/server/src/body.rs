//! Reads what a request carries: bounded, typed, and with a problem body for whatever is wrong with it.

use std::time::Duration;

use api_types::{secret::Secret, view::Problem};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::{
    auth::Rule,
    problem::{Refused, bad_request, invalid, problem, too_large},
};

/// A body that takes longer than this to arrive is given up.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body.
pub(crate) struct Payload<T>(pub(crate) T);

/// The text of a manifest.
pub(crate) struct ManifestText(pub(crate) String);

/// Bytes that nobody may see, as they are.
pub(crate) struct Sealable(pub(crate) Secret);

/// The query string; unknown names are refused.
pub(crate) struct Asked<T>(pub(crate) T);

/// The one variable part of a path, as a name of ours.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Payload<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        expect_type(request.headers(), "application/json")?;
        let bytes = read(request).await?;
        let wrong = |error| Refused(invalid(format!("the body is not what is expected here: {error}"), ""));
        serde_json::from_slice(&bytes).map(Self).map_err(wrong)
    }
}

impl<S: Send + Sync> FromRequest<S> for ManifestText {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        expect_type(request.headers(), "application/toml")?;
        let bytes = read(request).await?;
        let wrong = |_| Refused(invalid("the manifest is not UTF-8", "save the file as UTF-8"));
        String::from_utf8(bytes.to_vec()).map(Self).map_err(wrong)
    }
}

impl<S: Send + Sync> FromRequest<S> for Sealable {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        expect_type(request.headers(), "application/octet-stream")?;
        Ok(Self(Secret::new(read(request).await?.into())))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let wrong = |error| Refused(bad_request(format!("the query is wrong: {error}")));
        Query::try_from_uri(&parts.uri).map(|Query(asked)| Self(asked)).map_err(wrong)
    }
}

impl<T: std::str::FromStr<Err = api_types::error::ValidationError>, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| Refused(bad_request(error.body_text())))?;
        text.parse().map(Self).map_err(|error| Refused(invalid(error.problem, "")))
    }
}

/// Reads a whole body, never more than the route allows.
async fn read(request: Request) -> Result<Bytes, Problem> {
    // A route without a rule never comes here; were it so, nothing would be read.
    let bytes_max = request.extensions().get::<Rule>().and_then(|rule| rule.body_bytes_max).unwrap_or(0);
    let body = Limited::new(request.into_body(), bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(error)) => Err(bad_request(format!("the body did not arrive whole: {error}"))),
        Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive within 30 s", "")),
    }
}

fn expect_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if sent.split(';').next().is_some_and(|sent| sent.trim().eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let hint = format!("send `Content-Type: {wanted}`");
    Err(problem(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("this takes {wanted} only"),
        &hint,
    ))
}
