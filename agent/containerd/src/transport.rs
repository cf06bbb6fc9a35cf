//! HTTP to one host: dialling, TLS with the right authorities, one request per connection.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{error::ImageError, settings::Registry};

/// How long a host may take to accept a connection, to shake hands, and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where distributions keep the authorities that everybody trusts.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How to talk to one host.
#[derive(Clone)]
pub(crate) struct Transport {
    host: String,
    /// `None`: plain HTTP.
    tls: Option<TlsConnector>,
}

impl Transport {
    /// Reads the authorities; `registry` is what the configuration says of this host.
    pub(crate) fn new(host: &str, registry: Option<&Registry>) -> Result<Self, ImageError> {
        if registry.is_some_and(|registry| registry.plain_http) {
            return Ok(Self { host: host.to_owned(), tls: None });
        }
        let problem = |problem: String| ImageError::Registry { host: host.to_owned(), problem };
        let roots = authorities(registry.and_then(|registry| registry.ca_file.as_deref())).map_err(problem)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| problem(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { host: host.to_owned(), tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Sends one request and gives the head of the answer, its body to be read.
    pub(crate) async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ImageError> {
        match timeout(PATIENCE, self.dial_and_send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.problem(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn dial_and_send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ImageError> {
        let (name, port) = split_host(&self.host, self.tls.is_some());
        let stream = TcpStream::connect((name, port)).await.map_err(|error| self.problem(error.to_string()))?;
        let Some(tls) = &self.tls else {
            return self.exchange(stream, request).await;
        };
        let server = ServerName::try_from(name.to_owned()).map_err(|error| self.problem(error.to_string()))?;
        let stream = tls.connect(server, stream).await.map_err(|error| self.handshake_error(&error))?;
        self.exchange(stream, request).await
    }

    async fn exchange<S>(&self, stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, ImageError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.problem(error.to_string()))?;
        // It ends with the body of this one answer, or when that is dropped; what went wrong shows there.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        sender.send_request(request).await.map_err(|error| self.problem(error.to_string()))
    }

    fn handshake_error(&self, error: &std::io::Error) -> ImageError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if matches!(inner, Some(rustls::Error::InvalidMessage(_))) {
            return ImageError::PlainHttp { host: self.host.clone() };
        }
        if matches!(inner, Some(rustls::Error::InvalidCertificate(_))) {
            return self
                .problem(format!("its certificate is not trusted ({error}); set ca_file in its [[registry]] entry"));
        }
        self.problem(error.to_string())
    }

    pub(crate) fn problem(&self, problem: String) -> ImageError {
        ImageError::Registry { host: self.host.clone(), problem }
    }
}

/// Takes a `Location` apart into host and path; a path alone stays on `host`.
pub(crate) fn redirect(host: &str, location: &str) -> Option<(String, String, bool)> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some((host.to_owned(), location.to_owned(), false));
    }
    let uri: Uri = location.parse().ok()?;
    let is_plain = match uri.scheme_str()? {
        "https" => false,
        "http" => true,
        _ => return None,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Some((uri.authority()?.to_string(), path.to_owned(), is_plain))
}

fn split_host(host: &str, is_tls: bool) -> (&str, u16) {
    let default = if is_tls { 443 } else { 80 };
    match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().unwrap_or(default)),
        None => (host, default),
    }
}

fn authorities(own: Option<&Path>) -> Result<RootCertStore, String> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.exists());
    let Some(path) = own.or_else(system) else {
        return Err("this node has no certificate authorities: install ca-certificates, or set ca_file in its [[registry]] entry"
            .to_owned());
    };
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        let added = roots.add(certificate);
        // One odd certificate among the system's many is no reason to trust none; one of our own is.
        if let (Err(error), Some(_)) = (added, own) {
            return Err(unreadable(&error));
        }
    }
    if roots.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_is_taken_apart() {
        let place = |host: &str, path: &str, plain| Some((host.to_owned(), path.to_owned(), plain));

        assert_eq!(redirect("a.b:5000", "/v2/x?y=z"), place("a.b:5000", "/v2/x?y=z", false));
        assert_eq!(redirect("a.b", "https://cdn.c/d?e"), place("cdn.c", "/d?e", false));
        assert_eq!(redirect("a.b", "http://cdn.c"), place("cdn.c", "/", true));
        for location in ["//evil", "ftp://x/y", "x", ""] {
            assert_eq!(redirect("a.b", location), None, "{location}");
        }
        assert_eq!(split_host("127.0.0.1:5000", true), ("127.0.0.1", 5000));
        assert_eq!(split_host("registry.lan", false), ("registry.lan", 80));
    }
}
