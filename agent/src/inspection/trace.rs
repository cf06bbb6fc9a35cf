//! Follows one packet: which rule, which endpoint, which way, and what stops it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
};

use agent_core::effect::Balancing;
use agent_network::{Asker, Network, Outcome, Try};
use api_types::{
    container::Protocol,
    service::{Service, ServicePort},
    view::TraceStep,
};
use proto::network::TraceQuestion;

use super::Place;

/// The most endpoints that are listed.
const ENDPOINTS_MAX: usize = 64;

/// What happens to the packet, in order, and what comes of a real one.
pub(super) async fn follow(place: &Place<'_>, question: &TraceQuestion) -> Vec<TraceStep> {
    let mut steps = way(place, question).await;
    let is_nobodys = matches!(steps.as_slice(), [rule] if rule.stops);
    if !is_nobodys {
        steps.push(connection(place, question).await);
    }
    steps
}

/// What happens to the packet, in order.
pub(super) async fn way(place: &Place<'_>, question: &TraceQuestion) -> Vec<TraceStep> {
    let Place { network, balancing, own } = *place;
    let mut steps = Vec::new();
    let found = matched(balancing, own, question, &mut steps);
    let is_direct = found.is_none();
    let targets = match found {
        Some((service, port)) => {
            let addresses = service.endpoints.iter().map(|endpoint| endpoint.address);
            let chosen = addresses.filter(|address| question.ipv6.is_none() || has_ipv6(balancing, *address));
            chosen.take(ENDPOINTS_MAX).map(|address| SocketAddrV4::new(address, port.container)).collect()
        }
        None if steps.iter().any(|step| step.stops) => return steps,
        None => vec![SocketAddrV4::new(question.destination, question.port)],
    };
    for target in &targets {
        steps.push(endpoint(network, balancing, *target, question.ipv6.is_some()).await);
        steps.extend(closed(balancing, question.source, *target.ip()).filter(|_| is_direct));
        steps.extend(access(balancing, question.source, *target.ip()));
    }
    steps
}

/// A step at which the packet ends.
pub(super) fn stopped(at: &str, what: impl Into<String>) -> TraceStep {
    TraceStep { at: at.to_owned(), what: what.into(), stops: true }
}

fn passed(at: &str, what: impl Into<String>) -> TraceStep {
    TraceStep { at: at.to_owned(), what: what.into(), stops: false }
}

/// The service whose rule translates the packet; `None`: no rule does, or it ends here.
fn matched<'a>(
    balancing: &'a Balancing,
    own: Ipv4Addr,
    question: &TraceQuestion,
    steps: &mut Vec<TraceStep>,
) -> Option<(&'a Service, &'a ServicePort)> {
    let TraceQuestion { destination, port, protocol, .. } = question;
    let asked = question.ipv6.map_or(IpAddr::V4(*destination), IpAddr::V6);
    let asked = format!("{asked} {}/{port}", protocol.as_str());
    let virtual_address = balancing.service_range.contains(*destination);
    let here = is_node(balancing, own, *destination);
    let all = || balancing.services.iter().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
    let found = all().find(|(service, candidate)| {
        let same = candidate.protocol == *protocol;
        let by_address = virtual_address && service.address == *destination && candidate.service == *port;
        same && (by_address || (here && candidate.publish == Some(*port)))
    });
    // A listener that shares out HTTP has both versions of the protocol.
    let is_mute = |service: &Service, port: &ServicePort| {
        question.ipv6.is_some() && !service.ipv6 && (virtual_address || !port.http)
    };
    match found {
        Some((service, port)) if is_mute(service, port) => {
            let what =
                format!("{asked} is {}, which does not answer by IPv6: `ipv6 = true` in its manifest", service.id);
            steps.push(stopped("rule", what));
            None
        }
        Some((service, _)) if service.endpoints.is_empty() => {
            let what = format!(
                "{asked} is {}, and nobody answers for it now: refused; see `wherry why {}`",
                service.id, service.id
            );
            steps.push(stopped("rule", what));
            None
        }
        Some((service, port)) => {
            let count = service.endpoints.len();
            let (chain, kind) = if virtual_address { ("r", "virtual address") } else { ("p", "published port") };
            let what =
                format!("{asked} is the {kind} of {}: chain {chain}{} draws one of {count}", service.id, count.min(64));
            steps.push(passed("rule", what));
            Some((service, port))
        }
        None if virtual_address => {
            steps.push(stopped("rule", format!("{asked} is in the service range, and no service has it: refused")));
            None
        }
        None => {
            steps.push(passed("rule", format!("{asked} is translated by no rule")));
            None
        }
    }
}

async fn endpoint(network: &Network, balancing: &Balancing, target: SocketAddrV4, by_ipv6: bool) -> TraceStep {
    let instance = balancing.services.iter().flat_map(|service| &service.endpoints);
    let instance = instance.into_iter().find(|endpoint| endpoint.address == *target.ip());
    if let (Some(found), Some(here)) = (instance, balancing.tunnels.detours.get(&target)) {
        let what = format!(
            "to {} ({target}) on {}: by a tunnel that begins at {here} of this node",
            found.instance, found.node
        );
        return passed("route", what);
    }
    let who =
        instance.map_or_else(|| target.to_string(), |found| format!("{} ({target}) on {}", found.instance, found.node));
    let embedded = balancing.ipv6_prefix.filter(|_| by_ipv6).map(|prefix| IpAddr::V6(prefix.embed(*target.ip())));
    match network.way_to(embedded.unwrap_or(IpAddr::V4(*target.ip()))).await {
        Ok(way) => passed("route", format!("to {who}: {way}")),
        Err(error) => stopped("route", format!("to {who}: {error}")),
    }
}

/// That an instance asks an endpoint to which only published ports lead.
fn closed(balancing: &Balancing, source: Ipv4Addr, to: Ipv4Addr) -> Option<TraceStep> {
    let is_there = |service: &&Arc<Service>| service.endpoints.iter().any(|endpoint| endpoint.address == to);
    let service = balancing.services.iter().filter(|service| service.is_published_only()).find(is_there)?;
    let what = format!("only published ports lead to instances of {}: refused", service.id);
    balancing.cluster_range.contains(source).then(|| stopped("access", what))
}

/// Whether the endpoint admits who asks, where that is known.
fn access(balancing: &Balancing, source: Ipv4Addr, to: Ipv4Addr) -> Option<TraceStep> {
    if !balancing.cluster_range.contains(source) {
        return None;
    }
    let of = |address: Ipv4Addr| {
        let has =
            |service: &&Arc<Service>| service.access.as_ref().is_some_and(|access| access.instances.contains(&address));
        balancing.services.iter().find(has)
    };
    let service = of(to)?;
    let sources = service.access.as_ref()?.allow_from.as_ref()?;
    let asker = of(source);
    let admitted = asker.is_some_and(|asker| asker.id == service.id || sources.iter().any(|one| one.is(&asker.id)));
    let list = sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let who = asker.map_or_else(|| source.to_string(), |asker| asker.id.to_string());
    Some(if admitted {
        passed("access", format!("{} admits {who} (allow_from: {list})", service.id))
    } else {
        stopped("access", format!("{} does not admit {who}: dropped (allow_from: {list})", service.id))
    })
}

/// A real connection or datagram, where one can be sent from here.
async fn connection(place: &Place<'_>, question: &TraceQuestion) -> TraceStep {
    let Place { network, balancing, own } = *place;
    let to = SocketAddr::new(question.ipv6.map_or(IpAddr::V4(question.destination), IpAddr::V6), question.port);
    let from = match &question.instance {
        Some(instance) => Asker::Instance(instance.clone()),
        None if is_node(balancing, own, question.source) => Asker::Node,
        None => return passed("connection", "not tried: whoever asks is not on this node"),
    };
    let (at, wanted) = match question.protocol {
        Protocol::Tcp => ("connection", Try::Connect { from, to }),
        Protocol::Udp => ("datagram", Try::Datagram { from, to }),
    };
    match network.reach(vec![wanted]).await.pop() {
        Some(Outcome::Answered(took)) => passed(at, format!("{to} answered in {} us", took.as_micros())),
        Some(Outcome::Silent) => passed(at, format!("{to} did not answer within a second, which proves nothing")),
        Some(Outcome::Refused) => stopped(at, format!("{to} refused")),
        Some(Outcome::Failed(reason)) => stopped(at, format!("to {to}: {reason}")),
        None => stopped(at, "was not tried"),
    }
}

/// Whether an instance of this address is on a node that has IPv6.
pub(super) fn has_ipv6(balancing: &Balancing, address: Ipv4Addr) -> bool {
    let peer = balancing.peers.iter().find(|peer| peer.subnet.contains(address));
    balancing.subnet.contains(address) || peer.is_some_and(|peer| peer.ipv6_address.is_some())
}

/// Whether the address is one of this node's: its `own`, or the first of its range that may be asked.
fn is_node(balancing: &Balancing, own: Ipv4Addr, address: Ipv4Addr) -> bool {
    address == own || balancing.subnet.nth(1) == Some(address)
}
