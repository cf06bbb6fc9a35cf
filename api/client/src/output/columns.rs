//! What of each kind of thing stands in which column.

use api_types::{
    container::NetworkMode,
    instance::{Exit, Health, InstanceState},
    node::{Availability, Liveness},
    time::Timestamp,
    view::{Event, InstanceView, NodeView, SecretView, SiteView, VolumeView, WorkloadView},
};

use crate::output::{
    amounts::{age, bytes, cpus},
    scale,
};

/// Something that `get` lists.
pub(crate) trait Listed {
    fn name(&self) -> String;
    /// What tells it from all others: the name, unless names repeat.
    fn identity(&self) -> String {
        self.name()
    }
    fn headers(wide: bool) -> Vec<&'static str>;
    fn row(&self, wide: bool, now: Timestamp) -> Vec<String>;
}

impl Listed for NodeView {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn headers(wide: bool) -> Vec<&'static str> {
        let narrow = ["NAME", "SITE", "STATE", "INSTANCES", "CPU", "MEMORY", "AGE", "REASON"];
        let more = ["ADDRESS", "SUBNET", "ARCH", "KERNEL", "RUNTIME", "AGENT", "LABELS"];
        narrow.into_iter().chain(more.into_iter().filter(|_| wide)).collect()
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![
            self.name.to_string(),
            self.site.clone(),
            node_state(self),
            self.instances.to_string(),
            format!("{}/{}", cpus(self.allocated.cpu_millis), cpus(self.allocatable.cpu_millis)),
            format!("{}/{}", bytes(self.allocated.memory_bytes), bytes(self.allocatable.memory_bytes)),
            age(self.joined_at, now),
            node_reason(self),
        ];
        if wide {
            row.extend([
                self.facts.address.map(|address| address.to_string()).unwrap_or_default(),
                self.subnet.to_string(),
                self.facts.arch.clone(),
                self.facts.kernel.clone(),
                self.facts.runtime_version.clone(),
                self.facts.agent_version.clone(),
                labels(self),
            ]);
        }
        row
    }
}

impl Listed for SiteView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn headers(_: bool) -> Vec<&'static str> {
        vec!["NAME", "NODES", "READY", "REACH", "ACROSS"]
    }

    fn row(&self, _: bool, _: Timestamp) -> Vec<String> {
        let (reach, across) = (self.reach.as_str().to_owned(), self.across.as_str().to_owned());
        vec![self.name.clone(), self.nodes.to_string(), self.ready.to_string(), reach, across]
    }
}

impl Listed for VolumeView {
    fn name(&self) -> String {
        format!("{}:{}", self.workload, self.volume)
    }

    fn identity(&self) -> String {
        format!("{}:{}", self.name(), self.slot)
    }

    fn headers(_: bool) -> Vec<&'static str> {
        vec!["WORKLOAD", "VOLUME", "SLOT", "NODE", "USED", "SIZE", "INSTANCE", "REASON"]
    }

    fn row(&self, _: bool, _: Timestamp) -> Vec<String> {
        vec![
            self.workload.to_string(),
            self.volume.to_string(),
            self.slot.to_string(),
            self.node.to_string(),
            self.used_bytes.map(bytes).unwrap_or_default(),
            self.size_bytes.map(bytes).unwrap_or_default(),
            self.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
            self.reason.clone(),
        ]
    }
}

impl Listed for SecretView {
    fn name(&self) -> String {
        self.secret.to_string()
    }

    fn headers(_: bool) -> Vec<&'static str> {
        vec!["NAME", "VERSION", "BYTES", "SET BY", "AGE", "USED BY"]
    }

    fn row(&self, _: bool, now: Timestamp) -> Vec<String> {
        let used_by: Vec<String> = self.used_by.iter().map(ToString::to_string).collect();
        vec![
            self.name(),
            self.version.to_string(),
            self.bytes.to_string(),
            self.set_by.clone(),
            age(self.set_at, now),
            used_by.join(", "),
        ]
    }
}

/// `ready`, `ready,cordoned`.
pub(crate) fn node_state(node: &NodeView) -> String {
    let liveness = match node.liveness {
        Liveness::Ready => "ready",
        Liveness::Unreachable => "unreachable",
        Liveness::Lost => "lost",
    };
    match node.availability {
        Availability::Active => liveness.to_owned(),
        Availability::Cordoned => format!("{liveness},cordoned"),
        Availability::Draining => format!("{liveness},draining"),
    }
}

/// The conditions that are not well.
fn node_reason(node: &NodeView) -> String {
    let bad = node.conditions.iter().filter(|condition| !condition.ok);
    bad.map(|condition| format!("{}: {}", condition.name, condition.reason)).collect::<Vec<_>>().join("; ")
}

pub(crate) fn labels(node: &NodeView) -> String {
    node.labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

impl Listed for WorkloadView {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn headers(wide: bool) -> Vec<&'static str> {
        let narrow = ["NAME", "READY", "IMAGE", "ADDRESS", "PORTS", "AGE", "REASON"];
        let more = ["KIND", "REVISION", "RUNNING", "PENDING", "ENDPOINTS", "SCALE"];
        narrow.into_iter().chain(more.into_iter().filter(|_| wide)).collect()
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![
            self.name.to_string(),
            format!("{}/{}", self.ready, self.wanted),
            self.image.clone(),
            self.address.map(|address| address.to_string()).unwrap_or_default(),
            ports(self),
            age(self.applied_at, now),
            self.reason.clone(),
        ];
        if wide {
            row.extend([
                self.kind.clone(),
                self.revision.to_string(),
                self.running.to_string(),
                self.pending.to_string(),
                self.endpoints.to_string(),
                scale::in_a_column(self.scale.as_ref()),
            ]);
        }
        row
    }
}

/// `80->8080/tcp,*:80`: the address's port, the container's where it differs, and the published one; `*:80->8080/tcp` where the
/// service has no address.
pub(crate) fn ports(workload: &WorkloadView) -> String {
    let port = |port: &api_types::service::ServicePort| {
        if let (NetworkMode::Published, Some(publish)) = (workload.spec.container.network, port.publish) {
            return format!("*:{publish}->{}/{}", port.container, port.protocol.as_str());
        }
        let to = if port.service == port.container { String::new() } else { format!("->{}", port.container) };
        let publish = port.publish.map(|publish| format!(",*:{publish}")).unwrap_or_default();
        format!("{}{to}/{}{publish}", port.service, port.protocol.as_str())
    };
    workload.ports.iter().map(port).collect::<Vec<_>>().join(" ")
}

impl Listed for InstanceView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn headers(wide: bool) -> Vec<&'static str> {
        let narrow = ["NAME", "WORKLOAD", "NODE", "STATE", "HEALTH", "RESTARTS", "ADDRESS", "AGE", "REASON"];
        let more = ["SLOT", "REVISION", "PID", "CPU", "MEMORY", "LAST-EXIT"];
        narrow.into_iter().chain(more.into_iter().filter(|_| wide)).collect()
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![
            self.name.clone(),
            self.workload.to_string(),
            self.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            state(self).to_owned(),
            health(self.health).to_owned(),
            self.restarts.to_string(),
            self.address.map(|address| address.to_string()).unwrap_or_default(),
            age(self.since, now),
            self.reason.clone(),
        ];
        if wide {
            row.extend([
                self.slot.to_string(),
                self.revision.to_string(),
                self.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                cpus(self.usage.cpu_millis),
                bytes(self.usage.memory_bytes),
                self.last_exit.as_ref().map(exit).unwrap_or_default(),
            ]);
        }
        row
    }
}

/// The word people see: a process that ends again and again is that before all, whether it runs just now or not.
pub(crate) fn state(instance: &InstanceView) -> &'static str {
    let is_alive = matches!(instance.state, InstanceState::Starting | InstanceState::Running);
    if instance.findings.crash_loop && is_alive { "crash loop" } else { instance.state.as_str() }
}

/// The word people see; nothing while there is no verdict.
pub(crate) fn health(health: Health) -> &'static str {
    match health {
        Health::Unknown => "",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

pub(crate) fn exit(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => match exit.signal() {
            Some(signal) => format!("{signal} (code {code})"),
            None => format!("code {code}"),
        },
        Exit::OutOfMemory => "out of memory".to_owned(),
        Exit::Probe(kind) => format!("{} probe", kind.as_str()),
        Exit::Unknown => "unknown".to_owned(),
    }
}

impl Listed for Event {
    fn name(&self) -> String {
        self.subject.clone()
    }

    fn identity(&self) -> String {
        self.sequence.to_string()
    }

    fn headers(_: bool) -> Vec<&'static str> {
        vec!["AGE", "SUBJECT", "KIND", "MESSAGE"]
    }

    fn row(&self, _: bool, now: Timestamp) -> Vec<String> {
        vec![age(self.at, now), self.subject.clone(), self.kind.clone(), self.message.clone()]
    }
}
