//! Workloads: what shall run, how many, under which rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    access::Source,
    balance::BalanceSpec,
    companion::CompanionSpec,
    container::{ContainerSpec, Mount, NetworkMode, PortSpec},
    counter::Revision,
    dependency::Dependency,
    device::DeviceRequest,
    disconnect::DisconnectPolicy,
    id::{Name, WorkloadId},
    job::JobSpec,
    placement::PlacementSpec,
    probe::ProbeSpec,
    resources::{ResourceSpec, Resources},
    restart::RestartSpec,
    rollout::UpdateSpec,
    scale::ScaleSpec,
    schedule::ScheduleSpec,
    time::Timestamp,
};

/// The most replicas of one service.
pub const REPLICAS_MAX: u32 = 1_000_000;

/// What a person asked for. The system never writes to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Its namespace and name.
    pub id: WorkloadId,
    /// How many, and where.
    pub kind: WorkloadKind,
    /// What each instance runs.
    pub container: ContainerSpec,
    /// What its main container gets.
    pub resources: ResourceSpec,
    /// The containers beside the main one: init steps in the order in which they run, then sidecars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<CompanionSpec>,
    /// What each instance waits for before its first process is started, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Dependency>,
    /// The bytes that its volumes are meant to hold at most, by name: people are told of one that holds more, and nothing stops it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volume_sizes: BTreeMap<Name, u64>,
    /// The devices each instance gets.
    #[serde(default)]
    pub devices: Vec<DeviceRequest>,
    /// Where instances go.
    pub placement: PlacementSpec,
    /// The ports; names and numbers are unique within the workload.
    pub ports: Vec<PortSpec>,
    /// How a service's connections are shared out.
    #[serde(default, skip_serializing_if = "BalanceSpec::is_default")]
    pub balance: BalanceSpec,
    /// How health is asked for; `None`: running is healthy.
    pub probe: Option<ProbeSpec>,
    /// When its process is started again though it runs, and when another node shall try.
    #[serde(default, skip_serializing_if = "RestartSpec::is_default")]
    pub restart: RestartSpec,
    /// How its changes are rolled out, and judged; `None`: a tenth at a time, and nobody judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateSpec>,
    /// By what the number of a service's replicas is decided; `None`: by people. Else its kind names the fewest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleSpec>,
    /// When a job runs by itself; `None`: when it is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleSpec>,
    /// What to do about silence.
    pub disconnect: DisconnectPolicy,
    /// Whether it also answers by IPv6: its process listens on `::`, and clients may find that address first. Of a daemon: whether
    /// its host ports do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ipv6: bool,
    /// Whether a service also answers to sites that are reached by a tunnel; then all its ports are TCP.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub across_sites: bool,
    /// Which other workloads may ask its instances; `None`: what the cluster's policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_from: Option<Vec<Source>>,
}

impl WorkloadSpec {
    /// So many replicas of an image. All else is the default: what [`ResourceSpec::default`] promises, no devices, spread
    /// over sites and then nodes, no ports, no probe (running is healthy), replaced after ten seconds of silence.
    #[must_use]
    pub fn service(id: WorkloadId, image: impl Into<String>, replicas: u32) -> Self {
        Self::of_kind(id, WorkloadKind::Service { replicas }, ContainerSpec::of_image(image))
    }

    /// An image on every node. All else is as in [`WorkloadSpec::service`].
    #[must_use]
    pub fn daemon(id: WorkloadId, image: impl Into<String>) -> Self {
        Self::of_kind(id, WorkloadKind::Daemon, ContainerSpec::of_image(image))
    }

    /// A job that runs an image once. All else is as in [`WorkloadSpec::service`].
    #[must_use]
    pub fn job(id: WorkloadId, image: impl Into<String>, job: JobSpec) -> Self {
        Self::of_kind(id, WorkloadKind::Job(job), ContainerSpec::of_image(image))
    }

    /// A workload of which only this is said; all else is as in [`WorkloadSpec::service`].
    #[must_use]
    pub fn of_kind(id: WorkloadId, kind: WorkloadKind, container: ContainerSpec) -> Self {
        Self {
            id,
            kind,
            container,
            resources: ResourceSpec::default(),
            companions: Vec::new(),
            after: Vec::new(),
            volume_sizes: BTreeMap::new(),
            devices: Vec::new(),
            placement: PlacementSpec::default(),
            ports: Vec::new(),
            balance: BalanceSpec::default(),
            probe: None,
            restart: RestartSpec::default(),
            update: None,
            scale: None,
            schedule: None,
            disconnect: DisconnectPolicy::default(),
            ipv6: false,
            across_sites: false,
            allow_from: None,
        }
    }

    /// Whether an instance of `other` can go on as one of this spec: only the count, the placement rules, the way of
    /// rolling out, the balancing of ports, and texts that may change under it differ, not what runs.
    #[must_use]
    pub fn runs_the_same_as(&self, other: &Self) -> bool {
        let ports = |spec: &Self| -> Vec<_> {
            // Where a published port answers, and whom, is the table's business; of a host port it is the instance's.
            let guard = |port: &PortSpec| port.host.map(|_| (port.bind.clone(), port.allow.clone(), spec.ipv6));
            spec.ports.iter().map(|port| (port.container, port.protocol, port.host, guard(port))).collect()
        };
        self.kind.runs_the_same_as(&other.kind)
            && self.container.runs_the_same_as(&other.container)
            && self.resources == other.resources
            && self.companions == other.companions
            && self.after == other.after
            && self.devices == other.devices
            && self.probe == other.probe
            && self.restart == other.restart
            // Its node must know when it ends it, so the copy that knows another time is replaced.
            && self.disconnect.stop_after_ms == other.disconnect.stop_after_ms
            && ports(self) == ports(other)
    }

    /// Whether nodes share out connections to its instances, and so are told how these are.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        matches!(self.kind, WorkloadKind::Service { .. }) && self.ports.iter().any(|port| self.shares_out(port))
    }

    /// Whether a port of a service leads to all of its instances: the port of its address, or of every node.
    #[must_use]
    pub fn shares_out(&self, port: &PortSpec) -> bool {
        port.publish.is_some() || self.container.network != NetworkMode::Published
    }

    /// All containers of an instance, the main one first.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        std::iter::once(&self.container).chain(self.companions.iter().map(|companion| &companion.container))
    }

    /// All that is mounted into containers of an instance.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.containers().flat_map(|container| container.mounts.values())
    }

    /// What each instance is promised: what its main container and its sidecars are, or an init step if that is more, as
    /// steps run alone.
    #[must_use]
    pub fn reserve(&self) -> Resources {
        let (steps, sidecars): (Vec<_>, Vec<_>) = self.companions.iter().partition(|companion| companion.is_init());
        let sum = sidecars.iter().fold(self.resources.reserve, |sum, sidecar| {
            let reserve = sidecar.resources.reserve;
            Resources {
                cpu_millis: sum.cpu_millis.saturating_add(reserve.cpu_millis),
                memory_bytes: sum.memory_bytes.saturating_add(reserve.memory_bytes),
            }
        });
        steps.iter().map(|step| step.resources.reserve).fold(sum, |most, step| Resources {
            cpu_millis: most.cpu_millis.max(step.cpu_millis),
            memory_bytes: most.memory_bytes.max(step.memory_bytes),
        })
    }
}

/// The kind of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkloadKind {
    /// N replicas behind one address.
    Service {
        /// The number wanted.
        replicas: u32,
    },
    /// One instance on each node that meets the constraints.
    Daemon,
    /// Instances that run until they are done.
    Job(JobSpec),
}

impl WorkloadKind {
    /// Whether an instance of `other` can go on as one of this kind.
    fn runs_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Job(job), Self::Job(other)) => job.runs_the_same_as(other),
            (Self::Service { .. } | Self::Daemon | Self::Job(_), _) => true,
        }
    }
}

/// A workload as the scheduler keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// What was asked for.
    pub spec: WorkloadSpec,
    /// Version of the spec.
    pub revision: Revision,
    /// Revision at which what runs last changed; instances of an older one are to be replaced.
    pub runs_since: Revision,
    /// When this revision was applied.
    pub applied_at: Timestamp,
}
