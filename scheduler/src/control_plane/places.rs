//! What a person means by an instance, a node, a service, a volume or an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api_server::control_plane::Target;
use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    relay::VolumeSlot,
    view::{InstanceView, Problem, TraceRequest, VolumeView},
};
use proto::network::TraceQuestion;
use scheduler_core::Scheduler;

use super::Port;
use crate::problem;

impl Port {
    /// Which instances a person means, and on which nodes they are.
    pub(super) async fn placed(&self, target: Target) -> Result<Vec<(InstanceId, NodeId)>, Problem> {
        let instances = match target {
            Target::Node(_) => {
                return Err(problem::invalid("a node has no log", "ask for a workload or an instance"));
            }
            Target::Workload(workload) => {
                self.look(move |scheduler| scheduler.describe_workload(&workload)).await?.instances
            }
            Target::Instance(instance) => {
                self.look(move |scheduler| scheduler.describe_instance(&instance)).await?.instances
            }
        };
        let placed = |view: InstanceView| Some((InstanceId::new(&view.name).ok()?, view.node?));
        let placed: Vec<_> = instances.into_iter().filter_map(placed).collect();
        if placed.is_empty() {
            return Err(problem::unavailable("no instance has a node yet", "`wherry why` says what it waits for"));
        }
        Ok(placed)
    }
}

/// Something with an address.
struct Place {
    address: Ipv4Addr,
    /// The same in IPv6, where it has one.
    ipv6: Option<Ipv6Addr>,
    node: Option<NodeId>,
    instance: Option<InstanceId>,
}

/// Whom to ask about the way, and what; and the packet's two ends. It is the way by IPv6 if who is asked is named by an IPv6 address.
pub(super) fn question(
    scheduler: &Scheduler,
    request: &TraceRequest,
) -> Result<(NodeId, TraceQuestion, [IpAddr; 2]), Problem> {
    let from = find(scheduler, &request.from, false)?;
    let to = find(scheduler, &request.to, true)?;
    let ipv6: Option<Ipv6Addr> = request.to.parse().ok();
    let by_ipv6 = |place: &Place| ipv6.and(place.ipv6).map_or(IpAddr::V4(place.address), IpAddr::V6);
    let ends = [by_ipv6(&from), by_ipv6(&to)];
    // Somebody from outside begins where the packet enters the cluster.
    let node = from.node.or(to.node).or_else(|| scheduler.node_views().into_iter().next().map(|node| node.name));
    let node = node.ok_or_else(|| problem::unavailable("there is no node yet", "`wherry node add` adds one"))?;
    let question = TraceQuestion {
        instance: from.instance,
        source: from.address,
        destination: to.address,
        ipv6,
        port: request.port,
        protocol: request.protocol,
    };
    Ok((node, question, ends))
}

/// All nodes, which are to try the ways to these services.
pub(super) fn all_of(scheduler: &Scheduler, services: &[WorkloadId]) -> Result<Vec<NodeId>, Problem> {
    let table = scheduler.service_table();
    let known = |id: &&WorkloadId| table.iter().flat_map(|table| &table.services).any(|service| service.id == **id);
    if let Some(stranger) = services.iter().find(|id| !known(id)) {
        let title = format!("`{stranger}` is no workload with ports that is known here");
        return Err(problem::problem(
            404,
            "not_found",
            &title,
            "`wherry get services` and `wherry get daemons` show them",
        ));
    }
    Ok(scheduler.node_views().into_iter().map(|node| node.name).collect())
}

/// Where the data of a volume is; who wants to change it whole is refused while an instance uses it.
pub(super) fn home(views: Vec<VolumeView>, wanted: &VolumeSlot, alone: bool) -> Result<NodeId, Problem> {
    let is_wanted = |view: &VolumeView| {
        view.workload == wanted.workload && view.volume == wanted.volume && view.slot == wanted.slot
    };
    let Some(view) = views.into_iter().find(is_wanted) else {
        let hint = "`wherry get volumes` shows all that have data; one has a node from its instance's first start on";
        return Err(problem::problem(404, "not_found", &format!("{wanted} is not known"), hint));
    };
    match view.instance {
        Some(instance) if alone => {
            let hint =
                format!("end it first: `wherry scale {} 0`, or delete the workload; its data stays", wanted.workload);
            Err(problem::problem(409, "conflict", &format!("{wanted} is used by `{instance}`"), &hint))
        }
        Some(_) | None => Ok(view.node),
    }
}

fn find(scheduler: &Scheduler, text: &str, services: bool) -> Result<Place, Problem> {
    let table = scheduler.service_table();
    let prefix = table.as_ref().and_then(|table| table.ipv6_prefix);
    let asked = text.parse::<IpAddr>().ok();
    let node = scheduler.node_views().into_iter().find_map(|view| {
        let own = view.facts.address?;
        let ipv6 = view.facts.ipv6_address;
        let is_named = asked == Some(own.into()) || (asked.is_some() && asked == ipv6.map(IpAddr::V6));
        (is_named || view.name.as_str() == text).then_some((view.name, own, ipv6))
    });
    if let Some((node, address, ipv6)) = node {
        return Ok(Place { address, ipv6, node: Some(node), instance: None });
    }
    let address = asked.and_then(|asked| match asked {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(address) => prefix?.extract(address),
    });
    let embedded = |address: Ipv4Addr| prefix.map(|prefix| prefix.embed(address));
    let named =
        |view: &api_types::view::InstanceView| view.address.is_some() && (view.address == address || view.name == text);
    if let Some(view) = scheduler.instance_views().into_iter().find(named)
        && let Some(address) = view.address
    {
        let (ipv6, instance) = (embedded(address), InstanceId::new(&view.name).ok());
        return Ok(Place { address, ipv6, node: view.node, instance });
    }
    let id = text.parse::<WorkloadId>().ok().filter(|_| services);
    let service = table.iter().flat_map(|table| &table.services).find(|service| Some(&service.id) == id.as_ref());
    match (service.map(|service| service.address).filter(|address| !address.is_unspecified()), address) {
        (Some(address), _) | (None, Some(address)) => {
            Ok(Place { address, ipv6: embedded(address), node: None, instance: None })
        }
        (None, None) => {
            let kinds = if services { "service, instance, node" } else { "instance, node" };
            let title = format!("`{text}` is no {kinds} or address that is known here");
            Err(problem::problem(404, "not_found", &title, "`wherry get instances` and `wherry get nodes` show them"))
        }
    }
}
