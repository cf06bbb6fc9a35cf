//! A registry (OCI distribution specification 1.1): manifests and blobs, its tokens and redirects.
//!
//! Own code, as the node must pull from a private registry without any system-wide authorities, hold no parsed bundle of
//! them in memory afterwards, and resume a blob at any byte.

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    challenge::{Challenge, parse_challenge},
    documents::{DOCUMENT_BYTES_MAX, INDEX_TYPES, MANIFEST_TYPES},
    error::ImageError,
    reference::Reference,
    settings::Registry,
    transport::{Transport, redirect},
};

const REDIRECTS_MAX: usize = 5;
/// How long a body may stand still.
const SILENCE: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("wherry/", env!("CARGO_PKG_VERSION"));

/// One image at its registry, for the time of one pull.
pub(crate) struct Source<'a> {
    transport: Transport,
    registries: &'a [Registry],
    reference: &'a Reference,
    /// What proved who we are, once the registry asked: the value of `Authorization`.
    authorization: Mutex<Option<String>>,
}

/// A body that is being read.
pub(crate) struct Body {
    incoming: Incoming,
    host: String,
    /// Where in the blob it begins.
    pub(crate) offset: u64,
}

impl<'a> Source<'a> {
    pub(crate) fn new(reference: &'a Reference, registries: &'a [Registry]) -> Result<Self, ImageError> {
        let transport = Transport::new(reference.host(), configured(registries, reference.host()))?;
        Ok(Self { transport, registries, reference, authorization: Mutex::new(None) })
    }

    /// Fetches an index or manifest by tag or digest: its bytes and media type.
    pub(crate) async fn manifest(&self, version: &str) -> Result<(Bytes, String), ImageError> {
        let path = format!("/v2/{}/manifests/{version}", self.reference.repository);
        let accept = [INDEX_TYPES, MANIFEST_TYPES].concat().join(", ");
        let response = self.get(&path, &accept, None).await?;
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_owned();
        let body = self.collect(response).await?;
        Ok((body, media_type))
    }

    /// Opens a blob, at the offset if the registry can, else at its beginning.
    pub(crate) async fn blob(&self, digest: &str, offset: u64) -> Result<Body, ImageError> {
        let path = format!("/v2/{}/blobs/{digest}", self.reference.repository);
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let response = self.get(&path, "*/*", range.as_deref()).await?;
        let offset = if response.status() == StatusCode::PARTIAL_CONTENT { offset } else { 0 };
        Ok(Body { incoming: response.into_body(), host: self.transport.host().to_owned(), offset })
    }

    /// Asks, proving who we are when told to.
    async fn get(&self, path: &str, accept: &str, range: Option<&str>) -> Result<Response<Incoming>, ImageError> {
        let response = self.follow(path, accept, range).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.check(response).await;
        }
        let challenge = response.headers().get_all(header::WWW_AUTHENTICATE).iter();
        let challenge = challenge.filter_map(|value| value.to_str().ok()).find_map(parse_challenge);
        let credentials = self.basic(self.reference.host());
        let authorization = match (challenge, credentials) {
            (Some(Challenge::Bearer { realm, service, scope }), credentials) => {
                Some(format!("Bearer {}", self.token(&realm, service, scope, credentials).await?))
            }
            (Some(Challenge::Basic), Some(credentials)) => Some(credentials),
            (Some(Challenge::Basic) | None, _) => None,
        };
        let Some(authorization) = authorization else {
            return Err(self.unauthorized(StatusCode::UNAUTHORIZED));
        };
        *self.authorization.lock().expect("no holder panics") = Some(authorization);
        let response = self.follow(path, accept, range).await?;
        self.check(response).await
    }

    /// Follows redirects. What proves who we are stays with the registry's own host.
    async fn follow(&self, path: &str, accept: &str, range: Option<&str>) -> Result<Response<Incoming>, ImageError> {
        let mut place = (self.transport.clone(), path.to_owned());
        for _ in 0..=REDIRECTS_MAX {
            let (transport, path) = &place;
            let mut request = Request::get(path)
                .header(header::HOST, transport.host())
                .header(header::USER_AGENT, USER_AGENT)
                .header(header::ACCEPT, accept);
            if let Some(range) = range {
                request = request.header(header::RANGE, range);
            }
            let authorization = self.authorization.lock().expect("no holder panics").clone();
            if let Some(value) = authorization.filter(|_| transport.host() == self.transport.host()) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let request = request.body(Empty::new()).map_err(|error| transport.problem(error.to_string()))?;
            let response = transport.send(request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let Some((host, path, is_plain)) = location.and_then(|location| redirect(transport.host(), location))
            else {
                return Err(transport.problem("it redirects to nowhere".to_owned()));
            };
            place = (self.transport_to(transport, &host, is_plain)?, path);
        }
        Err(self.transport.problem("it redirects in circles".to_owned()))
    }

    fn transport_to(&self, from: &Transport, host: &str, is_plain: bool) -> Result<Transport, ImageError> {
        if host == from.host() && !is_plain {
            return Ok(from.clone());
        }
        let transport = Transport::new(host, configured(self.registries, host))?;
        if is_plain && transport.scheme() != "http" {
            return Err(ImageError::PlainHttp { host: host.to_owned() });
        }
        Ok(transport)
    }

    async fn check(&self, response: Response<Incoming>) -> Result<Response<Incoming>, ImageError> {
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(ImageError::NotFound { image: self.reference.to_string() }),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(self.unauthorized(status)),
            status => {
                let body = self.collect(response).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&body);
                if self.transport.scheme() == "http" && text.contains("HTTPS server") {
                    return Err(self
                        .transport
                        .problem("it speaks TLS; take plain_http from its [[registry]] entry".to_owned()));
                }
                let line: String = text.chars().filter(|character| !character.is_control()).take(200).collect();
                Err(self.transport.problem(format!("it answered {status} {line}").trim_end().to_owned()))
            }
        }
    }

    /// Fetches a token from the server that the registry names.
    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
        credentials: Option<String>,
    ) -> Result<String, ImageError> {
        let refused = || self.transport.problem(format!("it asks for tokens of `{realm}`, which is no address"));
        let (host, path, is_plain) = redirect("", realm).filter(|(host, ..)| !host.is_empty()).ok_or_else(refused)?;
        let transport = self.transport_to(&self.transport, &host, is_plain)?;
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let mut query = format!("scope={}", crate::percent::encode(&scope));
        if let Some(service) = service {
            query.push_str(&format!("&service={}", crate::percent::encode(&service)));
        }
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut request = Request::get(format!("{path}{joint}{query}"))
            .header(header::HOST, &host)
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(credentials) = credentials {
            request = request.header(header::AUTHORIZATION, credentials);
        }
        let request = request.body(Empty::new()).map_err(|error| transport.problem(error.to_string()))?;
        let response = transport.send(request).await?;
        if !response.status().is_success() {
            return Err(self.unauthorized(response.status()));
        }
        let body = self.collect(response).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|error| transport.problem(format!("its token is malformed: {error}")))?;
        answer.token.or(answer.access_token).ok_or_else(|| transport.problem("its answer holds no token".to_owned()))
    }

    /// User and password of the registry, as `Authorization` wants them.
    fn basic(&self, host: &str) -> Option<String> {
        let registry = configured(self.registries, host)?;
        let (username, password) = (registry.username.as_ref()?, registry.password.as_deref().unwrap_or_default());
        Some(format!("Basic {}", data_encoding::BASE64.encode(format!("{username}:{password}").as_bytes())))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ImageError> {
        let limit = usize::try_from(DOCUMENT_BYTES_MAX).expect("4 MiB fit");
        match timeout(SILENCE, Limited::new(response.into_body(), limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(self.transport.problem(error.to_string())),
            Err(_) => Err(self.transport.problem("it fell silent".to_owned())),
        }
    }

    fn unauthorized(&self, status: StatusCode) -> ImageError {
        let host = self.reference.registry.clone();
        ImageError::Unauthorized { host, image: self.reference.to_string(), status: status.as_u16() }
    }
}

impl Body {
    /// Gives the next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ImageError> {
        let problem = |problem: String| ImageError::Registry { host: self.host.clone(), problem };
        loop {
            match timeout(SILENCE, self.incoming.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => return Err(problem(format!("it broke off: {error}"))),
                Ok(None) => return Ok(None),
                Err(_) => return Err(problem("it fell silent".to_owned())),
            }
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

fn configured<'a>(registries: &'a [Registry], host: &str) -> Option<&'a Registry> {
    let named = |registry: &&Registry| {
        registry.host == host || (registry.host == "docker.io" && host == "registry-1.docker.io")
    };
    registries.iter().find(named)
}
