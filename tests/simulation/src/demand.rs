//! The people: they apply, scale and delete workloads and drain nodes, one wish after another, until each is answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api_types::{
    container::{ContainerSpec, PortSpec, Protocol},
    counter::RequestId,
    id::WorkloadId,
    node::Availability,
    placement::{Constraint, ConstraintKey, Operator},
    probe::{ProbeCheck, ProbeSpec},
    resources::{ResourceSpec, Resources},
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler_core::{
    effect::Refusal,
    input::{Change, Input},
};

use crate::{
    event::{Event, NodeIndex, Wish},
    world::World,
};

/// Milliseconds after which a person asks again.
const PATIENCE_MS: u64 = 4000;

/// What people want, and what they were told.
#[derive(Debug, Default)]
pub struct Demand {
    /// What is wanted, as of the last wish that was uttered.
    pub wanted: BTreeMap<WorkloadId, WorkloadSpec>,
    /// Wishes that wait for their turn.
    pub queue: VecDeque<Wish>,
    /// The wish that waits for its answer.
    pub asked: Option<(RequestId, Wish)>,
    /// Nodes that were removed and did not join again yet.
    pub removed: BTreeSet<NodeIndex>,
    /// How many wishes were granted.
    pub granted: u64,
    requests: u64,
    /// Counts services that were ever made.
    services: u64,
}

impl World {
    /// Queues what makes a cluster: its nodes, and the first workloads.
    pub fn want_cluster(&mut self) {
        for node in 0..self.nodes.len() {
            self.demand.queue.push_back(Wish::Admit(node));
        }
        for daemon in ["collector", "watcher"] {
            let spec = self.daemon(daemon);
            self.demand.queue.push_back(Wish::Apply(Box::new(spec)));
        }
        for _ in 0..(self.nodes.len() / 10).clamp(3, 30) {
            let spec = self.service();
            self.demand.queue.push_back(Wish::Apply(Box::new(spec)));
        }
        self.ask();
    }

    /// A person wants something new.
    pub fn want(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.random.between(500, 20_000);
        self.after(pause, Event::Demand);
        let known: Vec<WorkloadId> = self.demand.wanted.keys().cloned().collect();
        if known.is_empty() {
            return;
        }
        let chosen = known[self.random.index(known.len())].clone();
        let spec = self.demand.wanted[&chosen].clone();
        let is_service = matches!(spec.kind, WorkloadKind::Service { .. });
        let replicas = u32::try_from(self.random.between(0, 30)).expect("small");
        let wish = match self.random.between(0, 10) {
            0 | 1 if is_service => Wish::Scale(chosen, replicas),
            2 | 3 => Wish::Apply(Box::new(self.changed(spec))),
            4 if is_service && known.len() > 5 => Wish::Delete(chosen),
            5 => Wish::Apply(Box::new(spec)),
            8 if self.random.per_mille(300) => {
                let node = self.random.index(self.nodes.len());
                let away_ms = self.random.between(1000, 60_000);
                self.after(away_ms, Event::Rejoin(node));
                self.demand.removed.insert(node);
                Wish::Remove(node)
            }
            6 | 7 => {
                let node = self.random.index(self.nodes.len());
                let drains = self.random.per_mille(500);
                let for_ms = self.random.between(5000, 60_000);
                self.after(for_ms, Event::Uncordon(node));
                Wish::Availability(node, if drains { Availability::Draining } else { Availability::Cordoned })
            }
            _ if known.len() < 40 => {
                let spec = self.service();
                Wish::Apply(Box::new(spec))
            }
            _ => return,
        };
        self.demand.queue.push_back(wish);
        self.ask();
    }

    /// A node takes instances again.
    pub fn uncordon(&mut self, node: NodeIndex) {
        self.demand.queue.push_back(Wish::Availability(node, Availability::Active));
        self.ask();
    }

    /// A node that was forgotten joins again.
    pub fn rejoin(&mut self, node: NodeIndex) {
        if !self.calm && self.demand.removed.contains(&node) {
            self.demand.queue.push_back(Wish::Admit(node));
            self.ask();
        }
    }

    /// Utters the next wish, if none waits for its answer.
    pub fn ask(&mut self) {
        if self.demand.asked.is_some() {
            return;
        }
        let Some(wish) = self.demand.queue.pop_front() else { return };
        match &wish {
            Wish::Apply(spec) => {
                self.demand.wanted.insert(spec.id.clone(), (**spec).clone());
            }
            Wish::Scale(workload, replicas) => {
                if let Some(spec) = self.demand.wanted.get_mut(workload) {
                    spec.kind = WorkloadKind::Service { replicas: *replicas };
                }
            }
            Wish::Delete(workload) => {
                self.demand.wanted.remove(workload);
            }
            Wish::Admit(_) | Wish::Remove(_) | Wish::Availability(..) => {}
        }
        self.utter(wish);
    }

    /// The scheduler answered.
    pub fn replied(&mut self, request: RequestId, outcome: &Result<(), Refusal>) {
        let Some((_, wish)) = self.demand.asked.take_if(|(asked, _)| *asked == request) else { return };
        let in_order = match (outcome, &wish) {
            (Ok(()), _) => true,
            // The wish before was granted, and its answer lost; or its workload is gone since.
            (Err(Refusal::UnknownWorkload(_)), Wish::Delete(_) | Wish::Scale(..)) => true,
            (Err(Refusal::UnknownNode(_)), Wish::Remove(_) | Wish::Availability(..)) => true,
            (Err(_), _) => false,
        };
        if !in_order {
            self.fail(format!("{wish:?} was refused: {outcome:?}"));
        }
        self.demand.granted += 1;
        if let Wish::Admit(node) = wish {
            self.demand.removed.remove(&node);
            if std::mem::replace(&mut self.nodes[node].joined, true) {
                // Whoever joins starts with an empty disk; what ran goes on.
                self.crash_agent(node);
                self.nodes[node].disk = (None, None);
                self.after(500, Event::AgentStart(node));
            }
            let pause = self.random.between(0, 3000);
            self.after(pause, Event::PowerOn(node));
        }
        self.ask();
    }

    /// A request was not answered in time: it is made again.
    pub fn demand_timeout(&mut self, request: u64) {
        if let Some((_, wish)) = self.demand.asked.take_if(|(asked, _)| asked.0 == request) {
            self.utter(wish);
        }
    }

    fn utter(&mut self, wish: Wish) {
        self.demand.requests += 1;
        let request = RequestId(self.demand.requests);
        self.note(&format!("person: request {request}, {}", describe(&wish)));
        self.causes.wish(self.now, &wish, &self.nodes, &self.scheduler);
        let node_id = |node: NodeIndex| self.nodes[node].id.clone();
        let change = match wish.clone() {
            Wish::Admit(node) => Change::AdmitNode {
                node: node_id(node),
                site: format!("site-{}", self.nodes[node].site),
                labels: BTreeMap::from([("disk".to_owned(), if node % 3 == 0 { "ssd" } else { "sd" }.to_owned())]),
            },
            Wish::Apply(spec) => Change::Apply { specs: vec![*spec], expect: None },
            Wish::Scale(workload, replicas) => Change::Scale { workload, replicas },
            Wish::Delete(workload) => Change::Delete { workload },
            Wish::Remove(node) => Change::RemoveNode { node: node_id(node), force: true },
            Wish::Availability(node, availability) => Change::SetAvailability { node: node_id(node), availability },
        };
        self.demand.asked = Some((request, wish));
        self.after(PATIENCE_MS, Event::DemandTimeout { request: request.0 });
        self.step_scheduler(Input::Request { request, change });
    }

    fn service(&mut self) -> WorkloadSpec {
        self.demand.services += 1;
        let name = format!("service-{}", self.demand.services);
        let replicas = u32::try_from(self.random.between(1, 25)).expect("small");
        let mut spec = self.spec(&name, WorkloadKind::Service { replicas });
        if self.random.per_mille(300) {
            spec.placement.constraints.push(equal(ConstraintKey::Arch, "amd64"));
        }
        if self.random.per_mille(100) {
            spec.disconnect.replace_after_ms = None;
        }
        if self.random.per_mille(150) {
            spec.ports[0].host = Some(20_000 + u16::try_from(self.demand.services).expect("few services"));
        }
        if self.random.per_mille(150) {
            spec.placement.per_node_max = Some(u32::try_from(self.random.between(1, 3)).expect("small"));
        }
        spec
    }

    fn daemon(&mut self, name: &str) -> WorkloadSpec {
        let mut spec = self.spec(name, WorkloadKind::Daemon);
        if name == "watcher" {
            spec.placement.constraints.push(equal(ConstraintKey::Label("disk".to_owned()), "ssd"));
        }
        spec
    }

    /// The same with another image.
    fn changed(&mut self, mut spec: WorkloadSpec) -> WorkloadSpec {
        spec.container.image = format!("registry.lan/{}:{}", spec.id.name, self.random.between(2, 9));
        spec
    }

    fn spec(&mut self, name: &str, kind: WorkloadKind) -> WorkloadSpec {
        let probe = ProbeSpec {
            check: ProbeCheck::Tcp { port: 8080 },
            interval_ms: 2000,
            timeout_ms: 1000,
            failures: 2,
            grace_ms: 5000,
        };
        let port = PortSpec {
            name: "http".to_owned(),
            container: 8080,
            protocol: Protocol::Tcp,
            service: 80,
            publish: None,
            host: None,
        };
        let container =
            ContainerSpec { stop_grace_ms: 5000, ..ContainerSpec::of_image(format!("registry.lan/{name}:1")) };
        WorkloadSpec {
            ports: if kind == WorkloadKind::Daemon { Vec::new() } else { vec![port] },
            resources: ResourceSpec {
                reserve: Resources { cpu_millis: 20, memory_bytes: 16 << 20 },
                ..ResourceSpec::default()
            },
            probe: self.random.per_mille(400).then_some(probe),
            ..WorkloadSpec::of_kind(name.parse().expect("a name"), kind, container)
        }
    }
}

fn equal(key: ConstraintKey, value: &str) -> Constraint {
    Constraint { key, operator: Operator::Equal, values: vec![value.to_owned()] }
}

fn describe(wish: &Wish) -> String {
    match wish {
        Wish::Admit(node) => format!("admit edge-{node}"),
        Wish::Remove(node) => format!("remove edge-{node}"),
        Wish::Apply(spec) => format!("apply {} {:?} {}", spec.id, spec.kind, spec.container.image),
        Wish::Scale(workload, replicas) => format!("scale {workload} to {replicas}"),
        Wish::Delete(workload) => format!("delete {workload}"),
        Wish::Availability(node, availability) => format!("edge-{node} shall be {availability:?}"),
    }
}
