//! Follows the table with the listeners of published HTTP ports.

mod counter;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    net::SocketAddrV4,
    sync::Arc,
    time::Duration,
};

use agent_core::effect::Balancing;
use agent_gateway::{Front, Gateway, Refused, Upstream};
use api_types::{
    balance::WhenNoneReady,
    container::Protocol,
    node::TakenPort,
    service::{Endpoint, Service, ServicePort},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{gateway::counter::Counter, session::outbox::Outbox};

/// How often a port that could not be had is tried again.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// The part that owns the listeners of published HTTP ports.
#[derive(Debug)]
pub(crate) struct HttpPorts {
    /// The latest wish, with its number.
    pub(crate) wanted: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
    pub(crate) outbox: Arc<Outbox>,
}

impl HttpPorts {
    /// Works until the token is cancelled; then nothing listens any more.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Infallible> {
        let (gateway, mut counter) = (Gateway::default(), Counter::default());
        let mut ticks = interval(TRY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missing = false;
        loop {
            // All arms are cancel-safe: a change stays marked until it is read.
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                changed = self.wanted.changed() => if changed.is_err() { return Ok(()) },
                _ = ticks.tick(), if missing => {}
                () = sleep_until(counter.due().unwrap_or_else(Instant::now)), if counter.due().is_some() => {
                    self.outbox.requests(counter.rates(&gateway.take_requests()));
                    continue;
                }
            }
            let wanted = self.wanted.borrow_and_update().as_ref().map(|(_, wanted)| wanted.clone());
            let refused = gateway.follow(wanted.as_deref().map(fronts).unwrap_or_default());
            if counter.follow(wanted.as_deref()) {
                // What came before somebody asked is not counted, and what nobody asks for is not told.
                gateway.take_requests();
                self.outbox.requests(BTreeMap::new());
            }
            missing = !refused.is_empty();
            self.tell(&refused);
        }
    }

    fn tell(&self, refused: &[Refused]) {
        let owners: Vec<Option<String>> = refused.iter().map(owner).collect();
        let lines: Vec<String> =
            refused.iter().zip(&owners).map(|(refused, owner)| line(refused, owner.as_deref())).collect();
        let outcome = if lines.is_empty() { Ok("all listened on".to_owned()) } else { Err(lines.join("; ")) };
        let taken = refused.iter().zip(owners).filter_map(|(refused, owner)| {
            Some(TakenPort { port: refused.port, protocol: Protocol::Tcp, owner: owner? })
        });
        self.outbox.condition_of_ports("http_ports", outcome, taken.collect());
    }
}

/// Who listens where we would, if that is why we do not.
fn owner(refused: &Refused) -> Option<String> {
    let is_taken = refused.error.kind() == io::ErrorKind::AddrInUse;
    is_taken.then(|| agent_network::listener_of(Protocol::Tcp, refused.port))
}

fn line(refused: &Refused, owner: Option<&str>) -> String {
    let Refused { port, bind, service, error } = refused;
    let place = bind.as_ref().map(|bind| format!(" at {bind}")).unwrap_or_default();
    let reason = if let Some(owner) = owner {
        format!("{owner} listens there")
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "this node has no such address".to_owned()
    } else {
        error.to_string()
    };
    format!("tcp port {port}{place} of {service}: {reason}")
}

/// What is to be listened on, and who is asked.
fn fronts(wanted: &Balancing) -> Vec<Front> {
    let mut taken = BTreeSet::new();
    let mut fronts = Vec::new();
    for service in &wanted.services {
        for port in service.ports.iter().filter(|port| port.http) {
            // The scheduler lets nobody publish what another publishes at the same place.
            if let Some(publish) = port.publish.filter(|publish| taken.insert((*publish, port.bind.clone()))) {
                fronts.push(Front {
                    service: service.id.to_string(),
                    port: publish,
                    bind: port.bind.clone(),
                    allow: port.allow.clone(),
                    upstreams: upstreams(service, port, &wanted.tunnels.detours),
                });
            }
        }
    }
    fronts
}

/// Who is asked: those who are ready, or, if the service wants that, those who run while nobody is.
fn upstreams(service: &Service, port: &ServicePort, detours: &BTreeMap<SocketAddrV4, SocketAddrV4>) -> Vec<Upstream> {
    // Those without weight are not used from here: there are nearer ones.
    let used = service.endpoints.iter().filter(|endpoint| endpoint.weight > 0);
    let (unready, ready): (Vec<_>, Vec<_>) = used.partition(|endpoint| endpoint.last_resort);
    let usable = match service.balance.when_none_ready {
        WhenNoneReady::Keep if ready.is_empty() => unready,
        WhenNoneReady::Keep | WhenNoneReady::Refuse => ready,
    };
    let upstream = |endpoint: &Endpoint| Upstream { address: place(endpoint, port, detours), weight: endpoint.weight };
    usable.into_iter().map(upstream).collect()
}

/// Where an endpoint is asked: in sites that are reached by a tunnel, at this end of it.
fn place(endpoint: &Endpoint, port: &ServicePort, detours: &BTreeMap<SocketAddrV4, SocketAddrV4>) -> SocketAddrV4 {
    let place = SocketAddrV4::new(endpoint.address, port.container);
    detours.get(&place).copied().unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use agent_core::tunnels::Tunnels;
    use api_types::balance::BalancePolicy;

    use super::*;

    #[test]
    fn published_http_ports_lead_to_those_who_are_ready() {
        let endpoint = |name: &str, last: u8| {
            let address = Ipv4Addr::new(10, 42, 1, last);
            Endpoint::new(name.parse().expect("a name"), "n1".parse().expect("a name"), address)
        };
        let port = |name: &str, publish, http| ServicePort {
            name: name.to_owned(),
            protocol: Protocol::Tcp,
            service: 80,
            container: 8080,
            publish,
            http,
            bind: None,
            allow: Vec::new(),
        };
        let unready = Endpoint { last_resort: true, ..endpoint("web-2", 3) };
        let mut service = Service {
            id: "web".parse().expect("a name"),
            address: Ipv4Addr::new(10, 43, 0, 1),
            ports: vec![port("raw", Some(9000), false), port("web", Some(80), true)],
            balance: BalancePolicy::default(),
            endpoints: vec![endpoint("web-1", 2), unready],
            ipv6: false,
            across_sites: false,
            counts_requests: false,
            access: None,
        };
        let balancing = |service: &Service| Balancing {
            cluster_range: "10.42.0.0/16".parse().expect("a range"),
            service_range: "10.43.0.0/16".parse().expect("a range"),
            ipv6_prefix: None,
            subnet: "10.42.1.0/24".parse().expect("a range"),
            services: vec![Arc::new(service.clone())],
            peers: Arc::from([]),
            host_ports: Vec::new(),
            closed: Vec::new(),
            tunnels: Tunnels::default(),
        };
        let asked = |service: &Service| -> Vec<(u16, Vec<u8>)> {
            let last = |front: &Front| front.upstreams.iter().map(|one| one.address.ip().octets()[3]).collect();
            fronts(&balancing(service)).iter().map(|front| (front.port, last(front))).collect()
        };

        assert_eq!(asked(&service), [(80, vec![2])]);
        service.endpoints.remove(0);
        assert_eq!(asked(&service), [(80, vec![3])], "better one that may not answer than none");
        service.balance.when_none_ready = WhenNoneReady::Refuse;
        assert_eq!(asked(&service), [(80, vec![])]);
    }
}
