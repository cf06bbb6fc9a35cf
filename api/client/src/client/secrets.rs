//! Secrets: set and listed, never read.

use api_types::{
    id::SecretId,
    secret::Secret,
    view::{Done, List, SecretView},
};
use http::Method;

use crate::{
    client::{Client, JSON},
    error::ClientError,
};

/// The type of bytes that are taken as they are.
const BYTES: &str = "application/octet-stream";

impl Client {
    /// All secrets, but for what they are; see [`Self::nodes`] for `after`.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn secrets(&self, after: Option<u64>) -> Result<List<SecretView>, ClientError> {
        self.list("secrets", after).await
    }

    /// Sets a secret.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn set_secret(&self, secret: &SecretId, value: &Secret) -> Result<Done, ClientError> {
        self.ask(Method::PUT, &format!("/v1/secrets/{secret}"), BYTES, value.reveal().to_vec()).await
    }

    /// Forgets a secret that nothing uses.
    ///
    /// # Errors
    /// See [`Self::cluster`].
    pub async fn delete_secret(&self, secret: &SecretId) -> Result<Done, ClientError> {
        self.ask(Method::DELETE, &format!("/v1/secrets/{secret}"), JSON, Vec::new()).await
    }
}
