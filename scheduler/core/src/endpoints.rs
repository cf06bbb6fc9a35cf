//! How to balance: each service's endpoints, the peers, and the service table made of them.

mod canary;
pub(crate) mod choice;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
};

use api_types::{
    access::{Access, Source},
    balance::BalancePolicy,
    container::NetworkMode,
    counter::{Epoch, Generation},
    id::{InstanceId, WorkloadId},
    node::NodeSpec,
    service::{Endpoint, Peer, Service, ServicePort, ServiceTable, WatchKey},
    workload::WorkloadSpec,
};

use crate::{
    cluster::{Cluster, Touched, held::Held, ids::instance_id, rows::Observed, workloads::has_address},
    settings::Settings,
};

/// The services and peers, and the table made of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Balancing {
    services: BTreeMap<WorkloadId, Arc<Service>>,
    peers: Arc<[Peer]>,
    /// With what nodes sign what they tell each other of being alive.
    watch_key: Option<WatchKey>,
    /// Workloads that say who may ask them.
    restricted: BTreeSet<WorkloadId>,
    /// Whether some workload admits only some others.
    admission: bool,
    /// The table's version; zero before the first.
    generation: Generation,
    /// The table, made when somebody asks for it: many changes may come before that.
    table: OnceLock<Arc<ServiceTable>>,
}

impl Balancing {
    /// The table as it is; `None` before the first refresh.
    pub(crate) fn table(&self, settings: &Settings, epoch: Epoch) -> Option<Arc<ServiceTable>> {
        let make = || {
            Arc::new(ServiceTable {
                epoch,
                generation: self.generation,
                cluster_range: settings.cluster_range,
                service_range: settings.service_range,
                ipv6_prefix: settings.ipv6_prefix,
                services: self.services.values().cloned().collect(),
                peers: self.peers.clone(),
                watch_key: self.watch_key,
            })
        };
        (self.generation > Generation(0)).then(|| self.table.get_or_init(make).clone())
    }

    /// The table's version; zero before the first.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether the table shows an instance as endpoint.
    pub(crate) fn shows(&self, id: &WorkloadId, instance: &InstanceId) -> bool {
        let service = self.services.get(id);
        service.is_some_and(|service| service.endpoints.binary_search_by(|known| known.instance.cmp(instance)).is_ok())
    }

    /// A service as it is in the table.
    pub(crate) fn service(&self, id: &WorkloadId) -> Option<&Service> {
        self.services.get(id).map(|service| &**service)
    }

    /// All services as they are in the table.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|service| &**service)
    }

    /// Brings up to date what was touched; whether the table differs from the one before. The first differs from none.
    pub(crate) fn refresh(&mut self, cluster: &Cluster, touched: &mut Touched, settings: &Settings) -> bool {
        let mut differs = self.generation == Generation(0);
        let mut services = std::mem::take(&mut touched.services);
        if self.note_restrictions(cluster, &services, settings) {
            services.extend(cluster.workloads.keys().cloned());
            services.extend(self.services.keys().cloned());
        }
        let rule = self.admission.then_some(settings.isolate_namespaces);
        for id in &services {
            let service = service(cluster, id, rule);
            if self.service(id) != service.as_ref() {
                differs = true;
                match service {
                    Some(service) => self.services.insert(id.clone(), Arc::new(service)),
                    None => self.services.remove(id),
                };
            }
        }
        for (id, number) in std::mem::take(&mut touched.endpoints) {
            if !services.contains(&id) {
                differs |= self.refresh_endpoint(cluster, &id, number);
                differs |= self.refresh_access(cluster, &id);
            }
        }
        if std::mem::take(&mut touched.peers) {
            let peers = peers(cluster);
            if *peers != *self.peers {
                differs = true;
                self.peers = peers.into();
            }
            let watch_key = cluster.watch_key.or(settings.watch_key);
            differs |= std::mem::replace(&mut self.watch_key, watch_key) != watch_key;
        }
        if differs {
            self.generation = self.generation.next();
            self.table = OnceLock::new();
        }
        differs
    }

    /// Whether some workload admits only some others, so that the table must name all instances.
    pub(crate) fn has_admission(&self) -> bool {
        self.admission
    }

    /// Notes which of these workloads say who may ask them; whether that turns admission on or off for the cluster.
    fn note_restrictions(&mut self, cluster: &Cluster, ids: &BTreeSet<WorkloadId>, settings: &Settings) -> bool {
        for id in ids {
            if cluster.workloads.get(id).is_some_and(|entry| entry.spec().allow_from.is_some()) {
                self.restricted.insert(id.clone());
            } else {
                self.restricted.remove(id);
            }
        }
        let admission = settings.isolate_namespaces || !self.restricted.is_empty();
        std::mem::replace(&mut self.admission, admission) != admission
    }

    /// Brings the addresses of a workload's instances up to date; whether they differ.
    fn refresh_access(&mut self, cluster: &Cluster, id: &WorkloadId) -> bool {
        let Some(service) = self.services.get_mut(id) else { return false };
        let instances = addresses(cluster, id);
        if service.access.as_ref().is_none_or(|access| access.instances == instances) {
            return false;
        }
        if let Some(access) = &mut Arc::make_mut(service).access {
            access.instances = instances;
        }
        true
    }

    /// Brings one endpoint up to date; whether any differs.
    fn refresh_endpoint(&mut self, cluster: &Cluster, id: &WorkloadId, number: u64) -> bool {
        let Some(service) = self.services.get_mut(id) else { return false };
        let Some(spec) = cluster.workloads.get(id).map(|entry| entry.spec()) else { return false };
        if canary::is_weighed(cluster, id) {
            // How much one gets depends on all.
            return replace_all(service, cluster, id);
        }
        let instance = instance_id(id, number);
        let held = cluster.held(number);
        let is_last_resort = service.endpoints.iter().all(|endpoint| endpoint.last_resort);
        let ready = held.and_then(|held| choice::ready(held, spec));
        let is_other = |known: &Endpoint| known.instance != instance;
        if is_last_resort && ready.is_none() {
            // Nobody is ready, before and after.
            let endpoint = held.and_then(|held| choice::last_resort(held, spec));
            return replace(service, &instance, endpoint);
        }
        if is_last_resort {
            // The first that is ready: the others are not used any more.
            Arc::make_mut(service).endpoints.clear();
        } else if ready.is_none() && !service.endpoints.iter().any(is_other) {
            // The last that was ready is not any more.
            return replace_all(service, cluster, id);
        }
        replace(service, &instance, ready)
    }
}

/// Makes all endpoints anew; whether that changes anything.
fn replace_all(service: &mut Arc<Service>, cluster: &Cluster, id: &WorkloadId) -> bool {
    let endpoints = choice::endpoints(cluster, id);
    let differs = service.endpoints != endpoints;
    if differs {
        Arc::make_mut(service).endpoints = endpoints;
    }
    differs
}

/// Makes an instance's endpoint this one; whether that changes anything. A service that does not change stays the one that
/// tables share.
fn replace(service: &mut Arc<Service>, instance: &InstanceId, endpoint: Option<Endpoint>) -> bool {
    let place = service.endpoints.binary_search_by(|known| known.instance.cmp(instance));
    if place.ok().map(|index| &service.endpoints[index]) == endpoint.as_ref() {
        return false;
    }
    let endpoints = &mut Arc::make_mut(service).endpoints;
    match (place, endpoint) {
        (Ok(index), Some(endpoint)) => endpoints[index] = endpoint,
        (Ok(index), None) => drop(endpoints.remove(index)),
        (Err(index), Some(endpoint)) => endpoints.insert(index, endpoint),
        (Err(_), None) => {}
    }
    true
}

/// Whether an instance is balanced to: it serves, it shall go on, and its address is known.
pub(crate) fn is_endpoint(held: Held<'_>) -> bool {
    held.is_wanted() && held.is_serving() && held.observed().and_then(Observed::address).is_some()
}

/// A service's ports as the table shows them, sorted by name.
pub(crate) fn ports(spec: &WorkloadSpec) -> Vec<ServicePort> {
    let mut ports: Vec<ServicePort> = spec
        .ports
        .iter()
        .filter(|port| spec.shares_out(port))
        .map(|port| ServicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            service: port.service,
            container: port.container,
            publish: port.publish,
            http: port.http,
            bind: port.bind.clone(),
            allow: port.allow.clone(),
        })
        .collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports
}

/// `rule`: whether namespaces are closed to each other; `None`: everybody may ask everybody.
fn service(cluster: &Cluster, id: &WorkloadId, rule: Option<bool>) -> Option<Service> {
    let spec = cluster.workloads.get(id)?.spec();
    let by_ports_only = spec.container.network == NetworkMode::Published;
    let address = if by_ports_only {
        spec.is_balanced().then_some(Ipv4Addr::UNSPECIFIED)
    } else {
        cluster.addresses.get(id).filter(|_| has_address(spec)).copied()
    };
    let own_namespace = || vec![Source::Namespace(id.namespace.clone())];
    let access = rule.map(|isolate| Access {
        // Who comes in by a port of a node is admitted by that port.
        allow_from: spec.allow_from.clone().or_else(|| (isolate && !by_ports_only).then(own_namespace)),
        instances: addresses(cluster, id),
    });
    let Some(address) = address else {
        let nowhere = |access| Service {
            id: id.clone(),
            address: Ipv4Addr::UNSPECIFIED,
            ports: Vec::new(),
            balance: BalancePolicy::default(),
            endpoints: choice::endpoints(cluster, id),
            ipv6: false,
            across_sites: false,
            counts_requests: false,
            access: Some(access),
        };
        return access.map(nowhere);
    };
    Some(Service {
        id: id.clone(),
        address,
        ports: ports(spec),
        balance: spec.balance.policy.clone(),
        endpoints: choice::endpoints(cluster, id),
        ipv6: spec.ipv6,
        across_sites: spec.across_sites,
        counts_requests: spec.scale.as_ref().is_some_and(|scale| scale.requests.is_some()),
        access,
    })
}

/// The addresses of all instances that have one, sorted.
fn addresses(cluster: &Cluster, id: &WorkloadId) -> Vec<Ipv4Addr> {
    let mut addresses: Vec<Ipv4Addr> = cluster.instances_of(id).filter_map(|held| held.observed()?.address()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn peers(cluster: &Cluster) -> Vec<Peer> {
    let peers = cluster.nodes.values().filter_map(|node| {
        let facts = node.facts.as_ref()?;
        let NodeSpec { id, subnet, site, .. } = &node.spec;
        let spoken = cluster.site(site);
        Some(Peer {
            node: id.clone(),
            address: facts.address?,
            ipv6_address: facts.ipv6_address,
            subnet: *subnet,
            site: site.clone(),
            reach: spoken.reach,
            across: spoken.across,
            tunnel: facts.tunnel,
        })
    });
    peers.collect()
}
