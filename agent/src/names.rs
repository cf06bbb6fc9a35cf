//! Answers names on the node's own address, from the table by which the node balances.

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_core::effect::Balancing;
use agent_names::{Directory, Own, Server, Settings, Upstream, Zone};
use agent_network::Network;
use api_types::{id::NodeId, net::Cidr};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::session::outbox::Outbox;

/// The port of name servers.
const PORT: u16 = 53;

/// Asks the kernel for a free one.
const ANY_PORT: u16 = 0;

/// How long after a failed start the next is tried.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Where the node's own name servers stand. Where the first names only a server on the node itself, one of the others names those that
/// it asks: of systemd-resolved, of NetworkManager, of dnsmasq by resolvconf.
const RESOLVER_FILES: [&str; 4] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/dnsmasq/resolv.conf",
];

/// The part that keeps the server of names where it belongs.
#[derive(Debug)]
pub(crate) struct Names {
    known: Known,
    outbox: Arc<Outbox>,
    network: Arc<Network>,
    serving: Mutex<Serving>,
}

/// What names are answered from.
#[derive(Clone, Debug)]
struct Known {
    node: NodeId,
    address: Ipv4Addr,
    outbox: Arc<Outbox>,
    table: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
}

#[derive(Debug, Default)]
struct Serving {
    wanted: Option<Ipv4Addr>,
    /// Where a server listens; it ends with this value.
    at: Option<At>,
}

#[derive(Debug)]
struct At {
    address: Ipv4Addr,
    port: u16,
    _running: DropGuard,
}

impl Names {
    pub(crate) fn new(
        node: NodeId,
        address: Ipv4Addr,
        table: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
        outbox: Arc<Outbox>,
        network: Arc<Network>,
    ) -> Self {
        let known = Known { node, address, outbox: Arc::clone(&outbox), table };
        Self { known, outbox, network, serving: Mutex::default() }
    }

    /// The node has this range now: listens on its first address before anybody starts who would ask there.
    pub(crate) fn follow(&self, subnet: Cidr) {
        self.serving().wanted = subnet.nth(1);
        self.listen();
    }

    /// Where instances may ask; `None` = nowhere yet.
    pub(crate) fn server(&self) -> Option<Ipv4Addr> {
        self.serving().at.as_ref().map(|at| at.address)
    }

    /// Tries again what did not work, until the token is cancelled.
    pub(crate) async fn run(self: Arc<Self>, token: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = interval(TRY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                _ = ticks.tick() => self.listen(),
            }
        }
    }

    fn listen(&self) {
        let mut serving = self.serving();
        let Some(wanted) = serving.wanted else { return };
        let current = serving.at.as_ref().filter(|at| at.address == wanted).map(|at| at.port);
        if current == Some(PORT) {
            return;
        }
        match self.serve(wanted, PORT) {
            Ok(at) => serving.at = Some(at),
            // Another port does as long as that one is taken; it is tried again and again.
            Err(_) if current.is_some() => return,
            Err(error) => match self.serve(wanted, ANY_PORT) {
                Ok(at) => {
                    tracing::warn!(%error, "port {PORT} of {wanted} cannot be had; the kernel leads it to port {}", at.port);
                    serving.at = Some(at);
                }
                Err(_) => {
                    serving.at = None;
                    let reason =
                        format!("cannot listen on {wanted}:{PORT}: {error}; new instances ask the node's name servers");
                    self.outbox.condition("names", Err(reason));
                    return;
                }
            },
        }
        let port = serving.at.as_ref().map_or(PORT, |at| at.port);
        drop(serving);
        let led = Some(port).filter(|port| *port != PORT);
        let said = match led {
            None => format!("answered on {wanted}"),
            Some(port) => format!("answered on {wanted}, by way of port {port}: another program holds port {PORT}"),
        };
        self.outbox.condition("names", Ok(said));
        let network = Arc::clone(&self.network);
        drop(tokio::spawn(async move { network.lead_names_to(led).await }));
    }

    /// Begins to listen there, at a free port if it is [`ANY_PORT`].
    fn serve(&self, address: Ipv4Addr, port: u16) -> io::Result<At> {
        let upstream = Upstream::Files(RESOLVER_FILES.map(PathBuf::from).to_vec());
        let server = Server::bind(Settings { address, port, upstream }, self.known.clone())?;
        let port = server.local_addr()?.port();
        let token = CancellationToken::new();
        drop(tokio::spawn(server.run(token.clone())));
        Ok(At { address, port, _running: token.drop_guard() })
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for Known {
    fn with_zone<T>(&self, look: impl FnOnce(Option<&Zone<'_>>) -> T) -> T {
        let table = self.table.borrow();
        let zone = table.as_ref().map(|(_, table)| Zone {
            node: Own { name: self.node.as_str(), address: self.address, ipv6_address: self.outbox.ipv6_address() },
            ipv6_prefix: table.ipv6_prefix,
            cluster_range: table.cluster_range,
            service_range: table.service_range,
            services: &table.services,
            peers: &table.peers,
        });
        look(zone.as_ref())
    }
}
