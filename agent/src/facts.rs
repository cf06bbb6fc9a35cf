//! What the machine is and what is used of it: facts once, use and devices every ten seconds.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::PathBuf, sync::Arc, time::Duration};

use agent_containerd::{Attempt, Containerd, UsageSample};
use agent_core::input::Input;
use agent_network::Network;
use api_types::{
    id::InstanceId,
    instance::InstanceUsage,
    node::{NodeFacts, NodeUsage},
    resources::Resources,
};
use nix::sys::statvfs::statvfs;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    control_loop::Message,
    devices::{Look, Watch},
    session::outbox::Outbox,
};

/// How often use is sampled, and devices are looked for.
const EVERY: Duration = Duration::from_secs(10);

/// Opens the machine's counters.
pub(crate) fn system() -> Result<System, sysinfo::Error> {
    System::new_with_specifics(refresh())
}

/// Says what this machine is; its devices are found by the first look.
pub(crate) fn facts(config: &Config, address: Ipv4Addr, system: &System) -> NodeFacts {
    let machine = Resources {
        cpu_millis: u64::try_from(system.cpus().len()).unwrap_or(1) * 1000,
        memory_bytes: system.total_memory(),
    };
    NodeFacts {
        devices: Vec::new(),
        arch: architecture().to_owned(),
        os: std::env::consts::OS.to_owned(),
        kernel: line("/proc/sys/kernel/osrelease"),
        capacity: config.capacity(machine),
        address: Some(address),
        ipv6_address: None,
        tunnel: config.tunnel(address).ok().flatten(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_version: String::new(),
        boot_id: boot_id(),
        cgroup_version: if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) { 2 } else { 1 },
    }
}

/// Changes at each boot of the machine.
pub(crate) fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

/// Samples until the token is cancelled.
pub(crate) struct Sampler {
    containerd: Containerd,
    network: Arc<Network>,
    messages: mpsc::Sender<Message>,
    outbox: Arc<Outbox>,
    state_dir: PathBuf,
    system: System,
    devices: Watch,
}

impl Sampler {
    /// A sampler of what this machine has.
    pub(crate) fn new(
        (containerd, network, messages, outbox): (Containerd, Arc<Network>, mpsc::Sender<Message>, Arc<Outbox>),
        state_dir: PathBuf,
        system: System,
        devices: Watch,
    ) -> Self {
        Self { containerd, network, messages, outbox, state_dir, system, devices }
    }

    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), std::convert::Infallible> {
        let (mut before, mut look) = (BTreeMap::new(), Look::default());
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = token.cancelled() => return Ok(()),
            }
            look = self.look_for_devices(&look).await;
            self.look_for_ipv6().await;
            let (asked, running) = oneshot::channel();
            if self.messages.send(Message::Running(asked)).await.is_err() {
                return Ok(());
            }
            let Ok(running) = running.await else { return Ok(()) };
            let samples: Samples = running
                .into_iter()
                .filter_map(|(instance, attempt)| {
                    let sample = self.containerd.usage(&instance, attempt)?;
                    Some(((instance, attempt), (Instant::now(), sample)))
                })
                .collect();
            let node = self.node_usage();
            self.outbox.usage(node, rates(&before, &samples));
            before = samples;
        }
    }

    /// Tells everybody what is there. The core hears of what is missing at each look: an instance may have begun since.
    async fn look_for_devices(&mut self, last: &Look) -> Look {
        if self.devices.is_empty() {
            return Look::default();
        }
        let look = self.devices.look();
        self.outbox.condition("devices", look.condition());
        self.outbox.devices(look.offered.clone());
        if !look.missing.is_empty() || look.missing != last.missing {
            let missing = look.missing.iter().cloned().collect();
            // The loop is gone only when the process ends.
            self.messages.send(Message::Input(Input::DevicesSeen { missing })).await.ok();
        }
        look
    }

    /// An IPv6 address may come and go with the router that announces it.
    async fn look_for_ipv6(&self) {
        match self.network.ipv6_address().await {
            Ok(address) => self.outbox.set_ipv6_address(address),
            Err(error) => tracing::warn!(%error, "whether this node has an IPv6 address cannot be found out"),
        }
    }

    fn node_usage(&mut self) -> NodeUsage {
        let system = &mut self.system;
        system.refresh_specifics(refresh());
        let cpus = u32::try_from(system.cpus().len()).unwrap_or(1);
        let percent = f64::from(system.global_cpu_usage().max(0.0)) * f64::from(cpus);
        let disk = statvfs(&self.state_dir).map(|disk| disk.blocks_available() * disk.fragment_size());
        NodeUsage {
            cpu_millis: whole(percent * 10.0),
            memory_bytes: system.total_memory().saturating_sub(system.available_memory()),
            disk_free_bytes: disk.unwrap_or(0),
        }
    }
}

type Samples = BTreeMap<(InstanceId, Attempt), (Instant, UsageSample)>;

/// What the attempts of each instance's containers used between two samples; the CPU and the connections of one that was not there
/// before are not known yet.
fn rates(before: &Samples, samples: &Samples) -> BTreeMap<InstanceId, InstanceUsage> {
    let rate = |key: &(InstanceId, Attempt), at: Instant, sample: &UsageSample| {
        let (then, earlier) = before.get(key)?;
        let used = sample.cpu_nanoseconds.saturating_sub(earlier.cpu_nanoseconds);
        let elapsed = u64::try_from((at - *then).as_nanos()).unwrap_or(u64::MAX).max(1);
        Some(used.saturating_mul(1000) / elapsed)
    };
    let opened = |key: &(InstanceId, Attempt), at: Instant, sample: &UsageSample| {
        let (then, earlier) = before.get(key)?;
        let opened = sample.connections?.saturating_sub(earlier.connections?);
        let elapsed_ms = u64::try_from((at - *then).as_millis()).unwrap_or(u64::MAX).max(1);
        Some(opened.saturating_mul(1_000_000) / elapsed_ms)
    };
    let mut rates: BTreeMap<InstanceId, InstanceUsage> = BTreeMap::new();
    for (key, (at, sample)) in samples {
        let sum = rates.entry(key.0.clone()).or_default();
        sum.cpu_millis += rate(key, *at, sample).unwrap_or(0);
        sum.memory_bytes += sample.memory_bytes;
        sum.pids += sample.pids;
        sum.new_connections_millis = sum.new_connections_millis.or_else(|| opened(key, *at, sample));
    }
    rates
}

fn refresh() -> RefreshKind {
    RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing().with_usage())
        .with_memory(MemoryRefreshKind::nothing().with_ram())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares of a machine's CPUs are small and positive"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_something() {
        let facts = facts(&Config::default(), Ipv4Addr::LOCALHOST, &system().expect("this machine counts"));

        assert!(facts.capacity.cpu_millis >= 1000 && facts.capacity.memory_bytes > 1 << 20);
        assert!(!facts.kernel.is_empty() && !facts.boot_id.is_empty());
        assert_eq!(facts.os, "linux");
    }

    #[test]
    fn cpu_and_connections_are_rates_between_two_samples_of_one_attempt() {
        let id = InstanceId::new("web-1").expect("a name");
        let then = Instant::now();
        let now = then + Duration::from_secs(10);
        let sample = |cpu_nanoseconds| UsageSample {
            cpu_nanoseconds,
            memory_bytes: 5,
            pids: 2,
            connections: Some(cpu_nanoseconds / 100_000_000),
        };
        let key = |number: u32| (id.clone(), Attempt::from(number));
        let before = Samples::from([(key(0), (then, sample(1_000_000_000)))]);

        let same = rates(&before, &Samples::from([(key(0), (now, sample(3_500_000_000)))]));
        let next = rates(&before, &Samples::from([(key(1), (now, sample(9)))]));

        assert_eq!(
            same[&id],
            InstanceUsage { cpu_millis: 250, memory_bytes: 5, pids: 2, new_connections_millis: Some(2_500) }
        );
        let unknown = (next[&id].cpu_millis, next[&id].new_connections_millis);
        assert_eq!(unknown, (0, None), "another attempt's past is not its own");
    }

    #[test]
    fn an_instance_uses_what_all_of_its_containers_use() {
        let id = InstanceId::new("web-1").expect("a name");
        let sample = |memory_bytes| {
            (Instant::now(), UsageSample { cpu_nanoseconds: 1, memory_bytes, pids: 2, connections: None })
        };
        let sidecar = Attempt { companion: Some(1), number: 7 };

        let used = rates(
            &Samples::new(),
            &Samples::from([((id.clone(), 0.into()), sample(5)), ((id.clone(), sidecar), sample(6))]),
        );

        assert_eq!(used[&id], InstanceUsage { cpu_millis: 0, memory_bytes: 11, pids: 4, new_connections_millis: None });
    }
}
