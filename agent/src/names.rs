//! Answers names on the node's own address, from the table by which the node balances.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_core::effect::Balancing;
use agent_names::{Directory, Own, Server, Settings, Upstream, Zone};
use api_types::{id::NodeId, net::Cidr};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::session::outbox::Outbox;

/// The port of name servers.
const PORT: u16 = 53;

/// How long after a failed start the next is tried.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Where the node's own name servers stand; the second where the first names only a server on the node itself.
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The part that keeps the server of names where it belongs.
#[derive(Debug)]
pub(crate) struct Names {
    known: Known,
    outbox: Arc<Outbox>,
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
    at: Option<(Ipv4Addr, DropGuard)>,
}

impl Names {
    pub(crate) fn new(
        node: NodeId,
        address: Ipv4Addr,
        table: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
        outbox: Arc<Outbox>,
    ) -> Self {
        let known = Known { node, address, outbox: Arc::clone(&outbox), table };
        Self { known, outbox, serving: Mutex::default() }
    }

    /// The node has this range now: listens on its first address before anybody starts who would ask there.
    pub(crate) fn follow(&self, subnet: Cidr) {
        self.serving().wanted = subnet.nth(1);
        self.listen();
    }

    /// Where instances may ask; `None` = nowhere yet.
    pub(crate) fn server(&self) -> Option<Ipv4Addr> {
        self.serving().at.as_ref().map(|(address, _)| *address)
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
        if serving.at.as_ref().is_some_and(|(address, _)| *address == wanted) {
            return;
        }
        serving.at = None;
        let upstream = Upstream::Files(RESOLVER_FILES.map(PathBuf::from).to_vec());
        let settings = Settings { address: wanted, port: PORT, upstream };
        match Server::bind(settings, self.known.clone()) {
            Ok(server) => {
                let token = CancellationToken::new();
                drop(tokio::spawn(server.run(token.clone())));
                serving.at = Some((wanted, token.drop_guard()));
                self.outbox.condition("names", Ok(format!("answered on {wanted}")));
            }
            Err(error) => {
                let reason =
                    format!("cannot listen on {wanted}:{PORT}: {error}; new instances ask the node's name servers");
                self.outbox.condition("names", Err(reason));
            }
        }
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
