//! What a node makes of a service's balancing policy: which endpoints it uses, and with what weights.

use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

use api_types::{
    balance::{BalancePolicy, Preference},
    id::{InstanceId, NodeId, WorkloadId},
    service::{Endpoint, Peer, Service},
    time::Timestamp,
};

/// In how many steps the weight of an endpoint that joined rises.
const SLOW_START_STEPS: u64 = 8;

/// From where a node looks at endpoints.
pub(crate) struct Viewpoint<'t> {
    node: &'t NodeId,
    peers: &'t [Peer],
    /// The site of each node, made when somebody asks: most services have no preference.
    sites: OnceCell<BTreeMap<&'t NodeId, &'t str>>,
}

impl<'t> Viewpoint<'t> {
    /// The view of this node, among all nodes of the table.
    pub(crate) fn of(node: &'t NodeId, peers: &'t [Peer]) -> Self {
        Self { node, peers, sites: OnceCell::new() }
    }

    fn site(&self, node: &NodeId) -> Option<&'t str> {
        let named = || self.peers.iter().filter(|peer| !peer.site.is_empty());
        let sites = self.sites.get_or_init(|| named().map(|peer| (&peer.node, peer.site.as_str())).collect());
        sites.get(node).copied()
    }

    /// Sets the weight of endpoints that are not used from here, as there are nearer ones, to zero.
    pub(crate) fn prefer(&self, preference: Preference, endpoints: &mut [Endpoint]) {
        if preference == Preference::Any {
            return;
        }
        let is_local = |endpoint: &Endpoint| endpoint.node == *self.node;
        let own_site = self.site(self.node);
        let is_near =
            |endpoint: &Endpoint| is_local(endpoint) || own_site.is_some() && self.site(&endpoint.node) == own_site;
        let circles: &[&dyn Fn(&Endpoint) -> bool] = match preference {
            Preference::Local => &[&is_local, &is_near],
            Preference::Site => &[&is_near],
            Preference::Any => &[],
        };
        if let Some(used) = circles.iter().find(|circle| endpoints.iter().any(circle)) {
            endpoints.iter_mut().filter(|endpoint| !used(endpoint)).for_each(|endpoint| endpoint.weight = 0);
        }
    }
}

/// Since when endpoints of services that start slowly are known, where that matters.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    services: BTreeMap<WorkloadId, BTreeMap<InstanceId, Joined>>,
}

/// When an endpoint joined others; `None` = it was there from the beginning.
type Joined = Option<Timestamp>;

impl Ages {
    /// Lowers the weights of endpoints that joined others lately; gives when that is to be looked at again. The first
    /// endpoints that are ever seen of a service have all of their weight: there is nobody else to take it.
    pub(crate) fn weigh(
        &mut self,
        (id, policy): (&WorkloadId, &BalancePolicy),
        endpoints: &mut [Endpoint],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let Some(window) = policy.slow_start_ms.filter(|window| *window > 0) else {
            self.forget(id);
            return None;
        };
        let known = self.services.get(id).filter(|known| !known.is_empty());
        let joined = |endpoint: &Endpoint| match known {
            Some(known) => known.get(&endpoint.instance).copied().unwrap_or(Some(now)),
            None => None,
        };
        let ages: BTreeMap<InstanceId, Joined> =
            endpoints.iter().map(|endpoint| (endpoint.instance.clone(), joined(endpoint))).collect();
        let step = |joined: Joined| {
            let Some(joined) = joined else { return SLOW_START_STEPS };
            (now.since(joined).saturating_mul(SLOW_START_STEPS) / window + 1).min(SLOW_START_STEPS)
        };
        let steps: Vec<u64> = endpoints.iter().map(|endpoint| step(ages[&endpoint.instance])).collect();
        if steps.iter().any(|step| *step < SLOW_START_STEPS) {
            for (endpoint, step) in endpoints.iter_mut().zip(&steps) {
                endpoint.weight = endpoint.weight.saturating_mul(u16::try_from(*step).unwrap_or(u16::MAX));
            }
        }
        let due = ages.values().filter_map(|joined| {
            let joined = (*joined)?;
            let step = step(Some(joined));
            (step < SLOW_START_STEPS).then(|| joined + (step * window).div_ceil(SLOW_START_STEPS))
        });
        let due = due.min();
        self.services.insert(id.clone(), ages);
        due
    }

    /// Forgets a service that does not start slowly.
    pub(crate) fn forget(&mut self, id: &WorkloadId) {
        self.services.remove(id);
    }

    /// Forgets services that are not there any more.
    pub(crate) fn keep(&mut self, services: &[Arc<Service>]) {
        self.services.retain(|id, _| services.iter().any(|service| service.id == *id));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use api_types::site::{Across, Reach};

    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    /// Endpoints on these nodes, named after them.
    fn endpoints(nodes: &[&str]) -> Vec<Endpoint> {
        let endpoint = |name: &&str| {
            Endpoint::new(InstanceId::new(name).expect("a name"), node(name), Ipv4Addr::new(10, 42, 1, 2))
        };
        nodes.iter().map(endpoint).collect()
    }

    fn weights(endpoints: &[Endpoint]) -> Vec<u16> {
        endpoints.iter().map(|endpoint| endpoint.weight).collect()
    }

    #[test]
    fn the_nearest_that_there_are_are_used() {
        let peer = |name: &str, site: &str| Peer {
            node: node(name),
            address: Ipv4Addr::new(192, 0, 2, 1),
            ipv6_address: None,
            subnet: "10.42.1.0/24".parse().expect("a range"),
            site: site.to_owned(),
            reach: Reach::default(),
            across: Across::default(),
            tunnel: None,
        };
        let peers = [peer("here", "berlin"), peer("near", "berlin"), peer("far", "paris"), peer("odd", "")];
        let own = node("here");
        let view = Viewpoint::of(&own, &peers);
        let used = |preference, nodes: &[&str]| {
            let mut endpoints = endpoints(nodes);
            view.prefer(preference, &mut endpoints);
            weights(&endpoints)
        };

        assert_eq!(used(Preference::Local, &["here", "near", "far"]), [1, 0, 0]);
        assert_eq!(used(Preference::Local, &["near", "far", "odd"]), [1, 0, 0]);
        assert_eq!(used(Preference::Local, &["far", "odd"]), [1, 1]);
        assert_eq!(used(Preference::Site, &["here", "near", "far"]), [1, 1, 0]);
        assert_eq!(used(Preference::Site, &["far"]), [1]);
        assert_eq!(used(Preference::Any, &["here", "near", "far"]), [1, 1, 1]);
        assert_eq!(used(Preference::Local, &[]), [0; 0]);
    }

    #[test]
    fn one_that_joins_others_gets_more_step_by_step() {
        let (id, start) = ("web".parse::<WorkloadId>().expect("a name"), Timestamp(1_000_000));
        let policy = BalancePolicy { slow_start_ms: Some(8_000), ..BalancePolicy::default() };
        let mut ages = Ages::default();
        let mut weigh = |nodes: &[&str], after: u64| {
            let mut endpoints = endpoints(nodes);
            let due = ages.weigh((&id, &policy), &mut endpoints, start + after);
            (weights(&endpoints), due.map(|due| due.since(start)))
        };

        assert_eq!(weigh(&["a"], 0), (vec![1], None), "the first has nobody to wait for");
        assert_eq!(weigh(&["a", "b"], 100), (vec![8, 1], Some(1_100)));
        assert_eq!(weigh(&["a", "b"], 1_099), (vec![8, 1], Some(1_100)));
        assert_eq!(weigh(&["a", "b"], 1_100), (vec![8, 2], Some(2_100)));
        assert_eq!(weigh(&["a", "b", "c"], 5_100), (vec![8, 6, 1], Some(6_100)));
        assert_eq!(weigh(&["a", "c"], 7_100), (vec![8, 3], Some(8_100)));
        assert_eq!(weigh(&["a", "c"], 12_100), (vec![1, 1], None), "all have their weight");
        assert_eq!(weigh(&["c"], 12_200), (vec![1], None));
        assert_eq!(weigh(&["a", "c"], 12_300), (vec![1, 8], Some(13_300)), "who comes back joins anew");
    }
}
