//! Who may ask whose instances, as the table for all nodes says it.

use std::collections::BTreeMap;

use api_types::{
    access::Source,
    container::NetworkMode,
    id::{NodeId, WorkloadId},
    resources::Resources,
    service::Service,
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::{Settings, input::Change};

use crate::{fleet::Fleet, walk};

#[test]
fn namespaces_are_closed_to_each_other_only_where_the_cluster_says_so() {
    let mut open = fleet(false);
    let mut isolated = fleet(true);
    for fleet in [&mut open, &mut isolated] {
        apply(fleet, vec![service("shop/web"), service("shop/api"), service("bank/web")]);
    }

    assert_eq!(told(&open, "shop/web").access, None, "everybody may ask everybody");
    for (id, namespace) in [("shop/web", "shop"), ("shop/api", "shop"), ("bank/web", "bank")] {
        let access = told(&isolated, id).access.expect("who may ask is said");
        assert_eq!(access.allow_from, Some(vec![source(&format!("namespace:{namespace}"))]), "{id}");
        assert_eq!(access.instances.len(), 2, "{id}: by whose addresses the others know who asks");
    }
}

#[test]
fn what_a_workload_says_itself_goes_before_the_closed_namespaces() {
    let mut fleet = fleet(true);
    let saying = |id, allow: &[&str]| WorkloadSpec {
        allow_from: Some(allow.iter().map(|text| source(text)).collect()),
        ..service(id)
    };
    let by_ports = |id| {
        let mut spec = service(id);
        spec.container.network = NetworkMode::Published;
        spec
    };

    let all = vec![saying("shop/web", &["*"]), saying("shop/api", &["bank/web"]), by_ports("shop/page")];
    apply(&mut fleet, all);

    let allowed = |id| told(&fleet, id).access.expect("who may ask is said").allow_from;
    assert_eq!(allowed("shop/web"), Some(vec![Source::Everybody]));
    assert_eq!(allowed("shop/api"), Some(vec![source("bank/web")]));
    assert_eq!(allowed("shop/page"), None, "who comes by a port of a node is admitted by that port");
}

#[test]
fn one_workload_that_names_others_has_all_instances_named() {
    let mut fleet = fleet(false);
    apply(&mut fleet, vec![service("shop/web"), service("bank/web")]);
    let restricted = WorkloadSpec { allow_from: Some(vec![source("shop/web")]), ..service("bank/web") };

    apply(&mut fleet, vec![restricted]);
    let restricted = ["shop/web", "bank/web"].map(|id| told(&fleet, id).access.expect("who may ask is said"));
    apply(&mut fleet, vec![service("bank/web")]);

    assert_eq!(restricted.each_ref().map(|access| access.allow_from.is_some()), [false, true]);
    assert!(restricted.iter().all(|access| access.instances.len() == 2), "{restricted:?}");
    assert_eq!(told(&fleet, "shop/web").access, None, "nobody names anybody any more");
}

/// Two nodes of a cluster whose namespaces are closed to each other, or not.
fn fleet(isolate_namespaces: bool) -> Fleet {
    let mut fleet = Fleet::new(Settings { isolate_namespaces, ..Settings::default() });
    for name in ["a", "b"] {
        let node = NodeId::new(name).expect("a name");
        let capacity = Resources { cpu_millis: 16_000, memory_bytes: 16 << 30 };
        fleet.add_agent(&node, capacity, "amd64");
        let admit = Change::AdmitNode { node: node.clone(), site: "default".to_owned(), labels: BTreeMap::new() };
        fleet.request(admit).expect("a new node");
        fleet.connect(&node);
    }
    fleet
}

fn apply(fleet: &mut Fleet, specs: Vec<WorkloadSpec>) {
    fleet.request(Change::Apply { specs, expect: None }).expect("sound specs");
    assert!(fleet.settle());
}

fn service(id: &str) -> WorkloadSpec {
    WorkloadSpec { kind: WorkloadKind::Service { replicas: 2 }, ..walk::plain_service(id) }
}

fn source(text: &str) -> Source {
    text.parse().expect("a source")
}

/// What the table says of a workload.
fn told(fleet: &Fleet, id: &str) -> Service {
    let table = fleet.scheduler.service_table().expect("a table");
    let id: WorkloadId = id.parse().expect("an id");
    let service = table.services.iter().find(|service| service.id == id).expect("it is in the table");
    Service::clone(service)
}
