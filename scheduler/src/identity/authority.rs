//! The cluster's certificate authority: makes itself, the scheduler's leaf, and nodes' certificates.

use api_daemon::identity::{SERVER_NAME, pin::Pin};
use api_types::{id::NodeId, service::WatchKey, time::Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;

use super::records::CertificateRecord;

/// How long a node's certificate is good, in milliseconds: 30 days.
pub(crate) const NODE_LIFETIME_MS: u64 = 30 * DAY_MS;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const AUTHORITY_LIFETIME_MS: u64 = 20 * 365 * DAY_MS;
const SERVER_LIFETIME_MS: u64 = 90 * DAY_MS;
/// Certificates begin this much earlier, for nodes whose clock is behind.
const BACKDATE_MS: u64 = 60 * 60 * 1000;
/// The largest signing request, in bytes of PEM; one with a P-256 key has about 500.
const CSR_BYTES_MAX: usize = 8 << 10;

/// What the key of signs of life is derived for.
const WATCH_PURPOSE: &[u8] = b"wherry: signs of life between nodes";

/// Why no certificate was made.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The request is larger than any good one.
    #[error("the signing request has more than {CSR_BYTES_MAX} bytes")]
    RequestTooLarge,
    /// The request is not one.
    #[error("the signing request cannot be read: {0}")]
    Request(#[source] rcgen::Error),
    /// The authority itself failed.
    #[error("the certificate authority failed: {0}")]
    Signing(#[from] rcgen::Error),
    /// A stored certificate is not one.
    #[error("a stored certificate cannot be read: {0}")]
    Stored(String),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A certificate made for a node.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    /// PEM.
    pub(crate) certificate: String,
    /// The pin of its key.
    pub(crate) pin: Pin,
}

/// The authority, ready to sign.
#[derive(Debug)]
pub(crate) struct Authority {
    cluster: String,
    certificate: String,
    pin: Pin,
    issuer: Issuer<'static, KeyPair>,
    watch_key: WatchKey,
}

impl Authority {
    /// Makes a new authority: ECDSA P-256, 20 years, for leaves only.
    pub(crate) fn create(cluster: &str, now: Timestamp) -> Result<CertificateRecord, AuthorityError> {
        let key = KeyPair::generate()?;
        let (begins_at, ends_at) = (now - BACKDATE_MS, now + AUTHORITY_LIFETIME_MS);
        let mut params = parameters("Wherry cluster authority", cluster, begins_at, ends_at)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(CertificateRecord { certificate, key: key.serialize_pem(), begins_at, ends_at })
    }

    /// Takes up a stored authority.
    pub(crate) fn load(cluster: &str, record: &CertificateRecord) -> Result<Self, AuthorityError> {
        let stored = |error: String| AuthorityError::Stored(error);
        let der =
            CertificateDer::from_pem_slice(record.certificate.as_bytes()).map_err(|error| stored(error.to_string()))?;
        let pin = Pin::of(&der).map_err(|error| stored(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&record.certificate, KeyPair::from_pem(&record.key)?)?;
        // The same in every run and on every scheduler of the cluster, and nothing of the authority's key can be had from it.
        let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, record.key.as_bytes()), WATCH_PURPOSE);
        let watch_key = WatchKey(*signed.as_ref().first_chunk().expect("an HMAC-SHA256 has 32 bytes"));
        Ok(Self { cluster: cluster.to_owned(), certificate: record.certificate.clone(), pin, issuer, watch_key })
    }

    /// With what nodes sign what they tell each other of being alive, until one is removed.
    pub(crate) fn watch_key(&self) -> WatchKey {
        self.watch_key
    }

    /// PEM of its certificate.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The pin of its key: what join tokens carry.
    pub(crate) fn pin(&self) -> Pin {
        self.pin
    }

    /// Makes the scheduler's own certificate with a new key, for 90 days.
    pub(crate) fn issue_server(&self, now: Timestamp) -> Result<CertificateRecord, AuthorityError> {
        let key = KeyPair::generate()?;
        let (begins_at, ends_at) = (now - BACKDATE_MS, now + SERVER_LIFETIME_MS);
        let mut params = parameters("scheduler", &self.cluster, begins_at, ends_at)?;
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(CertificateRecord { certificate, key: key.serialize_pem(), begins_at, ends_at })
    }

    /// Makes a node's certificate, for 30 days. Of the request only the key is used; every name in it is ignored.
    pub(crate) fn issue_node(&self, node: &NodeId, csr: &str, now: Timestamp) -> Result<Issued, AuthorityError> {
        if csr.len() > CSR_BYTES_MAX {
            return Err(AuthorityError::RequestTooLarge);
        }
        let mut request = CertificateSigningRequestParams::from_pem(csr).map_err(AuthorityError::Request)?;
        let mut params = parameters(node.as_str(), &self.cluster, now - BACKDATE_MS, now + NODE_LIFETIME_MS)?;
        params.subject_alt_names = vec![SanType::URI(node_uri(&self.cluster, node).as_str().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let certificate = request.signed_by(&self.issuer)?;
        let pin = Pin::of(certificate.der()).map_err(|error| AuthorityError::Stored(error.to_string()))?;
        Ok(Issued { certificate: certificate.pem(), pin })
    }
}

/// When a certificate has lived two thirds of its life.
pub(crate) fn renewal_due(record: &CertificateRecord) -> Timestamp {
    record.begins_at + record.ends_at.since(record.begins_at) / 3 * 2
}

/// The name in a node's certificate.
pub(crate) fn node_uri(cluster: &str, node: &NodeId) -> String {
    format!("spiffe://{cluster}/node/{node}")
}

/// Makes a cluster's id.
pub(crate) fn cluster_id() -> Result<String, AuthorityError> {
    Ok(data_encoding::BASE32_NOPAD.encode(&random::<10>()?).to_ascii_lowercase())
}

fn parameters(
    name: &str,
    cluster: &str,
    begins_at: Timestamp,
    ends_at: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let moment = |at: Timestamp| date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(at.0 / 1000);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(begins_at);
    params.not_after = moment(ends_at);
    params.use_authority_key_identifier_extension = true;
    let mut serial = random::<16>()?;
    // Positive, as X.509 asks for.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// A new key for what nodes tell each other of being alive.
pub(crate) fn fresh_watch_key() -> Result<WatchKey, AuthorityError> {
    random().map(WatchKey)
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], AuthorityError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_certificate_carries_the_clusters_name_for_it_and_none_of_its_own() {
        let now = Timestamp(1_800_000_000_000);
        let record = Authority::create("c1", now).expect("an authority");
        let authority = Authority::load("c1", &record).expect("what was made");
        let node = NodeId::new("edge-1").expect("a name");

        let issued = authority.issue_node(&node, &csr("evil.example"), now).expect("a certificate");

        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("PEM");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
        let names = parsed.subject_alternative_name().expect("readable").expect("there");
        assert_eq!(format!("{:?}", names.value.general_names), "[URI(\"spiffe://c1/node/edge-1\")]");
        assert!(!parsed.subject().to_string().contains("evil"));
        assert!(!parsed.is_ca());
        let life = parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        assert_eq!(u64::try_from(life), Ok((NODE_LIFETIME_MS + BACKDATE_MS) / 1000));
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let now = Timestamp(1_800_000_000_000);
        let record = Authority::create("c1", now).expect("an authority");
        let authority = Authority::load("c1", &record).expect("what was made");
        let node = NodeId::new("edge-1").expect("a name");

        assert!(matches!(authority.issue_node(&node, "nonsense", now), Err(AuthorityError::Request(_))));
        let large = "x".repeat(CSR_BYTES_MAX + 1);
        assert!(matches!(authority.issue_node(&node, &large, now), Err(AuthorityError::RequestTooLarge)));
    }

    fn csr(name: &str) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serialize_request(&key).expect("a request").pem().expect("PEM")
    }
}
