//! Answers what a person asks of this node's network: tries every way that the service table names, or follows one.

mod names;
mod services;
mod trace;
mod verdict;

use std::{collections::BTreeSet, convert::Infallible, net::Ipv4Addr, sync::Arc, time::Duration};

use agent_core::effect::Balancing;
use agent_network::{Network, Try};
use agent_tunnel::State;
use api_types::{
    id::{NodeId, WorkloadId},
    service::{Service, ServiceTable},
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
    /// Which port of which service it is about; empty: none.
    port: String,
    subject: String,
    remedy: String,
    wanted: Try,
}

/// Where the ways begin.
struct Place<'a> {
    network: &'a Network,
    balancing: &'a Balancing,
    /// The node's own address.
    own: Ipv4Addr,
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
                found.steps = trace::follow(&self.place(&balancing), &question).await;
            }
            (Some(_), None) => found.steps = vec![trace::stopped("rule", "this node has no service table yet")],
            (None, Some(balancing)) => {
                (found.checks, found.untried) = self.verify(&balancing, &wish.services).await;
            }
            (None, None) => {
                let remedy = "wait until the scheduler has sent it";
                let reason = "this node has no service table yet";
                found.checks = vec![NetworkCheck::failed(CheckKind::Kernel, self.node.as_str(), reason, remedy)];
            }
        }
        found
    }

    /// Tries the ways to these services, or if none is named all ways; and says how many checks were left out.
    async fn verify(&self, balancing: &Balancing, named: &[WorkloadId]) -> (Vec<NetworkCheck>, u64) {
        let is_wanted = |service: &&Arc<Service>| named.is_empty() || named.contains(&service.id);
        let services: Vec<&Service> = balancing.services.iter().filter(is_wanted).map(AsRef::as_ref).collect();
        let mut checks = vec![self.kernel().await];
        let mut planned = Vec::new();
        if named.is_empty() {
            checks.extend(self.tunnels(balancing));
            planned = self.nodes(balancing);
        }
        let detours = &balancing.tunnels.detours;
        planned.extend(services.iter().flat_map(|service| services::ways(service, self.address, detours)));
        // Where the node itself has no IPv6, its condition says so.
        if self.outbox.ipv6_address().is_some() {
            planned.extend(services.iter().flat_map(|service| services::ways_by_ipv6(balancing, service)));
        }
        let beyond = bound(&mut planned);
        let outcomes = self.network.reach(planned.iter().map(|one| one.wanted.clone()).collect()).await;
        let tried = planned.into_iter().zip(outcomes).collect();
        checks.extend(verdict::of_all(&self.place(balancing), tried).await);
        let (names, unasked) = names::check(balancing, &services).await;
        checks.extend(names);
        (checks, u64::try_from(beyond + unasked).unwrap_or(u64::MAX))
    }

    fn place<'a>(&'a self, balancing: &'a Balancing) -> Place<'a> {
        Place { network: &self.network, balancing, own: self.address }
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
                port: String::new(),
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

/// Leaves as many ways as are tried for one question, and says how many are left out.
fn bound(planned: &mut Vec<Planned>) -> usize {
    let beyond = planned.len().saturating_sub(TRIES_MAX);
    planned.truncate(TRIES_MAX);
    beyond
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}
