//! A workload as a story tells it: a few words, from which the whole spec follows.

use std::{collections::BTreeMap, fmt};

use api_types::{
    container::{ContainerSpec, Mount, PortSpec, Protocol},
    id::WorkloadId,
    placement::{Constraint, ConstraintKey, Domain, Operator, Spread},
    probe::{ProbeCheck, ProbeSpec},
    resources::{ResourceSpec, Resources},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::story::text::Words;

/// Part of the image's name of a workload whose processes end at once, as long as there are faults.
pub const FLAPS: &str = "/flaps/";

/// What a workload of the simulation may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// How many; `None` = a daemon.
    pub replicas: Option<u32>,
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
    /// Whether it is spread over racks before all else.
    pub racks: bool,
    /// Whether it has data that stays.
    pub volume: bool,
    /// Whether its health is probed.
    pub probe: bool,
    /// Whether what falls silent is never replaced.
    pub never_replaced: bool,
    /// Whether its processes end at once.
    pub flaps: bool,
}

impl Shape {
    /// The least that can be said.
    #[must_use]
    pub fn new(name: &str, replicas: Option<u32>) -> Self {
        Self {
            name: name.to_owned(),
            replicas,
            version: 1,
            cpu_millis: 20,
            memory_mib: 16,
            arch: None,
            disk: None,
            tier: None,
            host_port: None,
            per_node: None,
            racks: false,
            volume: false,
            probe: false,
            never_replaced: false,
            flaps: false,
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
        let kind = self.replicas.map_or(WorkloadKind::Daemon, |replicas| WorkloadKind::Service { replicas });
        let folder = if self.flaps { FLAPS } else { "/" };
        let image = format!("registry.lan{folder}{}:{}", self.name, self.version);
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
        let label = |name: &str| ConstraintKey::Label(name.to_owned());
        spec.placement.constraints.extend(self.arch.iter().map(|arch| equal(ConstraintKey::Arch, arch)));
        spec.placement.constraints.extend(self.disk.iter().map(|disk| equal(label("disk"), disk)));
        spec.placement.constraints.extend(self.tier.map(|tier| Constraint {
            key: label("tier"),
            operator: Operator::AtLeast,
            values: vec![tier.to_string()],
        }));
        if self.racks {
            spec.placement.spread.insert(0, Spread::soft(Domain::Label("rack".to_owned())));
        }
        if self.volume {
            let name = "data".parse().expect("a name");
            spec.container.mounts.insert("/data".to_owned(), Mount::Volume { name, read_only: false });
        }
        spec.placement.per_node_max = self.per_node;
        spec.probe = self.probe.then_some(ProbeSpec {
            check: ProbeCheck::Tcp { port: 8080 },
            interval_ms: 2000,
            timeout_ms: 1000,
            failures: 2,
            grace_ms: 5000,
        });
        if self.never_replaced {
            spec.disconnect.replace_after_ms = None;
        }
        spec
    }

    /// Reads what [`fmt::Display`] wrote.
    ///
    /// # Errors
    /// Which word is missing or wrong.
    pub fn read(words: &mut Words<'_>) -> Result<Self, String> {
        Ok(Self {
            replicas: words.optional("replicas")?,
            version: words.required("version")?,
            cpu_millis: words.required("cpu")?,
            memory_mib: words.required("memory")?,
            arch: words.optional("arch")?,
            disk: words.optional("disk")?,
            tier: words.optional("tier")?,
            host_port: words.optional("host-port")?,
            per_node: words.optional("per-node")?,
            racks: words.flag("racks"),
            volume: words.flag("volume"),
            probe: words.flag("probe"),
            never_replaced: words.flag("never-replaced"),
            flaps: words.flag("flaps"),
            ..Self::new(&words.required::<String>("workload")?, None)
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workload={}", self.name)?;
        word(f, "replicas", self.replicas.as_ref())?;
        write!(f, " version={} cpu={} memory={}", self.version, self.cpu_millis, self.memory_mib)?;
        word(f, "arch", self.arch.as_ref())?;
        word(f, "disk", self.disk.as_ref())?;
        word(f, "tier", self.tier.as_ref())?;
        word(f, "host-port", self.host_port.as_ref())?;
        word(f, "per-node", self.per_node.as_ref())?;
        let flags = [
            ("racks", self.racks),
            ("volume", self.volume),
            ("probe", self.probe),
            ("never-replaced", self.never_replaced),
            ("flaps", self.flaps),
        ];
        flags.iter().filter(|(_, is_set)| *is_set).try_for_each(|(name, _)| write!(f, " {name}"))
    }
}

/// The labels of a node of the simulation.
#[must_use]
pub fn labels_of(node: usize) -> BTreeMap<String, String> {
    let disk = if node.is_multiple_of(3) { "ssd" } else { "sd" };
    BTreeMap::from([
        ("disk".to_owned(), disk.to_owned()),
        ("rack".to_owned(), format!("rack-{}", node % 7)),
        ("tier".to_owned(), (node % 4).to_string()),
    ])
}

fn word(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={value}"))
}

fn equal(key: ConstraintKey, value: &str) -> Constraint {
    Constraint { key, operator: Operator::Equal, values: vec![value.to_owned()] }
}
