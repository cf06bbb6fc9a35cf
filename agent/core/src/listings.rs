//! The instances of this node that the service table lists. A table differs from the one before in a few services: only those
//! are read.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    service::{Service, ServiceTable},
};

/// Those of each service that lists some here. Who is only asked when nobody is ready does not count.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    /// What was read, sorted by id.
    services: Vec<Arc<Service>>,
    here: BTreeMap<WorkloadId, Vec<InstanceId>>,
}

impl Listings {
    /// Reads a table as this node.
    pub(crate) fn follow(&mut self, table: &ServiceTable, node: &NodeId) {
        let before = std::mem::replace(&mut self.services, table.services.clone());
        let mut before = before.iter().peekable();
        for service in &table.services {
            while let Some(gone) = before.next_if(|known| known.id < service.id) {
                self.here.remove(&gone.id);
            }
            let known = before.next_if(|known| known.id == service.id);
            if known.is_none_or(|known| !Arc::ptr_eq(known, service)) {
                self.read(service, node);
            }
        }
        for gone in before {
            self.here.remove(&gone.id);
        }
    }

    /// Whether the table lists an instance of this node.
    pub(crate) fn contains(&self, instance: &InstanceId) -> bool {
        self.here.values().any(|listed| listed.contains(instance))
    }

    fn read(&mut self, service: &Service, node: &NodeId) {
        let here = service.endpoints.iter().filter(|endpoint| endpoint.node == *node && !endpoint.last_resort);
        let here: Vec<InstanceId> = here.map(|endpoint| endpoint.instance.clone()).collect();
        if here.is_empty() {
            self.here.remove(&service.id);
        } else {
            self.here.insert(service.id.clone(), here);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use api_types::{
        balance::BalancePolicy,
        counter::{Epoch, Generation},
        service::Endpoint,
    };

    use super::*;

    fn service(id: &str, instances: &[(&str, &str)]) -> Arc<Service> {
        let endpoint = |(instance, node): &(&str, &str)| {
            let instance = InstanceId::new(instance).expect("a name");
            Endpoint::new(instance, NodeId::new(node).expect("a name"), Ipv4Addr::new(10, 42, 1, 2))
        };
        Arc::new(Service {
            id: id.parse().expect("a name"),
            address: Ipv4Addr::new(10, 43, 0, 1),
            ports: Vec::new(),
            balance: BalancePolicy::default(),
            endpoints: instances.iter().map(endpoint).collect(),
            ipv6: false,
            across_sites: false,
            access: None,
            counts_requests: false,
        })
    }

    fn table(services: &[&Arc<Service>]) -> ServiceTable {
        ServiceTable {
            epoch: Epoch(1),
            generation: Generation(1),
            cluster_range: "10.42.0.0/16".parse().expect("a range"),
            service_range: "10.43.0.0/16".parse().expect("a range"),
            ipv6_prefix: None,
            services: services.iter().map(|service| (*service).clone()).collect(),
            peers: Vec::new().into(),
            watch_key: None,
        }
    }

    #[test]
    fn one_table_after_the_other_is_read_as_if_it_were_the_first() {
        let (api, web) =
            (service("api", &[("api-1", "here")]), service("web", &[("web-1", "here"), ("web-2", "there")]));
        let (db, moved) =
            (service("db", &[("db-1", "here")]), service("web", &[("web-2", "here"), ("web-3", "there")]));
        let tables: [&[&Arc<Service>]; 6] =
            [&[&api, &web], &[&api, &db, &web], &[&db, &moved], &[&moved], &[], &[&web]];
        let (node, mut followed) = (NodeId::new("here").expect("a name"), Listings::default());

        for services in tables {
            let mut fresh = Listings::default();
            fresh.follow(&table(services), &node);
            followed.follow(&table(services), &node);

            assert_eq!(followed.here, fresh.here, "{services:?}");
        }
        assert!(followed.contains(&InstanceId::new("web-1").expect("a name")));
        assert!(!followed.contains(&InstanceId::new("web-2").expect("a name")), "it is on another node");
    }

    #[test]
    fn who_is_asked_only_where_nobody_is_ready_is_not_listed() {
        let mut last = Service::clone(&service("web", &[("web-1", "here")]));
        last.endpoints[0].last_resort = true;
        let mut listings = Listings::default();

        listings.follow(&table(&[&Arc::new(last)]), &NodeId::new("here").expect("a name"));

        assert!(!listings.contains(&InstanceId::new("web-1").expect("a name")));
    }
}
