//! Who is believed in a handshake: the scheduler by pin or bundle under its fixed name, a node by chain and name.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    SERVER_NAME,
    clock::ClockFloor,
    pin::Pin,
    tls::{DenyCheck, NodeIdentity, validity},
};

/// Which CAs an agent trusts.
pub(crate) enum Trust {
    /// The one in the server's chain with this key: first contact.
    Pin(Pin),
    /// These, of which each one was trusted before.
    Bundle(Vec<CertificateDer<'static>>),
}

/// Believes the scheduler.
pub(crate) struct SchedulerVerifier {
    pub(crate) trust: Trust,
    pub(crate) floor: Arc<ClockFloor>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl SchedulerVerifier {
    fn trusted(&self, intermediates: &[CertificateDer<'_>]) -> Result<Vec<CertificateDer<'static>>, Error> {
        match &self.trust {
            Trust::Bundle(bundle) => Ok(bundle.clone()),
            Trust::Pin(pin) => {
                let pinned = |certificate: &&CertificateDer<'_>| Pin::of(certificate).is_ok_and(|found| found == *pin);
                let found = intermediates.iter().find(pinned).ok_or_else(|| {
                    Error::General("the server does not belong to the cluster that made this token".to_owned())
                })?;
                Ok(vec![found.clone().into_owned()])
            }
        }
    }
}

impl fmt::Debug for SchedulerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = match &self.trust {
            Trust::Pin(pin) => format!("the pin {pin}"),
            Trust::Bundle(bundle) => format!("{} CAs", bundle.len()),
        };
        f.debug_struct("SchedulerVerifier").field("trust", &trust).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for SchedulerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let trusted = self.trusted(intermediates)?;
        let known = trusted.iter().filter_map(|ca| begins(ca).ok()).min().unwrap_or(0);
        let mut roots = RootCertStore::empty();
        for ca in trusted {
            roots.add(ca)?;
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let now = self.floor.judge_at(now, known, begins(end_entity)?);
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, self.algorithms.all)?;
        verify_server_name(&parsed, &scheduler_name())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes a node: its chain, its name, and that nobody removed it.
pub(crate) struct NodeVerifier {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) denied: DenyCheck,
}

impl fmt::Debug for NodeVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeVerifier").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let node = NodeIdentity::of(end_entity).map_err(|error| Error::General(error.to_string()))?;
        if (self.denied)(&node) {
            return Err(Error::InvalidCertificate(CertificateError::Revoked));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The fixed name, as handshakes take it.
pub(crate) fn scheduler_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("the constant is a DNS name")
}

/// When a certificate's validity begins, in seconds since 1970.
pub(crate) fn begins(certificate: &CertificateDer<'_>) -> Result<u64, Error> {
    let (begins, _) = validity(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    Ok(begins)
}

#[cfg(test)]
mod tests;
