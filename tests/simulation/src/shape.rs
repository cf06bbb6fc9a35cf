//! A workload as a story tells it: a few words, from which the whole spec follows.

mod bad;
mod scaled;
mod stays;
mod text;
mod work;

pub use bad::Bad;
pub use scaled::Scaled;
pub use stays::Stays;
pub use work::Work;

use api_types::{
    companion::{CompanionRole, CompanionSpec},
    container::{ContainerSpec, Mount, PortSpec, Protocol},
    device::{DeviceAmount, DeviceRequest},
    id::{Name, WorkloadId},
    placement::{Affinity, Constraint, ConstraintKey, Domain, Operator, Priority, Relation, Spread},
    probe::{ProbeCheck, ProbeSpec},
    resources::{ResourceSpec, Resources},
    rollout::{Share, UpdateSpec},
    workload::{WorkloadKind, WorkloadSpec},
};

/// Part of the image's name of a workload whose processes fail at once, as long as there are faults.
pub const FLAPS: &str = "/flaps/";

/// The name of the volume of those that have data that stays.
pub const VOLUME: &str = "data";

/// What a workload of the simulation may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// How many; `None` = a daemon or a job.
    pub replicas: Option<u32>,
    /// Between which numbers it is scaled; then `replicas` is how many it has at first.
    pub scaled: Option<Scaled>,
    /// What it has to do, if it is a job.
    pub work: Option<Work>,
    /// How many init steps it has.
    pub steps: u8,
    /// How many sidecars it has.
    pub sidecars: u8,
    /// Which version of its image.
    pub version: u64,
    /// What is reserved: thousandths of a CPU.
    pub cpu_millis: u64,
    /// What is reserved: MiB of memory.
    pub memory_mib: u64,
    /// The only architecture it may be on.
    pub arch: Option<String>,
    /// The only kind of disk it may be beside.
    pub disk: Option<String>,
    /// The lowest tier it may be on.
    pub tier: Option<u32>,
    /// A port of its nodes.
    pub host_port: Option<u16>,
    /// Most of its instances on one node.
    pub per_node: Option<u32>,
    /// A device that each of its instances has.
    pub device: Option<Wanted>,
    /// A workload without which it is not in a place.
    pub with: Option<Company>,
    /// A workload which it shuns.
    pub without: Option<Company>,
    /// What it is even over, whatever that costs.
    pub even: Option<Even>,
    /// Who goes first.
    pub priority: Option<Urgency>,
    /// Whether it is spread over racks before all else.
    pub racks: bool,
    /// Whether it has data that stays.
    pub volume: bool,
    /// Whether its health is probed.
    pub probe: bool,
    /// Whether what falls silent is never replaced.
    pub never_replaced: bool,
    /// Whether its processes fail at once.
    pub flaps: bool,
    /// What is wrong with this version of its image.
    pub bad: Option<Bad>,
    /// Whether no two of a slot run at once.
    pub exclusive: bool,
    /// Who stays when a node returns whose instance was replaced, if the workload says so.
    pub stays: Option<Stays>,
    /// Whether its changes are judged, and taken back if they do not work.
    pub judged: bool,
}

/// What an instance has of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A camera for itself.
    Camera,
    /// One share of a GPU.
    GpuShare,
    /// So many thousandths of a GPU.
    GpuMillis(u32),
}

/// Another workload, and what counts as one place with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// The other one.
    pub workload: String,
    /// Where it is together or apart with it.
    pub within: Place,
}

/// A hard rule of evenness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Even {
    /// Over what.
    pub over: Place,
    /// By how many instances the fullest may exceed the emptiest.
    pub skew: u32,
}

/// What nodes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// They are one.
    Node,
    /// The site.
    Site,
    /// The label `rack`.
    Rack,
}

/// How urgent a workload is that is not as urgent as most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// After all others.
    Low,
    /// Before most.
    High,
    /// Before all others.
    Critical,
}

impl Shape {
    /// The least that can be said.
    #[must_use]
    pub fn new(name: &str, replicas: Option<u32>) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            scaled: None,
            work: None,
            steps: 0,
            sidecars: 0,
            version: 1,
            cpu_millis: 20,
            memory_mib: 16,
            arch: None,
            disk: None,
            tier: None,
            host_port: None,
            per_node: None,
            device: None,
            with: None,
            without: None,
            even: None,
            priority: None,
            racks: false,
            volume: false,
            probe: false,
            never_replaced: false,
            flaps: false,
            bad: None,
            exclusive: false,
            stays: None,
            judged: false,
        }
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn id(&self) -> WorkloadId {
        self.name.parse().expect("stories use plain names")
    }

    /// All that a person would write.
    #[must_use]
    pub fn spec(&self) -> WorkloadSpec {
        let kind = match (self.work, self.replicas) {
            (Some(work), _) => WorkloadKind::Job(work.spec()),
            (None, Some(replicas)) => WorkloadKind::Service { replicas },
            (None, None) => WorkloadKind::Daemon,
        };
        let folder = if self.flaps { FLAPS } else { "/" };
        let bad = self.bad.map_or(String::new(), |bad| format!("/{bad}"));
        let image = format!("registry.lan{bad}{folder}{}:{}", self.name, self.version);
        let container = ContainerSpec { stop_grace_ms: 5000, ..ContainerSpec::of_image(image) };
        let mut spec = WorkloadSpec::of_kind(self.id(), kind, container);
        spec.resources = ResourceSpec {
            reserve: Resources { cpu_millis: self.cpu_millis, memory_bytes: self.memory_mib << 20 },
            memory_bytes_max: 2 << 30,
            ..ResourceSpec::default()
        };
        if self.replicas.is_some() {
            spec.ports.push(PortSpec {
                name: "http".to_owned(),
                container: 8080,
                protocol: Protocol::Tcp,
                service: 80,
                publish: None,
                http: false,
                host: self.host_port,
                bind: None,
                allow: Vec::new(),
            });
        }
        if self.volume {
            let mount = Mount::Volume { name: volume(), read_only: false };
            spec.container.mounts.insert("/data".to_owned(), mount);
        }
        spec.devices.extend(self.device.map(Wanted::request));
        spec.probe = self.probe.then_some(ProbeSpec {
            check: ProbeCheck::Tcp { port: 8080 },
            interval_ms: 2000,
            timeout_ms: 1000,
            failures: 2,
            successes: 1,
            grace_ms: 5000,
        });
        spec.update = self.judged.then(|| UpdateSpec {
            healthy_for_ms: 5_000,
            deadline_ms: 120_000,
            parallel: Some(Share::Percent(25)),
            ..UpdateSpec::default()
        });
        if self.never_replaced {
            spec.disconnect.replace_after_ms = None;
        }
        spec.disconnect.on_return = self.stays.map(Stays::on_return);
        spec.scale = self.scaled.map(Scaled::spec);
        self.add_companions(&mut spec);
        if self.exclusive {
            spec.disconnect.stop_after_ms = Some(6_000);
            spec.disconnect.replace_after_ms = spec.disconnect.replace_after_ms.and(spec.fenced_after_ms());
        }
        self.add_rules(&mut spec);
        spec
    }

    /// What is beside its main container.
    fn add_companions(&self, spec: &mut WorkloadSpec) {
        let roles = [(CompanionRole::Init, self.steps), (CompanionRole::Sidecar, self.sidecars)];
        for (role, count) in roles {
            spec.companions.extend((0..count).map(|number| CompanionSpec {
                name: format!("{}-{number}", role.as_str()).parse().expect("it is a name"),
                role,
                container: ContainerSpec {
                    stop_grace_ms: 2000,
                    ..ContainerSpec::of_image(spec.container.image.clone())
                },
                resources: ResourceSpec {
                    reserve: Resources { cpu_millis: 10, memory_bytes: 8 << 20 },
                    ..ResourceSpec::default()
                },
            }));
        }
    }

    /// Where it may be and shall be.
    fn add_rules(&self, spec: &mut WorkloadSpec) {
        let label = |name: &str| ConstraintKey::Label(name.to_owned());
        let placement = &mut spec.placement;
        placement.constraints.extend(self.arch.iter().map(|arch| equal(ConstraintKey::Arch, arch)));
        placement.constraints.extend(self.disk.iter().map(|disk| equal(label("disk"), disk)));
        placement.constraints.extend(self.tier.map(|tier| Constraint {
            key: label("tier"),
            operator: Operator::AtLeast,
            values: vec![tier.to_string()],
        }));
        if self.racks {
            placement.spread.insert(0, Spread::soft(Place::Rack.domain()));
        }
        if let Some(Even { over, skew }) = self.even {
            let over = over.domain();
            placement.spread.retain(|rule| rule.over != over);
            placement.spread.insert(0, Spread { over, skew_max: Some(skew) });
        }
        placement.per_node_max = self.per_node;
        placement.affinities.extend(self.with.iter().map(|company| company.rule(Relation::With)));
        placement.affinities.extend(self.without.iter().map(|company| company.rule(Relation::Without)));
        placement.priority = match self.priority {
            None => Priority::Normal,
            Some(Urgency::Low) => Priority::Low,
            Some(Urgency::High) => Priority::High,
            Some(Urgency::Critical) => Priority::Critical,
        };
    }
}

/// The volume of those that have data that stays.
#[must_use]
pub fn volume() -> Name {
    VOLUME.parse().expect("it is a name")
}

impl Wanted {
    fn request(self) -> DeviceRequest {
        let (kind, amount) = match self {
            Self::Camera => ("camera", DeviceAmount::Whole(1)),
            Self::GpuShare => ("gpu", DeviceAmount::Share),
            Self::GpuMillis(millis) => ("gpu", DeviceAmount::Millis(millis)),
        };
        DeviceRequest { kind: kind.to_owned(), model: None, amount }
    }
}

impl Company {
    fn rule(&self, relation: Relation) -> Affinity {
        let workload = self.workload.parse().expect("stories use plain names");
        Affinity { workload, within: self.within.domain(), relation }
    }
}

impl Place {
    fn domain(self) -> Domain {
        match self {
            Self::Node => Domain::Node,
            Self::Site => Domain::Site,
            Self::Rack => Domain::Label("rack".to_owned()),
        }
    }
}

fn equal(key: ConstraintKey, value: &str) -> Constraint {
    Constraint { key, operator: Operator::Equal, values: vec![value.to_owned()] }
}
