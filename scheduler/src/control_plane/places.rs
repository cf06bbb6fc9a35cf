//! What a person means by an instance, a node, a service, a volume or an address.

use std::net::Ipv4Addr;

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    relay::VolumeSlot,
    view::{Problem, TraceRequest, VolumeView},
};
use proto::network::TraceQuestion;
use scheduler_core::Scheduler;

use crate::problem;

/// Something with an address.
struct Place {
    address: Ipv4Addr,
    node: Option<NodeId>,
    instance: Option<InstanceId>,
}

/// Whom to ask about the way, and what.
pub(super) fn question(scheduler: &Scheduler, request: &TraceRequest) -> Result<(NodeId, TraceQuestion), Problem> {
    let from = find(scheduler, &request.from, false)?;
    let to = find(scheduler, &request.to, true)?;
    // Somebody from outside begins where the packet enters the cluster.
    let node = from.node.or(to.node).or_else(|| scheduler.node_views().into_iter().next().map(|node| node.name));
    let node = node.ok_or_else(|| problem::unavailable("there is no node yet", "`wherry node add` adds one"))?;
    let question = TraceQuestion {
        instance: from.instance,
        source: from.address,
        destination: to.address,
        port: request.port,
        protocol: request.protocol,
    };
    Ok((node, question))
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
    let address = text.parse::<Ipv4Addr>().ok();
    let node = scheduler.node_views().into_iter().find_map(|view| {
        let own = view.facts.address?;
        (address == Some(own) || view.name.as_str() == text).then_some((view.name, own))
    });
    if let Some((node, address)) = node {
        return Ok(Place { address, node: Some(node), instance: None });
    }
    let named =
        |view: &api_types::view::InstanceView| view.address.is_some() && (view.address == address || view.name == text);
    if let Some(view) = scheduler.instance_views().into_iter().find(named)
        && let Some(address) = view.address
    {
        return Ok(Place { address, node: view.node, instance: InstanceId::new(&view.name).ok() });
    }
    let id = text.parse::<WorkloadId>().ok().filter(|_| services);
    let table = scheduler.service_table();
    let service = table.iter().flat_map(|table| &table.services).find(|service| Some(&service.id) == id.as_ref());
    match (service.map(|service| service.address).filter(|address| !address.is_unspecified()), address) {
        (Some(address), _) | (None, Some(address)) => Ok(Place { address, node: None, instance: None }),
        (None, None) => {
            let kinds = if services { "service, instance, node" } else { "instance, node" };
            let title = format!("`{text}` is no {kinds} or IPv4 address that is known here");
            Err(problem::problem(404, "not_found", &title, "`wherry get instances` and `wherry get nodes` show them"))
        }
    }
}
