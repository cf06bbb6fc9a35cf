//! A scheduler's core with its store, as the control loop drives them: a batch is stepped, made durable, then seen.
//!
//! The time stands still: what is measured is work, and no node falls silent meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use api_types::{
    container::ContainerSpec,
    counter::{RequestId, SessionId},
    id::NodeId,
    net::Cidr,
    node::{Availability, NodeFacts, NodeSpec},
    resources::Resources,
    time::Timestamp,
    workload::{WorkloadKind, WorkloadSpec},
};
use scheduler::store::{CORE_PREFIX, Pending, Store};
use scheduler_core::{
    Scheduler, Settings,
    effect::{Effect, Effects, Record},
    input::{Change, Input},
};

use crate::Result;

/// For so long one batch ticks again and again; as in the control loop.
const TICKS: Duration = Duration::from_millis(20);

/// What time it is.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The session of every node.
pub(crate) const SESSION: SessionId = SessionId(1);

pub(crate) struct Cluster {
    pub(crate) scheduler: Scheduler,
    store: Store,
    pub(crate) state: State,
    pending: Pending,
    effects: Effects,
    /// Nodes whose set differs, and which were not told yet.
    pub(crate) changed: BTreeSet<NodeId>,
}

/// A folder for a store, removed at the end.
pub(crate) struct State(pub(crate) PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        // What stays lies in the target folder.
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Cluster {
    /// A cluster with so many ready nodes, and nothing on them.
    pub(crate) fn new(purpose: &str, nodes: u32) -> Result<Self> {
        let state = State(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("scale-{purpose}")));
        fs::remove_dir_all(&state.0).ok();
        let mut pending = Pending::default();
        for index in 0..nodes {
            pending.persist(Box::new(Record::Node(node_spec(index)?)));
        }
        Store::create(&state.0, &pending.take())?;
        let mut this = Self::open(state)?;
        for index in 0..nodes {
            let node = node_id(index)?;
            this.step(Input::SessionOpened { node: node.clone(), session: SESSION, facts: facts(index) });
            let nothing = (Vec::new(), Vec::new());
            this.step(Input::Reported { node, session: SESSION, statuses: nothing.0, gone: nothing.1, complete: true });
        }
        this.commit()?;
        Ok(this)
    }

    /// The cluster that a store holds, just started.
    pub(crate) fn open(state: State) -> Result<Self> {
        let (mut store, loaded) = Store::open(&state.0)?;
        let epoch = store.next_epoch(&loaded)?;
        let records: Vec<Record> = loaded.below::<Record>(CORE_PREFIX)?.into_values().collect();
        drop(loaded);
        let scheduler = Scheduler::recover(settings(), epoch, records, NOW);
        let (pending, effects, changed) = Default::default();
        Ok(Self { scheduler, store, state, pending, effects, changed })
    }

    /// Ends the scheduler; what is durable stays.
    pub(crate) fn close(self) -> State {
        self.state
    }

    /// Applies workloads; an error is a refusal.
    pub(crate) fn apply(&mut self, specs: Vec<WorkloadSpec>) -> Result<()> {
        let change = Change::Apply { specs, expect: None };
        self.scheduler.step(
            NOW,
            Input::Request { request: RequestId(1), by: String::new(), change },
            &mut self.effects,
        );
        let refused = self.effects.iter().find_map(|effect| match effect {
            Effect::Reply { outcome: Err(refusal), .. } => Some(refusal.to_string()),
            Effect::Reply { outcome: Ok(_), .. } | Effect::Persist(_) | Effect::Forget(_) => None,
            Effect::AssignmentsChanged(_) | Effect::ServicesChanged | Effect::NodeRemoved(_) => None,
        });
        self.collect();
        refused.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// One input of a batch.
    pub(crate) fn step(&mut self, input: Input) {
        self.scheduler.step(NOW, input, &mut self.effects);
        self.collect();
    }

    /// Ticks while something is due, as long as a batch may; whether more is due.
    pub(crate) fn tick(&mut self) -> bool {
        let began = Instant::now();
        while self.is_due() {
            if began.elapsed() >= TICKS {
                return true;
            }
            self.step(Input::Tick);
        }
        false
    }

    /// Whether a tick is due.
    pub(crate) fn is_due(&self) -> bool {
        self.scheduler.next_deadline().is_some_and(|(due, _)| due <= NOW)
    }

    /// Makes the batch durable.
    pub(crate) fn commit(&mut self) -> Result<()> {
        let writes = self.pending.take();
        if !writes.is_empty() {
            self.store.commit(&writes)?;
        }
        Ok(())
    }

    /// How many instances the nodes hold.
    pub(crate) fn placed(&self) -> u64 {
        self.scheduler.node_views().iter().map(|node| u64::from(node.instances)).sum()
    }

    fn collect(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Persist(record) => self.pending.persist(record),
                Effect::Forget(key) => self.pending.forget(key),
                Effect::AssignmentsChanged(node) => {
                    self.changed.insert(node);
                }
                Effect::Reply { .. } | Effect::ServicesChanged | Effect::NodeRemoved(_) => {}
            }
        }
    }
}

/// As an operator of so many nodes sets it: a wide range of addresses, else the defaults.
pub(crate) fn settings() -> Settings {
    Settings { cluster_range: Cidr { address: [10, 0, 0, 0].into(), prefix: 8 }, ..Settings::default() }
}

/// Workloads without ports, so that no service table is made: it would name every instance to every node.
pub(crate) fn services(count: u32, replicas: u32) -> Result<Vec<WorkloadSpec>> {
    let service = |index| -> Result<WorkloadSpec> {
        let container = ContainerSpec::of_image(format!("registry.lan/shop/service-{index:04}:1.4.2"));
        let id = format!("service-{index:04}").parse()?;
        Ok(WorkloadSpec::of_kind(id, WorkloadKind::Service { replicas }, container))
    };
    (0..count).map(service).collect()
}

pub(crate) fn node_id(index: u32) -> Result<NodeId> {
    Ok(NodeId::new(&format!("edge-{index:05}"))?)
}

fn node_spec(index: u32) -> Result<NodeSpec> {
    // The first subnet is left out, as the scheduler does.
    let subnet =
        Cidr { address: (u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) + ((index + 1) << 8)).into(), prefix: 24 };
    Ok(NodeSpec {
        id: node_id(index)?,
        site: format!("site-{:02}", index % 50),
        labels: BTreeMap::new(),
        availability: Availability::Active,
        subnet,
        joined_at: NOW,
    })
}

pub(crate) fn facts(index: u32) -> NodeFacts {
    NodeFacts {
        arch: "amd64".to_owned(),
        os: "linux".to_owned(),
        capacity: Resources { cpu_millis: 16_000, memory_bytes: 16 << 30 },
        address: Some((u32::from(std::net::Ipv4Addr::new(172, 16, 0, 0)) + index).into()),
        ipv6_address: None,
        tunnel: None,
        boot_id: "1".to_owned(),
        cgroup_version: 2,
        ..NodeFacts::default()
    }
}
