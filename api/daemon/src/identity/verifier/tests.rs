//! The table of handshakes that must succeed, and of those that must not.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection, client::danger::ServerCertVerifier,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::super::{
    SERVER_NAME,
    clock::ClockFloor,
    pin::Pin,
    tls::{
        Credentials, NodeIdentity, api_server, certificates, install_provider, join_client, session_client,
        session_server, tunnel_client, tunnel_server,
    },
};
use super::{SchedulerVerifier, Trust, scheduler_name};

type Authority = CertifiedIssuer<'static, KeyPair>;

#[test]
fn a_joining_node_believes_only_the_pinned_cluster() {
    let (ours, theirs) = (authority(), authority());
    let server = api_server(server_credentials(&ours, SERVER_NAME)).expect("a server");
    let renamed = api_server(server_credentials(&ours, "other.wherry.internal")).expect("a server");
    let join = |pin| join_client(pin).expect("a client");

    assert_eq!(handshake(join(pin(&ours)), &server), Ok(()));
    let refused = handshake(join(pin(&theirs)), &server).expect_err("a wrong pin");
    assert!(refused.contains("does not belong to the cluster"), "{refused}");
    assert!(handshake(join(pin(&ours)), &renamed).is_err(), "another name under the same CA");
}

#[test]
fn a_chain_that_only_shows_the_pinned_ca_is_not_enough() {
    let (ours, theirs) = (authority(), authority());
    let key = KeyPair::generate().expect("a key");
    let leaf = server_params(SERVER_NAME).signed_by(&key, &theirs).expect("a certificate");
    let chain = format!("{}{}", leaf.pem(), ours.pem());
    let impostor = api_server(Credentials::from_pem(&chain, &key.serialize_pem()).expect("a pair")).expect("a server");

    assert!(handshake(join_client(pin(&ours)).expect("a client"), &impostor).is_err());
}

#[test]
fn a_session_needs_a_node_of_this_cluster_that_was_not_removed() {
    let (ours, theirs) = (authority(), authority());
    let server = |removed: &'static str| {
        let denied = Arc::new(move |node: &NodeIdentity| node.node == removed);
        session_server(server_credentials(&ours, SERVER_NAME), bundle(&ours), denied).expect("a server")
    };
    let client = |credentials, trusted: &Authority| {
        session_client(credentials, bundle(trusted), Arc::default()).expect("a client")
    };
    let node = |issuer: &Authority, uri: &str| node_credentials(issuer, uri, ExtendedKeyUsagePurpose::ClientAuth);

    let edge = || node(&ours, "spiffe://c1/node/edge-1");
    assert_eq!(handshake(client(edge(), &ours), &server("")), Ok(()));
    assert!(handshake(client(edge(), &ours), &server("edge-1")).expect_err("removed").contains("Revoked"));
    assert!(handshake(client(edge(), &theirs), &server("")).is_err(), "the node trusts another cluster");
    assert!(handshake(client(node(&theirs, "spiffe://c1/node/edge-1"), &ours), &server("")).is_err());
    assert!(handshake(client(node(&ours, "spiffe://c1/user/eve"), &ours), &server("")).is_err());
    let wrong_use = node_credentials(&ours, "spiffe://c1/node/edge-1", ExtendedKeyUsagePurpose::ServerAuth);
    assert!(handshake(client(wrong_use, &ours), &server("")).is_err(), "not made for clients");
    let nobody = join_client(pin(&ours)).expect("a client");
    assert!(handshake(nobody, &server("")).is_err(), "no certificate at all");
}

#[test]
fn a_node_is_who_its_certificate_says() {
    let ours = authority();
    let key = KeyPair::generate().expect("a key");
    let identity = |uri: &str| {
        let certificate = node_params(uri, ExtendedKeyUsagePurpose::ClientAuth).signed_by(&key, &ours);
        NodeIdentity::of(certificate.expect("a certificate").der()).map(|node| (node.cluster, node.node)).ok()
    };

    assert_eq!(identity("spiffe://c1/node/edge-1"), Some(("c1".to_owned(), "edge-1".to_owned())));
    for uri in ["spiffe://c1/node/", "spiffe:///node/a", "spiffe://c1/node/a/b", "https://c1/node/a", "spiffe://c1/a"] {
        assert_eq!(identity(uri), None, "{uri}");
    }
}

#[test]
fn a_tunnel_is_between_nodes_of_one_cluster() {
    let (ours, theirs) = (authority(), authority());
    let client = |credentials, trusted: &Authority| {
        tunnel_client(credentials, bundle(trusted), Arc::default()).expect("a client")
    };
    let server = |credentials, trusted: &Authority| {
        tunnel_server(credentials, bundle(trusted), Arc::default()).expect("a server")
    };
    let node = |issuer: &Authority, name: &str| {
        node_credentials(issuer, &format!("spiffe://c1/{name}"), ExtendedKeyUsagePurpose::ClientAuth)
    };
    let edge = server(node(&ours, "node/edge-1"), &ours);

    assert_eq!(handshake(client(node(&ours, "node/edge-2"), &ours), &edge), Ok(()));
    assert!(handshake(client(node(&theirs, "node/edge-2"), &ours), &edge).is_err(), "a foreign node dials");
    let foreign = server(node(&theirs, "node/edge-1"), &ours);
    assert!(handshake(client(node(&ours, "node/edge-2"), &ours), &foreign).is_err(), "a foreign node is dialled");
    assert!(handshake(client(node(&ours, "user/eve"), &ours), &edge).is_err(), "no node dials");
    let other_use = server(server_credentials(&ours, SERVER_NAME), &ours);
    assert!(handshake(client(node(&ours, "node/edge-2"), &ours), &other_use).is_err(), "the scheduler is no node");
    let session = session_client(node(&ours, "node/edge-2"), bundle(&ours), Arc::default()).expect("a client");
    assert!(handshake(session, &edge).is_err(), "a node does not pass for the scheduler");
}

#[test]
fn clocks_that_are_plainly_wrong_do_not_lock_a_node_out() {
    let ca = authority();
    let key = KeyPair::generate().expect("a key");
    let mut params = server_params(SERVER_NAME);
    (params.not_before, params.not_after) = (date_time_ymd(2026, 6, 1), date_time_ymd(2026, 9, 1));
    let leaf = params.signed_by(&key, &ca).expect("a certificate");
    let chain = [leaf.der().clone(), ca.der().clone()];
    let judge = |year, month, floor: Option<(i32, u8)>| {
        let floor = floor.map_or(0, |(year, month)| seconds(year, month));
        let verifier = SchedulerVerifier {
            trust: Trust::Pin(Pin::of(ca.der()).expect("a pin")),
            floor: Arc::new(ClockFloor::new(floor)),
            algorithms: rustls::crypto::ring::default_provider().signature_verification_algorithms,
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds(year, month)));
        verifier.verify_server_cert(&chain[0], &chain[1..], &scheduler_name(), &[], now).is_ok()
    };

    assert!(judge(2026, 7, None), "a right clock");
    assert!(judge(1970, 2, None), "no clock at all, nothing known: the CA itself is younger");
    assert!(judge(1970, 2, Some((2026, 3))), "no clock, a floor older than the leaf");
    assert!(!judge(2026, 5, None), "a clock that may be right: not valid yet");
    assert!(!judge(2026, 10, None), "expired");
    assert!(!judge(1970, 2, Some((2026, 10))), "expired by the floor");
}

fn authority() -> Authority {
    install_provider();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_before = date_time_ymd(2026, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

fn pin(authority: &Authority) -> Pin {
    Pin::of(authority.der()).expect("a pin")
}

fn bundle(authority: &Authority) -> Vec<CertificateDer<'static>> {
    certificates(&authority.pem()).expect("a CA")
}

fn server_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn server_credentials(issuer: &Authority, name: &str) -> Credentials {
    let key = KeyPair::generate().expect("a key");
    let leaf = server_params(name).signed_by(&key, issuer).expect("a certificate");
    Credentials::from_pem(&format!("{}{}", leaf.pem(), issuer.pem()), &key.serialize_pem()).expect("a pair")
}

fn node_params(uri: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
    params.extended_key_usages = vec![purpose];
    params
}

fn node_credentials(issuer: &Authority, uri: &str, purpose: ExtendedKeyUsagePurpose) -> Credentials {
    let key = KeyPair::generate().expect("a key");
    let leaf = node_params(uri, purpose).signed_by(&key, issuer).expect("a certificate");
    Credentials::from_pem(&leaf.pem(), &key.serialize_pem()).expect("a pair")
}

fn seconds(year: i32, month: u8) -> u64 {
    u64::try_from(date_time_ymd(year, month, 1).unix_timestamp()).expect("after 1970")
}

/// Carries bytes between both ends in memory until the handshake is done, or one refuses.
fn handshake(client: Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<(), String> {
    let mut client =
        Connection::Client(ClientConnection::new(client, scheduler_name()).map_err(|error| error.to_string())?);
    let mut server = Connection::Server(ServerConnection::new(server.clone()).map_err(|error| error.to_string())?);
    while client.is_handshaking() || server.is_handshaking() {
        carry(&mut client, &mut server)?;
        carry(&mut server, &mut client)?;
    }
    Ok(())
}

fn carry(from: &mut Connection, to: &mut Connection) -> Result<(), String> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).map_err(|error| error.to_string())?;
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(|error| error.to_string())?;
        to.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(())
}
