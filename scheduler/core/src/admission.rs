//! Accepts or refuses a change of desired state, with reasons that say what to do next.

mod changes;
mod companions;
mod dependencies;
mod disconnect;
mod job;
mod json;
mod network;
mod rules;
mod scale;
mod schedule;
mod update;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use api_types::{
    balance::Bind,
    container::{NetworkMode, PortSpec, Protocol},
    counter::Revision,
    id::WorkloadId,
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::{Cluster, workloads::has_address},
    effect::Refusal,
    secrets,
    settings::Settings,
};

pub(crate) use changes::{change, differences};
pub(crate) use rules::{SPREADS_MAX, check_node};

/// Who claims which ports of nodes, and where.
#[derive(Debug, Default)]
struct NodePorts<'a> {
    published: Claims<'a>,
    host: Claims<'a>,
}

/// Claims by port.
#[derive(Debug, Default)]
struct Claims<'a>(BTreeMap<(u16, Protocol), Vec<Claim<'a>>>);

/// Who claims a port, and at which address, where one is said.
#[derive(Debug)]
struct Claim<'a> {
    owner: &'a WorkloadId,
    at: Option<IpAddr>,
}

impl<'a> Claims<'a> {
    /// Who claims the same port where it would meet: everywhere, or at the same address.
    fn against(&self, port: (u16, Protocol), at: Option<IpAddr>) -> Option<&'a WorkloadId> {
        let meets = |claim: &&Claim<'_>| claim.at.is_none() || at.is_none() || claim.at == at;
        self.0.get(&port)?.iter().find(meets).map(|claim| claim.owner)
    }

    fn add(&mut self, port: (u16, Protocol), at: Option<IpAddr>, owner: &'a WorkloadId) {
        self.0.entry(port).or_default().push(Claim { owner, at });
    }
}

/// The one address at which a port is opened; `None` = at all, or at those of a link, which only its node knows.
fn address_of(spec: &WorkloadSpec, port: &PortSpec) -> Option<IpAddr> {
    match port.bind {
        // In the node's network the process itself listens, wherever it wants.
        Some(Bind::Address(address)) if spec.container.network != NetworkMode::Host => Some(address),
        Some(Bind::Address(_) | Bind::Link(_)) | None => None,
    }
}

/// Whether all of `specs` can be taken over together.
pub(crate) fn admit(
    cluster: &Cluster,
    settings: &Settings,
    specs: &[WorkloadSpec],
    expect: Option<Revision>,
) -> Result<(), Refusal> {
    let mut ids = BTreeSet::new();
    for spec in specs {
        let id = &spec.id;
        if !ids.insert(id) {
            return Err(Refusal::Invalid(format!("`{id}` is there twice: give each workload its own name")));
        }
        let sound = rules::check(spec).and_then(|()| disconnect::check(spec, settings.least_silence_ms()));
        sound.map_err(|fault| Refusal::Invalid(format!("{} `{id}`: {fault}", kind_name(&spec.kind))))?;
        secrets::check(cluster, spec)?;
        schedule::check_zone(cluster, spec)?;
        volumes::check(spec)?;
        let Some(existing) = cluster.workloads.get(id) else { continue };
        if kind_name(&existing.spec().kind) != kind_name(&spec.kind) {
            return Err(Refusal::Conflict(format!(
                "`{id}` is a {}, not a {}: delete it first, or choose another name",
                kind_name(&existing.spec().kind),
                kind_name(&spec.kind)
            )));
        }
        let revision = existing.workload.revision;
        if expect.is_some_and(|expected| expected != revision) {
            return Err(Refusal::Conflict(format!(
                "`{id}` is at revision {revision}, not {}: look at what changed and apply again",
                expect.unwrap_or_default()
            )));
        }
    }
    dependencies::check(cluster, specs)?;
    check_ports(cluster, specs, &ids)?;
    check_addresses(cluster, settings, specs, &ids)
}

/// `service`, `daemon` or `job`.
pub(crate) fn kind_name(kind: &WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Service { .. } => "service",
        WorkloadKind::Daemon => "daemon",
        WorkloadKind::Job(_) => "job",
    }
}

/// A published port leads to one service on every node, so nobody else may have it on any node, unless both are bound to
/// addresses and these differ.
fn check_ports(cluster: &Cluster, specs: &[WorkloadSpec], ids: &BTreeSet<&WorkloadId>) -> Result<(), Refusal> {
    let mut claimed = NodePorts::default();
    let untouched = cluster.workloads.values().map(|entry| entry.spec()).filter(|spec| !ids.contains(&spec.id));
    for spec in untouched.chain(specs) {
        for port in &spec.ports {
            let at = address_of(spec, port);
            if let Some(number) = port.publish {
                let key = (number, port.protocol);
                let wish = format!("publish port {number}/{}", port.protocol.as_str());
                if let Some(owner) = claimed.published.against(key, at) {
                    return Err(clash(&spec.id, &wish, "published by", owner));
                }
                if let Some(owner) = claimed.host.against(key, at) {
                    return Err(clash(&spec.id, &wish, "a host port of", owner));
                }
                claimed.published.add(key, at, &spec.id);
            }
            if let Some(number) = port.host {
                let key = (number, port.protocol);
                if let Some(owner) = claimed.published.against(key, at) {
                    let wish = format!("use host port {number}/{}", port.protocol.as_str());
                    return Err(clash(&spec.id, &wish, "published by", owner));
                }
                claimed.host.add(key, at, &spec.id);
            }
        }
    }
    Ok(())
}

fn clash(id: &WorkloadId, wish: &str, taken: &str, owner: &WorkloadId) -> Refusal {
    Refusal::Conflict(format!("`{id}` cannot {wish}: it is {taken} `{owner}`; choose another port"))
}

fn check_addresses(
    cluster: &Cluster,
    settings: &Settings,
    specs: &[WorkloadSpec],
    ids: &BTreeSet<&WorkloadId>,
) -> Result<(), Refusal> {
    let kept = cluster.addresses.keys().filter(|id| !ids.contains(id)).count();
    let wanted = kept + specs.iter().filter(|spec| has_address(spec)).count();
    let most = settings.service_range.size().saturating_sub(2);
    if u64::try_from(wanted).unwrap_or(u64::MAX) > most {
        return Err(Refusal::Conflict(format!(
            "{} holds {most} virtual addresses, {wanted} are wanted: delete a service or configure a wider range",
            settings.service_range
        )));
    }
    Ok(())
}
