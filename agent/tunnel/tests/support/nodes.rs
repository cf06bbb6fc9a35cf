//! Nodes with certificates of their own cluster, on this machine's loopback.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use agent_tunnel::{Identity, Plan, Remote, Served, Tunnel};
use api_types::id::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A cluster's CA.
#[derive(Clone)]
pub(crate) struct Cluster {
    name: &'static str,
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
}

/// A node, and where it is dialled.
pub(crate) struct Node {
    pub(crate) name: NodeId,
    pub(crate) place: SocketAddrV4,
    pub(crate) tunnel: Tunnel,
    pub(crate) cluster: Cluster,
}

impl Cluster {
    pub(crate) fn new(name: &'static str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.not_before = date_time_ymd(2026, 1, 1);
        let key = KeyPair::generate().expect("a key");
        Self { name, authority: Arc::new(CertifiedIssuer::self_signed(params, key).expect("a CA")) }
    }

    /// A node at a port that was free just now.
    pub(crate) fn node(&self, name: &str) -> Node {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let SocketAddr::V4(place) = free.local_addr().expect("an address") else { panic!("IPv4 was asked for") };
        drop(free);
        self.node_at(name, place)
    }

    pub(crate) fn node_at(&self, name: &str, place: SocketAddrV4) -> Node {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://{}/node/{name}", self.name);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &*self.authority).expect("a certificate").pem();
        let identity = Identity::new(&certificate, &key.serialize_pem(), &self.authority.pem(), &Arc::default());
        let tunnel = Tunnel::new(identity.expect("of use"), Some(place.into()));
        Node { name: instance(name), place, tunnel, cluster: self.clone() }
    }
}

impl Node {
    /// Where this node listens for an endpoint, as soon as it can be asked.
    pub(crate) async fn detour(&self, server: SocketAddrV4) -> SocketAddrV4 {
        let mut states = self.tunnel.state();
        states.wait_for(|state| state.detours.contains_key(&server)).await.expect("reached").detours[&server]
    }
}

/// A plan of which nothing is said.
pub(crate) fn plan() -> Plan {
    Plan {
        here: Ipv4Addr::LOCALHOST,
        cluster_range: "10.42.0.0/16".parse().expect("a range"),
        peers: Vec::new(),
        remote: Vec::new(),
        served: Vec::new(),
    }
}

pub(crate) fn instance<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str) -> T {
    name.parse().expect("a name")
}

pub(crate) fn served(server: SocketAddrV4) -> Served {
    Served { instance: instance("web-1"), address: *server.ip(), ports: vec![server.port()], admitted: None }
}

pub(crate) fn remote(server: SocketAddrV4, node: &NodeId) -> Remote {
    Remote { instance: instance("web-1"), node: node.clone(), address: *server.ip(), ports: vec![server.port()] }
}

/// Where a listener is.
pub(crate) fn end_of(listener: &TcpListener) -> SocketAddrV4 {
    match listener.local_addr().expect("an address") {
        SocketAddr::V4(place) => place,
        SocketAddr::V6(_) => panic!("IPv4 was asked for"),
    }
}

/// A server that says again what it hears.
pub(crate) async fn echo() -> SocketAddrV4 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = end_of(&listener);
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                    if stream.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
                stream.shutdown().await.ok();
            }));
        }
    }));
    place
}
