//! What is said of each way that was tried. Of a datagram that nobody answered it is said whether something is known to be in
//! its way; if nothing is, it is called silent, which is neither well nor wrong.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use agent_network::{Outcome, Try};
use api_types::{
    container::Protocol,
    view::{CheckKind, Datagram, NetworkCheck},
};
use proto::network::TraceQuestion;

use super::{Place, Planned, trace};

/// The verdicts, in the order of what was tried.
pub(super) async fn of_all(place: &Place<'_>, tried: Vec<(Planned, Outcome)>) -> Vec<NetworkCheck> {
    let answering = answering(&tried);
    let mut checks = Vec::with_capacity(tried.len());
    for (one, outcome) in &tried {
        let answers_directly = one.kind == CheckKind::Service && answering.get(one.port.as_str()) == Some(&true);
        checks.push(of(place, one, outcome, answers_directly).await);
    }
    checks
}

/// Whether each endpoint of a port that was tried by datagrams has answered.
fn answering(tried: &[(Planned, Outcome)]) -> BTreeMap<&str, bool> {
    let mut answering = BTreeMap::new();
    for (one, outcome) in tried.iter().filter(|(one, _)| one.kind == CheckKind::Endpoint) {
        *answering.entry(one.port.as_str()).or_insert(true) &= matches!(outcome, Outcome::Answered(_));
    }
    answering
}

async fn of(place: &Place<'_>, one: &Planned, outcome: &Outcome, answers_directly: bool) -> NetworkCheck {
    let failed = |reason: &str| NetworkCheck::failed(one.kind, &*one.subject, reason, &*one.remedy);
    let (check, datagram) = match outcome {
        Outcome::Answered(took) => {
            (NetworkCheck::passed(one.kind, &*one.subject, super::micros(*took)), Datagram::Answers)
        }
        Outcome::Refused => (failed("refused"), Datagram::Refused),
        Outcome::Failed(reason) => (failed(reason), Datagram::Stopped),
        Outcome::Silent => match obstacle(place, &one.wanted, answers_directly).await {
            Some(reason) => (failed(&reason), Datagram::Stopped),
            None => (NetworkCheck::passed(one.kind, &*one.subject, 0), Datagram::Silent),
        },
    };
    match one.wanted {
        Try::Datagram { .. } => check.by_datagram(datagram),
        Try::Echo { .. } | Try::Connect { .. } => check,
    }
}

/// What is known to keep a datagram from being answered: a rule or a route that ends its way, or that the same is answered
/// when it does not go by the rules.
async fn obstacle(place: &Place<'_>, wanted: &Try, answers_directly: bool) -> Option<String> {
    let Try::Datagram { to, .. } = wanted else { return None };
    let question = question(place, *to)?;
    let steps = trace::way(place, &question).await;
    if let Some(end) = steps.into_iter().find(|step| step.stops) {
        return Some(end.what);
    }
    answers_directly.then(|| "no answer within a second, though each endpoint answers the node that asks it".to_owned())
}

/// The way of a datagram of this node, as `wherry net trace` would be asked; `None`: its destination is not of the cluster.
fn question(place: &Place<'_>, to: SocketAddr) -> Option<TraceQuestion> {
    let (destination, ipv6) = match to.ip() {
        IpAddr::V4(address) => (address, None),
        IpAddr::V6(address) => (place.balancing.ipv6_prefix?.extract(address)?, Some(address)),
    };
    let (source, port, protocol) = (place.own, to.port(), Protocol::Udp);
    Some(TraceQuestion { instance: None, source, destination, ipv6, port, protocol })
}
