//! A node's containerd and networks: operations that take time, fail, and are cut off half-way.

mod companions;

pub use companions::SimCompanion;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use agent_core::{
    effect::Effect,
    input::{CompanionAttempt, Input, ObservedContainer, ObservedNetwork, ObservedProcess},
};
use api_types::{assignment::Assignment, id::InstanceId, instance::Exit, probe::ProbeKind, time::Timestamp};

use crate::{
    event::{Event, Key, NodeIndex},
    shape::{Bad, FLAPS},
    world::World,
};

/// What containerd and the kernel of one node have.
#[derive(Debug, Default)]
pub struct SimRuntime {
    /// Whether containerd does not answer.
    pub away: bool,
    /// Until when what it is told to do hangs.
    pub hangs_until: Timestamp,
    /// Main containers.
    pub containers: BTreeMap<Key, SimContainer>,
    /// The containers beside them.
    pub companions: BTreeMap<CompanionAttempt, SimCompanion>,
    /// Networks.
    pub networks: BTreeMap<InstanceId, Ipv4Addr>,
    images: BTreeSet<String>,
    operations: BTreeMap<u64, Effect>,
}

/// One container.
#[derive(Clone, Debug)]
pub struct SimContainer {
    /// What it runs.
    pub image: String,
    /// Its process, while it runs.
    pub process: Option<SimProcess>,
    /// Whether its process shall end by itself.
    pub is_job: bool,
    exit: Exit,
}

impl SimContainer {
    /// What an assignment asks for, without a process.
    fn of(assignment: &Assignment) -> Self {
        let image = assignment.container.image.clone();
        Self { image, process: None, is_job: assignment.retries.is_some(), exit: Exit::Unknown }
    }
}

/// One process.
#[derive(Clone, Debug)]
pub struct SimProcess {
    /// Its id.
    pub pid: u32,
    /// When it was started, by its node's clock.
    pub started_at: Timestamp,
    /// When it was started.
    pub born_at: Timestamp,
    /// From when on its probes succeed.
    pub ready_at: Timestamp,
}

impl World {
    /// Makes a list of what is there; it arrives a moment later.
    pub fn look(&mut self, index: NodeIndex) {
        let sim = &self.nodes[index];
        if sim.runtime.away {
            return;
        }
        let containers = sim.runtime.containers.iter().map(|((instance, attempt), container)| {
            let process = match &container.process {
                Some(process) => ObservedProcess::Running { pid: process.pid, started_at: process.started_at },
                None => ObservedProcess::Ended(container.exit.clone()),
            };
            ObservedContainer { instance: instance.clone(), companion: None, attempt: *attempt, process }
        });
        let containers = containers.chain(self.companions_seen(index));
        let networks = sim.runtime.networks.iter();
        let networks =
            networks.map(|(instance, address)| ObservedNetwork { instance: instance.clone(), address: *address });
        let input = Input::Observed { containers: containers.collect(), networks: networks.collect() };
        let takes = self.nodes[index].random.between(5, 60);
        self.answer(index, takes, input);
    }

    /// Starts to do what the agent wished for. Nothing is done while containerd is away.
    pub fn begin(&mut self, index: NodeIndex, effect: Effect) {
        if self.nodes[index].runtime.away {
            return;
        }
        self.note(&format!("{}: {}", self.nodes[index].id, describe(&effect)));
        let takes = match &effect {
            Effect::EnsureImage { image } if self.nodes[index].runtime.images.contains(image) => 3,
            Effect::EnsureImage { .. } => self.nodes[index].random.between(200, 4000),
            Effect::Start { .. } => self.nodes[index].random.between(30, 200),
            Effect::Stop { grace_ms, .. } if self.nodes[index].random.per_mille(50) => *grace_ms,
            Effect::Stop { .. } => self.nodes[index].random.between(5, 800),
            Effect::EnsureNetwork { .. } | Effect::RemoveNetwork { .. } | Effect::Remove { .. } => {
                self.nodes[index].random.between(5, 60)
            }
            Effect::KeepAssignments(_) | Effect::KeepServices(_) | Effect::KeepAddresses(_) => 0,
            Effect::KeepTries(_) | Effect::KeepFollowed(_) | Effect::TellAlone(_) | Effect::Observe => 0,
            Effect::StartProbe { .. }
            | Effect::StopProbe { .. }
            | Effect::ReadLastLines { .. }
            | Effect::ProgramServices { .. }
            | Effect::Report(_) => 0,
            Effect::ConfirmTable(_) | Effect::CountConnections(_) | Effect::Refresh { .. } => 0,
            Effect::Companion { wish, .. } => self.companion_takes(index, wish),
        };
        let hangs = matches!(effect, Effect::Start { .. } | Effect::Stop { .. } | Effect::Remove { .. });
        let takes = if hangs { takes + self.nodes[index].runtime.hangs_until.since(self.now) } else { takes };
        self.check_stop(index, &effect);
        self.check_network_is_empty(index, &effect);
        self.operation_count += 1;
        let operation = self.operation_count;
        self.nodes[index].runtime.operations.insert(operation, effect);
        self.after(takes, Event::Done { node: index, operation });
    }

    /// An operation ends: well, or not.
    pub fn done(&mut self, index: NodeIndex, operation: u64) {
        let Some(effect) = self.nodes[index].runtime.operations.remove(&operation) else { return };
        let mut fails = self.is_noisy() && self.nodes[index].random.per_mille(15);
        if let Effect::EnsureImage { image } = &effect {
            fails |= self.now < self.registry_away_until && !self.nodes[index].runtime.images.contains(image);
        }
        let reason = || "the disk is tired".to_owned();
        let input = match (&effect, fails) {
            (Effect::EnsureImage { image }, true) => {
                Input::ImageFailed { image: image.clone(), reason: reason(), is_missing: false }
            }
            (Effect::EnsureNetwork { instance, .. }, true) => {
                Input::NetworkFailed { instance: instance.clone(), reason: reason() }
            }
            (Effect::Start { assignment, attempt, .. }, true) => {
                Input::StartFailed { instance: assignment.instance.clone(), attempt: *attempt, reason: reason() }
            }
            (Effect::Remove { instance, attempt }, true) => {
                Input::RemoveFailed { instance: instance.clone(), attempt: *attempt, reason: reason() }
            }
            (Effect::Companion { key, wish }, true) => {
                let event = Self::companion_failed(wish).or_else(|| self.companion_done(index, key, wish));
                let Some(event) = event else { return };
                Input::Companion { key: key.clone(), event }
            }
            (_, _) => match self.complete(index, &effect) {
                Some(input) => input,
                None => return,
            },
        };
        let takes = self.nodes[index].random.between(0, 10);
        self.answer(index, takes, input);
    }

    /// What was being done is cut off: it happened, or it did not, and nobody is told.
    pub fn abort_operations(&mut self, index: NodeIndex) {
        for effect in std::mem::take(&mut self.nodes[index].runtime.operations).into_values() {
            match self.nodes[index].random.between(0, 2) {
                0 => {}
                1 => drop(self.complete(index, &effect)),
                _ => self.half_complete(index, &effect),
            }
        }
    }

    /// All processes and networks end with the power.
    pub fn lose_processes(&mut self, index: NodeIndex) {
        let runtime = &mut self.nodes[index].runtime;
        runtime.operations.clear();
        runtime.networks.clear();
        for companion in runtime.companions.values_mut().filter(|companion| companion.process.is_ok()) {
            companion.process = Err(Exit::Unknown);
        }
        for (key, container) in &mut runtime.containers {
            if container.process.take().is_some() {
                container.exit = Exit::Unknown;
                self.died_at.insert(key.0.clone(), self.now);
            }
        }
    }

    /// A process is about to end by itself: in quiet times only one that shall, and well; or one that never works.
    pub fn exit_unless_quiet(&mut self, index: NodeIndex, key: &Key, pid: u32, exit: Exit) {
        let Some(container) = self.nodes[index].runtime.containers.get(key) else { return };
        let crashes = Bad::of_image(&container.image) == Some(Bad::Crashes);
        match (self.is_noisy() || crashes, container.is_job) {
            (true, _) => self.exit(index, key, pid, exit),
            (false, true) => self.exit(index, key, pid, Exit::Code(0)),
            (false, false) => {}
        }
    }

    /// A process ends by itself.
    pub fn exit(&mut self, index: NodeIndex, key: &Key, pid: u32, exit: Exit) {
        let away = self.nodes[index].runtime.away;
        let Some(container) = self.nodes[index].runtime.containers.get_mut(key) else { return };
        if container.process.as_ref().is_none_or(|process| process.pid != pid) {
            return;
        }
        container.process = None;
        // Who dies while containerd is away leaves a record without a process.
        container.exit = if away { Exit::Unknown } else { exit.clone() };
        let is_job = container.is_job;
        self.died_at.insert(key.0.clone(), self.now);
        if is_job && !away {
            self.jobs.note_end(&key.0, &exit);
        }
        self.note(&format!("{}: {} exits by itself", self.nodes[index].id, key.0));
        if !away {
            let takes = self.nodes[index].random.between(1, 20);
            let input = Input::Exited { instance: key.0.clone(), attempt: key.1, exit };
            // Both the event and the wait for the process tell of it: the second time may be late.
            if self.nodes[index].random.per_mille(100) {
                let again = self.nodes[index].random.between(1, 2000);
                self.answer(index, again, input.clone());
            }
            self.answer(index, takes, input);
        }
    }

    /// A probe is due.
    pub fn probe(&mut self, index: NodeIndex, life: u64, key: Key, kind: ProbeKind) {
        let sim = &self.nodes[index];
        if sim.life != life {
            return;
        }
        let Some(&interval) = sim.probes.get(&(key.clone(), kind)) else { return };
        let process = sim.runtime.containers.get(&key).and_then(|container| container.process.as_ref());
        let ready = process.is_some_and(|process| process.ready_at <= self.now);
        let pause = if ready { interval } else { 250 };
        let outcome = if ready { Ok(String::new()) } else { Err("connection refused".to_owned()) };
        let (instance, attempt) = key.clone();
        self.step_agent(index, Input::Probed { instance, attempt, kind, outcome });
        self.after(pause, Event::Probe { node: index, life, key, kind });
    }

    /// Containerd dies; processes go on.
    pub fn crash_runtime(&mut self, index: NodeIndex) {
        if self.nodes[index].runtime.away || !self.nodes[index].powered {
            return;
        }
        self.note(&format!("{}: containerd dies", self.nodes[index].id));
        self.abort_operations(index);
        self.nodes[index].runtime.away = true;
        self.step_agent(index, Input::RuntimeLost);
    }

    /// Containerd is back: the agent connects and looks around.
    pub fn runtime_back(&mut self, index: NodeIndex) {
        if !std::mem::replace(&mut self.nodes[index].runtime.away, false) {
            return;
        }
        if self.nodes[index].agent.is_some() {
            self.look(index);
        }
    }

    fn complete(&mut self, index: NodeIndex, effect: &Effect) -> Option<Input> {
        let runtime = &mut self.nodes[index].runtime;
        match effect {
            Effect::EnsureImage { image } => {
                runtime.images.insert(image.clone());
                Some(Input::ImageReady { image: image.clone() })
            }
            Effect::EnsureNetwork { instance, address, .. } => {
                runtime.networks.insert(instance.clone(), *address);
                Some(Input::NetworkReady { instance: instance.clone() })
            }
            Effect::RemoveNetwork { instance, .. } => {
                runtime.networks.remove(instance);
                Some(Input::NetworkRemoved { instance: instance.clone() })
            }
            Effect::Start { assignment, attempt, .. } => {
                let pid = self.spawn(index, (assignment.instance.clone(), *attempt), assignment);
                Some(Input::Started { instance: assignment.instance.clone(), attempt: *attempt, pid })
            }
            Effect::Stop { instance, attempt, .. } => {
                if let Some(container) = runtime.containers.get_mut(&(instance.clone(), *attempt))
                    && container.process.take().is_some()
                {
                    container.exit = Exit::Code(143);
                    self.died_at.insert(instance.clone(), self.now);
                    if container.is_job {
                        self.jobs.note_end(instance, &Exit::Code(143));
                    }
                }
                Some(Input::Exited { instance: instance.clone(), attempt: *attempt, exit: Exit::Code(143) })
            }
            Effect::Remove { instance, attempt } => {
                let removed = runtime.containers.remove(&(instance.clone(), *attempt));
                if removed.is_some_and(|container| container.process.is_some()) {
                    self.died_at.insert(instance.clone(), self.now);
                }
                Some(Input::Removed { instance: instance.clone(), attempt: *attempt })
            }
            Effect::KeepAssignments(_) | Effect::KeepServices(_) => None,
            Effect::KeepAddresses(_) | Effect::KeepTries(_) | Effect::KeepFollowed(_) => None,
            Effect::TellAlone(_) => None,
            Effect::Observe
            | Effect::Report(_)
            | Effect::StartProbe { .. }
            | Effect::StopProbe { .. }
            | Effect::ReadLastLines { .. }
            | Effect::ProgramServices { .. } => None,
            Effect::ConfirmTable(_) | Effect::CountConnections(_) | Effect::Refresh { .. } => None,
            Effect::Companion { key, wish } => {
                let event = self.companion_done(index, key, wish)?;
                Some(Input::Companion { key: key.clone(), event })
            }
        }
    }

    /// A start that was cut off leaves a record without a process; other operations are done or not.
    fn half_complete(&mut self, index: NodeIndex, effect: &Effect) {
        if let Effect::Start { assignment, attempt, .. } = effect {
            let key = (assignment.instance.clone(), *attempt);
            self.nodes[index].runtime.containers.insert(key, SimContainer::of(assignment));
        }
        if let Effect::Companion { key, wish } = effect {
            self.companion_half_done(index, key, wish);
        }
    }

    fn spawn(&mut self, index: NodeIndex, key: Key, assignment: &Assignment) -> u32 {
        self.check_spawn(index, &key);
        self.check_alone(index, assignment);
        self.check_steps(index, assignment);
        self.check_try(index, assignment);
        self.main_count += 1;
        self.pid_count += 1;
        let pid = self.pid_count;
        let bad = Bad::of_image(&assignment.container.image);
        let ready_at = self.now + self.nodes[index].random.between(0, 2500);
        let ready_at = if bad == Some(Bad::Mute) { Timestamp(u64::MAX) } else { ready_at };
        // By the clock of the node, whatever that shows.
        let started_at = self.nodes[index].by_its_clock(self.now);
        let process = SimProcess { pid, started_at, born_at: self.now, ready_at };
        let container = SimContainer { process: Some(process), ..SimContainer::of(assignment) };
        self.died_at.remove(&key.0);
        if let Some((lives, exit)) = self.end_of(index, &container) {
            self.after(lives, Event::Exit { node: index, key: key.clone(), pid, exit });
        }
        self.nodes[index].runtime.containers.insert(key, container);
        pid
    }

    /// After how many milliseconds a process ends by itself, and how; `None` = it does not.
    fn end_of(&mut self, index: NodeIndex, container: &SimContainer) -> Option<(u64, Exit)> {
        let noisy = self.is_noisy();
        let random = &mut self.nodes[index].random;
        let crashes = Bad::of_image(&container.image) == Some(Bad::Crashes);
        if crashes || (noisy && container.image.contains(FLAPS)) {
            return Some((random.between(1, 500), Exit::Code(1)));
        }
        if container.is_job {
            let code = i32::from(noisy && random.per_mille(100));
            return Some((random.between(200, 30_000), Exit::Code(code)));
        }
        let dies_young = noisy.then(|| random.per_mille(60))?;
        let lives = if dies_young { random.between(1, 8000) } else { random.between(20_000, 1_800_000) };
        Some((lives, Exit::Code(1)))
    }

    fn answer(&mut self, index: NodeIndex, takes: u64, input: Input) {
        let life = self.nodes[index].life;
        self.after(takes, Event::Answer { node: index, life, input });
    }
}

/// A wish in a few words, for the trace.
fn describe(effect: &Effect) -> String {
    match effect {
        Effect::EnsureImage { image } => format!("pulls {image}"),
        Effect::EnsureNetwork { instance, address, .. } => format!("makes network of {instance}, {address}"),
        Effect::RemoveNetwork { instance, .. } => format!("removes network of {instance}"),
        Effect::Start { assignment, attempt, .. } => format!("starts {} attempt {attempt}", assignment.instance),
        Effect::Stop { instance, attempt, .. } => format!("stops {instance} attempt {attempt}"),
        Effect::Refresh { assignment, attempt } => format!("refreshes {} attempt {attempt}", assignment.instance),
        Effect::Remove { instance, attempt } => format!("removes {instance} attempt {attempt}"),
        Effect::KeepAssignments(_) => "keeps assignments".to_owned(),
        Effect::KeepServices(_) => "keeps services".to_owned(),
        Effect::KeepAddresses(_) => "keeps addresses".to_owned(),
        Effect::KeepTries(_) => "keeps tries".to_owned(),
        Effect::KeepFollowed(_) => "keeps how far schedules were followed".to_owned(),
        Effect::TellAlone(_) => "tells what it did alone".to_owned(),
        Effect::Observe => "looks again".to_owned(),
        Effect::StartProbe { instance, kind, .. } => format!("probes {instance}: {}", kind.as_str()),
        Effect::StopProbe { instance, kind } => format!("probes {instance} no more: {}", kind.as_str()),
        Effect::ReadLastLines { instance, .. } => format!("reads the last lines of {instance}"),
        Effect::ProgramServices { .. } => "programs balancing".to_owned(),
        Effect::ConfirmTable((_, generation)) => format!("confirms table {generation}"),
        Effect::Companion { key, .. } => format!("sees to companion {} of {}", key.companion, key.instance),
        Effect::CountConnections(_) => "counts connections".to_owned(),
        Effect::Report(_) => "reports".to_owned(),
    }
}
