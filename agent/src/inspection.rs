//! Answers what a person asks of this node's network: tries every way that the service table names, or follows one.

mod names;
mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use agent_core::effect::Balancing;
use agent_network::{Asker, Network, Try};
use agent_tunnel::State;
use api_types::{
    container::Protocol,
    id::NodeId,
    service::{Service, ServicePort, ServiceTable},
    view::{CheckKind, NetworkCheck},
};
use proto::{
    network::{InspectNetwork, NetworkInspected, table_sum},
    update::services_marker,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::session::outbox::Outbox;

/// The most ways that are tried for one question; the message to the scheduler has a limit, and so has patience.
const TRIES_MAX: usize = 1000;

/// What is asked, and the service table as the scheduler sent it.
pub(crate) type Question = (InspectNetwork, Option<Arc<ServiceTable>>);

/// The part that answers, one question after the other.
#[derive(Debug)]
pub(crate) struct Inspector {
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) node: NodeId,
    /// Where this node is reached.
    pub(crate) address: Ipv4Addr,
    pub(crate) network: Arc<Network>,
    /// By what this node balances.
    pub(crate) table: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
    /// What the tunnels to other sites reach.
    pub(crate) tunnelled: watch::Receiver<State>,
}

/// One try and what it is for.
struct Planned {
    kind: CheckKind,
    subject: String,
    remedy: String,
    wanted: Try,
}

impl Inspector {
    /// Answers until the token is cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Infallible> {
        loop {
            // Both arms are cancel-safe: a question stays in the channel until it is taken.
            let question = tokio::select! {
                () = token.cancelled() => return Ok(()),
                question = self.questions.recv() => question,
            };
            let Some((wish, held)) = question else { return Ok(()) };
            let found = self.answer(wish, held).await;
            self.outbox.inspected(found);
        }
    }

    async fn answer(&self, wish: InspectNetwork, held: Option<Arc<ServiceTable>>) -> NetworkInspected {
        let balancing = self.table.borrow().as_ref().map(|(_, balancing)| Arc::clone(balancing));
        let mut found = NetworkInspected {
            request: wish.request,
            table: held.as_deref().map(services_marker),
            table_sum: held.as_deref().map(table_sum).unwrap_or_default(),
            ..NetworkInspected::default()
        };
        match (wish.trace, balancing) {
            (Some(question), Some(balancing)) => {
                found.steps = trace::follow(&self.network, &balancing, self.address, &question).await;
            }
            (Some(_), None) => found.steps = vec![trace::stopped("rule", "this node has no service table yet")],
            (None, Some(balancing)) => found.checks = self.verify(&balancing).await,
            (None, None) => {
                let remedy = "wait until the scheduler has sent it";
                let reason = "this node has no service table yet";
                found.checks = vec![NetworkCheck::failed(CheckKind::Kernel, self.node.as_str(), reason, remedy)];
            }
        }
        found
    }

    async fn verify(&self, balancing: &Balancing) -> Vec<NetworkCheck> {
        let mut checks = vec![self.kernel().await];
        checks.extend(self.tunnels(balancing));
        let detours = &balancing.tunnels.detours;
        let mut planned = self.nodes(balancing);
        planned.extend(balancing.services.iter().flat_map(|service| services(service, self.address, detours)));
        // Where the node itself has no IPv6, its condition says so.
        if self.outbox.ipv6_address().is_some() {
            planned.extend(balancing.services.iter().flat_map(|service| services_by_ipv6(balancing, service)));
        }
        planned.truncate(TRIES_MAX);
        let answers = self.network.reach(planned.iter().map(|one| one.wanted.clone()).collect()).await;
        checks.extend(planned.into_iter().zip(answers).map(|(one, answer)| match answer {
            Ok(took) => NetworkCheck::passed(one.kind, one.subject, micros(took)),
            Err(reason) => NetworkCheck::failed(one.kind, one.subject, reason, one.remedy),
        }));
        checks.extend(names::check(balancing).await);
        checks
    }

    async fn kernel(&self) -> NetworkCheck {
        let failed =
            |reason: String, remedy: &str| NetworkCheck::failed(CheckKind::Kernel, self.node.as_str(), reason, remedy);
        match self.network.differences().await {
            Ok(differences) if differences.is_empty() => NetworkCheck::passed(CheckKind::Kernel, self.node.as_str(), 0),
            Ok(differences) => failed(
                format!("the kernel has otherwise: {}", differences.join(", ")),
                "the agent restores it within two seconds; if it does not stay so, find the program that changes it",
            ),
            Err(error) => failed(error.to_string(), "see `wherry describe node` and the agent's log"),
        }
    }

    /// Each node of another site that is asked by a tunnel: whether connections to it wait.
    fn tunnels(&self, balancing: &Balancing) -> Vec<NetworkCheck> {
        let state = self.tunnelled.borrow().clone();
        let asked: BTreeSet<&NodeId> = balancing.tunnels.remote.iter().map(|endpoint| &endpoint.node).collect();
        let check = |node: &&NodeId| match state.unreachable.get(*node) {
            Some(reason) => {
                let remedy = "let one of both nodes reach the other's tunnel port (TCP 7449 unless its configuration says \
                              otherwise), and see `tunnel_address` in its configuration";
                NetworkCheck::failed(CheckKind::Tunnel, node.as_str(), reason.clone(), remedy)
            }
            None if state.reached.contains(*node) => NetworkCheck::passed(CheckKind::Tunnel, node.as_str(), 0),
            None => {
                let remedy = "ask again in a few seconds";
                NetworkCheck::failed(CheckKind::Tunnel, node.as_str(), "it is being dialled", remedy)
            }
        };
        asked.iter().map(check).collect()
    }

    /// Each other node, and its range of instances from this node's.
    fn nodes(&self, balancing: &Balancing) -> Vec<Planned> {
        let own = balancing.subnet.nth(1);
        let mut planned = Vec::new();
        for peer in balancing.peers.iter().filter(|peer| peer.node != self.node) {
            let echo = |kind, from, to, remedy: String| Planned {
                kind,
                subject: peer.node.to_string(),
                remedy,
                wanted: Try::Echo { from, to },
            };
            planned.push(echo(
                CheckKind::Node,
                Ipv4Addr::UNSPECIFIED,
                peer.address,
                format!(
                    "see that {} is up, and that echoes (ICMP) and packets of that size pass between",
                    peer.address
                ),
            ));
            if let (Some(from), Some(to)) = (own, peer.subnet.nth(1)) {
                planned.push(echo(
                    CheckKind::Range,
                    from,
                    to,
                    format!(
                        "let {} pass between the nodes, and look at both nodes' routes: ip route get {to}",
                        peer.subnet
                    ),
                ));
            }
        }
        planned
    }
}

/// Each port of a service that somebody answers, as an instance asks it, and each endpoint, as the node asks it. What has no
/// virtual address is asked by its published ports, at this node's `own` address.
fn services(service: &Service, own: Ipv4Addr, detours: &BTreeMap<SocketAddrV4, SocketAddrV4>) -> Vec<Planned> {
    let mut planned = Vec::new();
    let asked = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp && !service.endpoints.is_empty());
    for port in asked {
        let front = front(service, port, own);
        let number = port.publish.filter(|_| service.is_published_only()).unwrap_or(port.service);
        let subject = format!("{} {}/{number}", service.id, port.protocol.as_str());
        let connect = |kind, subject, remedy, from, to: SocketAddrV4| Planned {
            kind,
            subject,
            remedy,
            wanted: Try::Connect { from, to: to.into() },
        };
        planned.extend(front.map(|(asker, front)| {
            let asked =
                if service.is_published_only() { front.to_string() } else { format!("{}:{number}", service.id) };
            let remedy = format!(
                "follow it: wherry net trace NODE {asked}; if the node reaches the endpoints, look for a firewall that \
                     drops what is forwarded: nft list ruleset",
            );
            connect(CheckKind::Service, subject.clone(), remedy, asker, front)
        }));
        planned.extend(service.endpoints.iter().map(|endpoint| {
            let place = SocketAddrV4::new(endpoint.address, port.container);
            connect(
                CheckKind::Endpoint,
                format!("{} {subject}", endpoint.instance),
                format!(
                    "see that it listens on port {} of all addresses: wherry describe instance {}",
                    port.container, endpoint.instance
                ),
                Asker::Node,
                detours.get(&place).copied().unwrap_or(place),
            )
        }));
    }
    planned
}

/// The same by IPv6 of a service that answers so, as the node asks it: its virtual address, and each endpoint on a node that has IPv6.
fn services_by_ipv6(balancing: &Balancing, service: &Service) -> Vec<Planned> {
    let Some(prefix) = balancing.ipv6_prefix.filter(|_| service.ipv6) else { return Vec::new() };
    let reached: Vec<_> =
        service.endpoints.iter().filter(|endpoint| trace::has_ipv6(balancing, endpoint.address)).collect();
    let mut planned = Vec::new();
    let asked = service.ports.iter().filter(|port| port.protocol == Protocol::Tcp && !reached.is_empty());
    for port in asked {
        let mut plan = |kind, subject, remedy, to: (Ipv4Addr, u16)| {
            let to = SocketAddr::new(prefix.embed(to.0).into(), to.1);
            planned.push(Planned { kind, subject, remedy, wanted: Try::Connect { from: Asker::Node, to } });
        };
        let subject = format!("{} {}/{} by IPv6", service.id, port.protocol.as_str(), port.service);
        if !service.is_published_only() {
            let front = SocketAddr::new(prefix.embed(service.address).into(), port.service);
            let remedy = format!("follow it: wherry net trace NODE {front}");
            plan(CheckKind::Service, subject.clone(), remedy, (service.address, port.service));
        }
        for endpoint in &reached {
            let remedy = format!(
                "see that it listens on port {} of `::`: wherry describe instance {}",
                port.container, endpoint.instance
            );
            let subject = format!("{} {subject}", endpoint.instance);
            plan(CheckKind::Endpoint, subject, remedy, (endpoint.address, port.container));
        }
    }
    planned
}

/// Who asks a port of a service, and where; `None`: it answers at no address of this node that is known here.
fn front(service: &Service, port: &ServicePort, own: Ipv4Addr) -> Option<(Asker, SocketAddrV4)> {
    if !service.is_published_only() {
        return Some((Asker::Scratch, SocketAddrV4::new(service.address, port.service)));
    }
    // As the node: the port may be kept for some clients, and instances of this node need not be among them.
    match port.bind {
        None => Some((Asker::Node, SocketAddrV4::new(own, port.publish?))),
        Some(_) => None,
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
