//! A new certificate before the old one ends, at a moment between half and four fifths of its life.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api_daemon::identity::tls::{NodeIdentity, TlsError, certificates, validity};
use proto::v1;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use super::connector::Dispatcher;
use crate::membership::{Membership, MembershipError};

/// How long the call may take.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait after a failure.
pub(crate) const RETRY: Duration = Duration::from_secs(600);
/// Timers are not set further ahead than this: a machine's clock may be corrected meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Why there is no new certificate.
#[derive(Debug, Error)]
pub(crate) enum RenewalError {
    /// The scheduler does not answer, or says no.
    #[error("the scheduler did not renew: {0}")]
    Refused(String),
    /// What it sent is of no use.
    #[error("the renewed certificate is of no use: {0}")]
    Certificate(#[from] TlsError),
    /// It is for another node.
    #[error("the renewed certificate is for `{0}`")]
    Stranger(String),
    /// It cannot be kept.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// When to renew, or to look again.
pub(crate) fn due(membership: &Membership) -> Result<Instant, TlsError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let wait = Duration::from_secs(moment(&membership.certificate)?.saturating_sub(now));
    Ok(Instant::now() + wait.min(LOOK_AGAIN))
}

/// Whether the moment has come.
pub(crate) fn is_due(membership: &Membership) -> bool {
    due(membership).is_ok_and(|at| at <= Instant::now())
}

/// Asks for a new certificate for the same key, and keeps it.
pub(crate) async fn renew(mut dispatcher: Dispatcher, membership: &mut Membership) -> Result<(), RenewalError> {
    let request = v1::RenewRequest { csr: membership.signing_request()? };
    let refused = |reason: String| RenewalError::Refused(reason);
    let reply = timeout(CALL_LIMIT, dispatcher.renew(request)).await.map_err(|_| refused("no answer".to_owned()))?;
    let reply = reply.map_err(|status| refused(status.message().to_owned()))?.into_inner();
    let node = NodeIdentity::of(&certificates(&reply.certificate)?[0])?.node;
    if node != membership.node.as_str() {
        return Err(RenewalError::Stranger(node));
    }
    certificates(&reply.ca)?;
    membership.renew(reply.certificate, reply.ca)?;
    Ok(())
}

/// The moment of renewal, in seconds since 1970. It comes from the certificate itself, so that it is the same after each
/// restart, and nodes that joined together do not renew together.
fn moment(certificate: &str) -> Result<u64, TlsError> {
    let certificate = &certificates(certificate)?[0];
    let (begins, ends) = validity(certificate)?;
    let per_mille = 500 + u64::from(crc32fast::hash(certificate) % 301);
    Ok(begins + ends.saturating_sub(begins) / 1000 * per_mille)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_moment_lies_between_half_and_four_fifths_of_the_life_and_stays() {
        let mut moments = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::default();
            (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 1, 31));
            let (begins, life) = (date_time_ymd(2026, 1, 1).unix_timestamp().cast_unsigned(), 30 * 24 * 3600);
            let pem = params.self_signed(&key).expect("a certificate").pem();

            let at = moment(&pem).expect("readable");

            assert!((begins + life / 2..=begins + life / 5 * 4).contains(&at));
            assert_eq!(moment(&pem).ok(), Some(at));
            moments.insert(at);
        }
        assert!(moments.len() > 5, "nodes do not renew together");
    }
}
