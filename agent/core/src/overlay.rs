//! The table as this node balances by it: its own endpoints as they are, without whom it cannot reach, and policies followed.
//!
//! A table differs from the one before in a few services. What follows from the others is taken over, and shared where it
//! is what the table says.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_types::{
    balance::{Preference, WhenNoneReady},
    id::{InstanceId, NodeId, WorkloadId},
    net::Cidr,
    service::{Endpoint, Peer, Service, ServiceTable},
    time::Timestamp,
};

use crate::{
    effect::Balancing,
    machine::Agent,
    policy::{Ages, Viewpoint},
    reach::Neighbours,
    services::{Basis, Local, OwnEndpoint},
    tunnels::{TunnelPeer, Tunnels},
};

/// The other nodes as this one sees them. Made anew only when the table's peers are others.
#[derive(Debug)]
pub(crate) struct View {
    /// What it was made of.
    of: Arc<[Peer]>,
    /// Those to whose instances packets are sent, each with how; sorted by node.
    reached: Arc<[Peer]>,
    /// Those whose instances cannot be sent packets.
    apart: BTreeSet<NodeId>,
    /// Those of them that are asked by a tunnel, and the range of each's instances; sorted by node.
    pub(crate) tunnelled: Vec<(TunnelPeer, Cidr)>,
}

impl View {
    /// Reads the peers of a table as this node; the view before is kept if they are the same.
    pub(crate) fn of(table: &ServiceTable, node: &NodeId, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(before) = before.filter(|before| Arc::ptr_eq(&before.of, &table.peers)) {
            return before.clone();
        }
        // Another run of the scheduler says the same in a list of its own.
        if let Some(before) = before.filter(|before| before.of == table.peers) {
            let (reached, apart) = (before.reached.clone(), before.apart.clone());
            return Arc::new(Self { of: table.peers.clone(), reached, apart, tunnelled: before.tunnelled.clone() });
        }
        let neighbours = Neighbours::of(table, node);
        let mut reached = neighbours.reached();
        reached.sort();
        let apart = neighbours.apart().into_iter().cloned().collect();
        let mut tunnelled: Vec<_> = neighbours.tunnelled().map(|peer| (TunnelPeer::of(peer), peer.subnet)).collect();
        tunnelled.sort();
        Arc::new(Self { of: table.peers.clone(), reached: reached.into(), apart, tunnelled })
    }
}

/// This node's endpoints of each service.
type ByWorkload<'l> = BTreeMap<&'l WorkloadId, Vec<&'l OwnEndpoint>>;

/// What was made of the table before, as far as it still holds.
struct Before<'b> {
    table: &'b ServiceTable,
    made: &'b Balancing,
    /// Services of which this node's own part is another one now.
    moved: BTreeSet<&'b WorkloadId>,
    /// Whether some sites are joined by tunnels: what can be asked there follows from more than the table.
    crosses: bool,
}

impl<'b> Before<'b> {
    /// `None` where all is to be looked at: other nodes are reached than before.
    fn of(before: &'b Basis, made: &'b Balancing, now: &'b Basis) -> Option<Self> {
        let same = Arc::ptr_eq(&before.view, &now.view) && before.unreachable == now.unreachable;
        let crosses = !now.view.tunnelled.is_empty();
        same.then(|| Self { table: &before.table, made, moved: before.local.moved(&now.local), crosses })
    }

    /// What was made of a service that is the same as before; it is likely to stand where it stood.
    fn kept(&self, index: usize, service: &Arc<Service>) -> Option<&'b Arc<Service>> {
        let stays = |at: usize| self.table.services.get(at).is_some_and(|before| Arc::ptr_eq(before, service));
        let by_id = |before: &Arc<Service>| before.id.cmp(&service.id);
        let at = if stays(index) { index } else { self.table.services.binary_search_by(by_id).ok()? };
        // The weights of one that starts slowly follow from the time.
        if !stays(at) || (self.crosses && service.across_sites) {
            return None;
        }
        if service.balance.slow_start_ms.is_some() || self.moved.contains(&service.id) {
            return None;
        }
        let made = self.made.services.get(at).filter(|made| made.id == service.id);
        made.or_else(|| self.made.services.iter().find(|made| made.id == service.id))
    }
}

impl Local {
    fn lists(&self) -> [&[OwnEndpoint]; 3] {
        [&self.endpoints, &self.withdrawn, &self.unready]
    }

    /// The workloads of which one or the other knows something else.
    fn moved<'l>(&'l self, other: &'l Self) -> BTreeSet<&'l WorkloadId> {
        let pairs = self.lists().into_iter().zip(other.lists());
        let moved = pairs.filter(|(before, now)| before != now).flat_map(|(before, now)| {
            let gone = before.iter().filter(|endpoint| !now.contains(endpoint));
            gone.chain(now.iter().filter(|endpoint| !before.contains(endpoint)))
        });
        moved.map(|(workload, ..)| workload).collect()
    }
}

impl Agent {
    /// The table with this node's endpoints replaced by what is true of them, without those that it cannot reach, and its
    /// policies followed; and when weights rise next.
    pub(crate) fn overlay(&self, basis: &Basis, ages: &mut Ages, now: Timestamp) -> (Balancing, Option<Timestamp>) {
        let made = self.balancing.basis.as_ref().zip(self.balancing.wanted.as_deref());
        let before = made.and_then(|(before, made)| Before::of(before, made, basis));
        let local = basis.local.lists().map(|endpoints| {
            let mut sorted = ByWorkload::new();
            for endpoint in endpoints {
                sorted.entry(&endpoint.0).or_default().push(endpoint);
            }
            sorted
        });
        let viewpoint = Viewpoint::of(&self.settings.node, &basis.table.peers);
        let tunnels = Tunnels::of(&basis.table, &basis.view.tunnelled, &basis.local, &basis.detours);
        let by_tunnel = tunnels.ready();
        let mut rise_at: Option<Timestamp> = None;
        let services = basis.table.services.iter().enumerate().map(|(index, service)| {
            if let Some(kept) = before.as_ref().and_then(|before| before.kept(index, service)) {
                return kept.clone();
            }
            if is_as_told(service, &self.settings.node, basis, &local) {
                ages.forget(&service.id);
                return service.clone();
            }
            let mut endpoints = self.endpoints(service, (basis, &by_tunnel), &local);
            endpoints.sort();
            let rise = ages.weigh((&service.id, &service.balance), &mut endpoints, now);
            rise_at = rise_at.into_iter().chain(rise).min();
            viewpoint.prefer(service.balance.prefer, &mut endpoints);
            if endpoints == service.endpoints {
                service.clone()
            } else {
                Arc::new(Service { endpoints, ..Service::clone(service) })
            }
        });
        let mut balancing = Balancing {
            cluster_range: basis.table.cluster_range,
            service_range: basis.table.service_range,
            ipv6_prefix: basis.table.ipv6_prefix,
            subnet: basis.subnet,
            services: services.collect(),
            peers: basis.view.reached.clone(),
            host_ports: basis.local.host_ports.clone(),
            closed: basis.local.closed.clone(),
            tunnels: tunnels.clone(),
        };
        ages.keep(&basis.table.services);
        balancing.services.sort_by(|one, other| one.id.cmp(&other.id));
        (balancing, rise_at)
    }

    /// Who answers for a service, seen from here.
    fn endpoints(
        &self,
        service: &Service,
        (basis, by_tunnel): (&Basis, &BTreeSet<&InstanceId>),
        local: &[ByWorkload<'_>; 3],
    ) -> Vec<Endpoint> {
        let own = &self.settings.node;
        let sent_to = |endpoint: &&Endpoint| {
            let is_reached = !basis.view.apart.contains(&endpoint.node) || by_tunnel.contains(&endpoint.instance);
            endpoint.node != *own && is_reached
        };
        let remote: Vec<Endpoint> = service.endpoints.iter().filter(sent_to).cloned().collect();
        let remote = reached(remote, &basis.unreachable, local[0].contains_key(&service.id));
        usable(service, remote, local, own)
    }
}

/// Whether this node uses a service as the table has it: nobody of it is here or out of reach, and no policy weighs from here. Most
/// services are like that, and cost no copy.
fn is_as_told(service: &Service, own: &NodeId, basis: &Basis, local: &[ByWorkload<'_>; 3]) -> bool {
    let policy = &service.balance;
    let is_plain = policy.prefer == Preference::Any && policy.slow_start_ms.is_none();
    let is_used = |endpoint: &Endpoint| {
        let node = &endpoint.node;
        !endpoint.last_resort && node != own && !basis.view.apart.contains(node) && !basis.unreachable.contains(node)
    };
    is_plain
        && !local.iter().any(|here| here.contains_key(&service.id))
        && service.endpoints.iter().all(is_used)
        && service.endpoints.is_sorted()
}

/// Leaves out those on nodes that this one cannot reach, unless nobody who is ready would be left: then it may be wrong about that.
fn reached(remote: Vec<Endpoint>, unreachable: &BTreeSet<NodeId>, is_ready_here: bool) -> Vec<Endpoint> {
    let is_reached = |endpoint: &Endpoint| !unreachable.contains(&endpoint.node);
    if is_ready_here || remote.iter().any(|endpoint| is_reached(endpoint) && !endpoint.last_resort) {
        remote.into_iter().filter(is_reached).collect()
    } else {
        remote
    }
}

/// Who answers for a service: whoever is ready; else those here that the scheduler takes out; else those that run at all,
/// unless the service refuses then.
fn usable(
    service: &Service,
    remote: Vec<Endpoint>,
    [ready, withdrawn, unready]: &[ByWorkload<'_>; 3],
    own: &NodeId,
) -> Vec<Endpoint> {
    // All of a service on one node weigh the same.
    let listed = service.endpoints.iter().find(|endpoint| endpoint.node == *own);
    let weight = listed.map_or(1, |endpoint| endpoint.weight);
    let here = |local: &ByWorkload<'_>, last_resort| {
        let local = local.get(&service.id).into_iter().flatten();
        let endpoint = |(_, instance, address): &&OwnEndpoint| Endpoint {
            weight,
            last_resort,
            ..Endpoint::new(instance.clone(), own.clone(), *address)
        };
        local.map(endpoint).collect::<Vec<_>>()
    };
    let (spare, mut endpoints): (Vec<_>, Vec<_>) = remote.into_iter().partition(|endpoint| endpoint.last_resort);
    endpoints.extend(here(ready, false));
    if endpoints.is_empty() {
        endpoints.extend(here(withdrawn, false));
    }
    if endpoints.is_empty() && service.balance.when_none_ready == WhenNoneReady::Keep {
        endpoints.extend(spare);
        endpoints.extend(here(unready, true));
    }
    endpoints
}
