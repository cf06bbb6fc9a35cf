//! Every refusal is a problem body (RFC 9457), whoever refuses.

use api_types::view::Problem;
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

/// A [`Problem`] on its way to the client.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // A control plane that gives no valid status failed itself.
        let status = StatusCode::from_u16(self.0.status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = Problem { status: status.as_u16(), ..self.0 };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"wherry\""));
        }
        response
    }
}

/// Makes a problem without single faults.
pub(crate) fn problem(status: StatusCode, code: &str, title: impl Into<String>, hint: &str) -> Problem {
    Problem {
        status: status.as_u16(),
        code: code.to_owned(),
        title: title.into(),
        hint: hint.to_owned(),
        faults: Vec::new(),
    }
}

pub(crate) fn too_large(bytes_max: usize) -> Problem {
    let title = format!("the body is larger than {} KiB", bytes_max / 1024);
    problem(StatusCode::PAYLOAD_TOO_LARGE, "too_large", title, "send less at once; nothing was changed")
}

pub(crate) fn bad_request(title: impl Into<String>) -> Problem {
    problem(StatusCode::BAD_REQUEST, "bad_request", title, "")
}

pub(crate) fn invalid(title: impl Into<String>, hint: &str) -> Problem {
    problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, hint)
}
