//! What a plan asks of balancing: fronts, to which clients connect, and the endpoints behind each.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use api_types::{container::Protocol, id::WorkloadId};

use crate::{
    passes::{self, Pass, Version},
    plan::{Plan, PortConflict},
};

/// What a client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Front {
    /// A port of a service's virtual address.
    Service(Ipv4Addr, Protocol, u16),
    /// A port of this node.
    Port(Protocol, u16),
}

/// Every front and the endpoints behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Sorted endpoints without repetition; a front without endpoints is absent.
    pub(crate) fronts: BTreeMap<Front, Vec<SocketAddrV4>>,
    /// Addresses of endpoints on this node.
    pub(crate) hairpins: BTreeSet<Ipv4Addr>,
    /// Ports of this node that lead somewhere, now or as soon as there is an endpoint.
    pub(crate) ports: BTreeSet<(Protocol, u16)>,
    /// What instances may ask besides services.
    pub(crate) passes: BTreeSet<Pass>,
}

impl Wanted {
    /// All of it but these ports of the node.
    pub(crate) fn without(&self, ports: &BTreeSet<(Protocol, u16)>) -> Cow<'_, Self> {
        if ports.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut wanted = self.clone();
        wanted.fronts.retain(|front, _| match front {
            Front::Port(protocol, port) => !ports.contains(&(*protocol, *port)),
            Front::Service(..) => true,
        });
        Cow::Owned(wanted)
    }

    /// Reads a plan. Two parts of it that ask for the same port of the node: the first has it, the other is a conflict.
    pub(crate) fn of(plan: &Plan) -> (Self, Vec<PortConflict>) {
        let mut wanted = Self { passes: passes::of(plan, Version::Four), ..Self::default() };
        let mut owners: BTreeMap<(Protocol, u16), String> = BTreeMap::new();
        let mut conflicts = Vec::new();
        for service in &plan.services {
            for port in &service.ports {
                let mut endpoints: Vec<_> =
                    service.endpoints.iter().map(|found| SocketAddrV4::new(found.address, port.container)).collect();
                endpoints.sort_unstable();
                endpoints.dedup();
                // The agent itself listens where HTTP is shared out.
                if let Some(publish) = port.publish.filter(|_| !port.http)
                    && claim(&mut owners, &mut conflicts, (port.protocol, publish), || describe(&service.id))
                    && !endpoints.is_empty()
                {
                    wanted.fronts.insert(Front::Port(port.protocol, publish), endpoints.clone());
                }
                if !endpoints.is_empty() {
                    wanted.fronts.insert(Front::Service(service.address, port.protocol, port.service), endpoints);
                }
            }
        }
        for port in &plan.host_ports {
            let endpoint = SocketAddrV4::new(port.address, port.container);
            let owner = || format!("the host port of the instance at {}", port.address);
            if claim(&mut owners, &mut conflicts, (port.protocol, port.host), owner) {
                wanted.fronts.insert(Front::Port(port.protocol, port.host), vec![endpoint]);
            }
        }
        let endpoints = wanted.fronts.values().flatten().map(|endpoint| *endpoint.ip());
        wanted.ports = owners.into_keys().collect();
        wanted.hairpins = endpoints.filter(|address| plan.subnet.contains(*address)).collect();
        (wanted, conflicts)
    }
}

fn claim(
    owners: &mut BTreeMap<(Protocol, u16), String>,
    conflicts: &mut Vec<PortConflict>,
    (protocol, port): (Protocol, u16),
    owner: impl FnOnce() -> String,
) -> bool {
    match owners.get(&(protocol, port)) {
        Some(first) => {
            conflicts.push(PortConflict { port, protocol, owner: format!("{first} and {}", owner()) });
            false
        }
        None => {
            owners.insert((protocol, port), owner());
            true
        }
    }
}

fn describe(service: &WorkloadId) -> String {
    format!("service {service}")
}
