//! The pin of a certificate: SHA-256 over its public key, which outlives a renewal of the certificate.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Characters of a pin as text.
pub const PIN_CHARS: usize = 52;

/// SHA-256 over the `SubjectPublicKeyInfo` of a certificate (as in RFC 7469 §2.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub [u8; 32]);

/// Why there is no pin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PinError {
    /// Not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// Not a pin as text.
    #[error("a pin is {PIN_CHARS} characters of A-Z and 2-7")]
    Text,
}

impl Pin {
    /// Gives the pin of a certificate.
    ///
    /// # Errors
    /// When the bytes are not a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PinError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| PinError::Certificate(error.to_string()))?;
        Ok(Self(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into()))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| PinError::Text)?;
        bytes.try_into().map(Self).map_err(|_| PinError::Text)
    }
}
