//! What goes wrong: crashes, cuts, lost power, lost disks, dead processes, stopped programs, wrong clocks, hands behind our back.

use std::sync::Arc;

use agent_core::input::Input as AgentInput;
use scheduler_core::input::Input as SchedulerInput;

use crate::{
    demand::AGAIN_MS,
    event::{Event, NodeIndex, Wish},
    random::Random,
    scheduler::Doom,
    story::{Deed, Lost, Place, Way},
    world::World,
};

/// How many sites there are.
pub const SITES: usize = 4;

const DAY_MS: u64 = 86_400_000;

impl World {
    /// Something goes wrong somewhere, and will again.
    pub fn fault(&mut self) {
        if self.calm {
            return;
        }
        if let Some(until) = self.rests_until() {
            self.at(until, Event::Fault);
            return;
        }
        let nodes = self.nodes.len();
        let deed = match self.story.random() {
            Some(random) => {
                let busy = 20_000 / (nodes as u64).clamp(10, 400);
                let pause = random.between(busy, busy * 8);
                let deed = make_up(random, nodes);
                self.after(pause, Event::Fault);
                deed
            }
            None => {
                let deed = self.story.take(false, self.elapsed());
                self.await_written(false);
                deed
            }
        };
        if let Some(deed) = deed {
            self.story.told.push((self.elapsed(), deed.clone()));
            self.note(&format!("fault: {deed}"));
            self.enact(deed);
        }
    }

    /// Waits for the next deed that was written down, if there is one.
    pub fn await_written(&mut self, wish: bool) {
        if let Some(at) = self.story.next_at(wish) {
            self.at(crate::world::START + at, if wish { Event::Demand } else { Event::Fault });
        }
    }

    /// Does what is wrong.
    fn enact(&mut self, deed: Deed) {
        match deed {
            Deed::SchedulerDies { effects, down_ms, clock_ms } => {
                self.scheduler.next_clock_ms = clock_ms;
                if effects == 0 {
                    self.scheduler_dies(down_ms);
                } else {
                    self.scheduler.doom = Some(Doom { effects, down_ms });
                }
            }
            Deed::SchedulerFreezes { for_ms } => self.freeze_scheduler(for_ms),
            Deed::SlowDisk { for_ms } => self.scheduler.slow_until = self.now + for_ms,
            Deed::BlackOut { most_ms } => self.black_out(most_ms),
            Deed::RegistryAway { for_ms } => self.registry_away_until = self.now + for_ms,
            Deed::Cut { place, way, for_ms } => self.cut_some(place, way, for_ms),
            Deed::AgentDies { node, .. }
            | Deed::AgentFreezes { node, .. }
            | Deed::PowerOff { node, .. }
            | Deed::ContainerdDies { node, .. }
            | Deed::ContainerdHangs { node, .. }
            | Deed::Break { node }
            | Deed::DiskForgets { node, .. }
            | Deed::RemoveContainer { node, .. }
            | Deed::Ghost { node }
            | Deed::Replay { node }
            | Deed::Look { node }
            | Deed::Unplug { node, .. } => {
                if node < self.nodes.len() {
                    self.enact_on(node, deed);
                }
            }
            Deed::Apply(_) | Deed::Scale { .. } | Deed::Delete { .. } => {}
            Deed::Cordon { .. } | Deed::Drain { .. } | Deed::Forget { .. } => {}
            Deed::ForgetVolume { .. } | Deed::Resume { .. } | Deed::Rebalance => {}
        }
    }

    fn enact_on(&mut self, node: NodeIndex, deed: Deed) {
        match deed {
            Deed::AgentDies { down_ms, clock_ms, .. } => {
                self.crash_agent(node);
                self.nodes[node].clock_ms = clock_ms;
                self.after(down_ms, Event::AgentStart(node));
            }
            Deed::AgentFreezes { for_ms, .. } => self.freeze_agent(node, for_ms),
            Deed::PowerOff { for_ms, cpu_millis, .. } => {
                self.power_off(node);
                if let Some(cpu_millis) = cpu_millis {
                    self.nodes[node].facts.capacity.cpu_millis = cpu_millis;
                }
                self.after(for_ms, Event::PowerOn(node));
            }
            Deed::ContainerdDies { for_ms, .. } => {
                self.crash_runtime(node);
                self.after(for_ms, Event::RuntimeBack(node));
            }
            Deed::ContainerdHangs { for_ms, .. } => self.nodes[node].runtime.hangs_until = self.now + for_ms,
            Deed::Break { .. } => {
                if let Some(id) = self.nodes[node].connection {
                    self.break_connection(id);
                }
            }
            Deed::DiskForgets { lost, .. } => {
                let sim = &mut self.nodes[node];
                match lost {
                    Lost::Set => sim.disk.0 = None,
                    Lost::Table => sim.disk.1 = None,
                    Lost::All => sim.disk = (None, None),
                }
                if lost == Lost::All {
                    sim.kept_addresses = Arc::default();
                    let remembered = std::mem::take(&mut sim.kept_tries);
                    self.jobs.note_forgotten(&remembered);
                }
                self.crash_agent(node);
                self.after(200, Event::AgentStart(node));
            }
            Deed::RemoveContainer { number, .. } => self.remove_container(node, number),
            Deed::Ghost { .. } => self.haunt(node),
            Deed::Replay { .. } => self.replay(node),
            Deed::Look { .. } => {
                if self.nodes[node].agent.is_some() {
                    self.look(node);
                }
            }
            Deed::Unplug { number, for_ms, .. } => self.unplug(node, number, for_ms),
            Deed::SchedulerDies { .. } | Deed::SchedulerFreezes { .. } | Deed::SlowDisk { .. } => {}
            Deed::BlackOut { .. } | Deed::RegistryAway { .. } | Deed::Cut { .. } | Deed::Apply(_) => {}
            Deed::Scale { .. } | Deed::Delete { .. } => {}
            Deed::Cordon { .. } | Deed::Drain { .. } | Deed::Forget { .. } => {}
            Deed::ForgetVolume { .. } | Deed::Resume { .. } | Deed::Rebalance => {}
        }
    }

    /// Everything is repaired, and stays so.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.note("calm: all faults end");
        self.scheduler.slow_until = self.now;
        self.scheduler.doom = None;
        self.registry_away_until = self.now;
        self.thaw_scheduler();
        if self.scheduler.core.is_none() {
            self.start_scheduler();
        }
        self.after(AGAIN_MS, Event::TryAgain);
        for &index in &self.demand.removed {
            self.demand.queue.push_back(Wish::Admit(index));
        }
        for index in 0..self.nodes.len() {
            self.heal(&[index]);
            self.thaw_agent(index);
            self.nodes[index].runtime.hangs_until = self.now;
            for device in self.nodes[index].unplugged.clone() {
                self.plugged(index, &device);
            }
            self.after(100, Event::PowerOn(index));
            self.after(200, Event::RuntimeBack(index));
            self.after(300, Event::AgentStart(index));
            self.uncordon(index);
        }
    }

    /// Links work again.
    pub fn heal(&mut self, nodes: &[NodeIndex]) {
        for &node in nodes {
            self.nodes[node].cut_up = false;
            self.nodes[node].cut_down = false;
        }
    }

    /// The scheduler dies now, and comes back.
    pub fn scheduler_dies(&mut self, down_ms: u64) {
        self.crash_scheduler();
        self.after(down_ms, Event::SchedulerStart);
    }

    fn black_out(&mut self, most_ms: u64) {
        self.scheduler_dies(200);
        for node in 0..self.nodes.len() {
            self.power_off(node);
            let pause = self.nodes[node].random.between(2000, most_ms.max(2000));
            self.after(pause, Event::PowerOn(node));
        }
    }

    fn cut_some(&mut self, place: Place, way: Way, for_ms: u64) {
        let is_meant = |index: &NodeIndex| match place {
            Place::Node(node) => *index == node,
            Place::Site(site) => self.nodes[*index].site == site,
        };
        let nodes: Vec<NodeIndex> = (0..self.nodes.len()).filter(is_meant).collect();
        for &node in &nodes {
            self.nodes[node].cut_up |= way != Way::Down;
            self.nodes[node].cut_down |= way != Way::Up;
        }
        self.after(for_ms, Event::Heal(nodes));
    }

    fn remove_container(&mut self, node: NodeIndex, number: u64) {
        let runtime = &mut self.nodes[node].runtime;
        let (main, beside) = (runtime.containers.len(), runtime.companions.len());
        if runtime.away || main + beside == 0 {
            return;
        }
        let chosen = usize::try_from(number).unwrap_or(0) % (main + beside);
        if let Some(key) = runtime.containers.keys().nth(chosen).cloned() {
            runtime.containers.remove(&key);
            self.died_at.insert(key.0, self.now);
        } else if let Some(key) = runtime.companions.keys().nth(chosen - main).cloned() {
            runtime.companions.remove(&key);
        }
        if self.nodes[node].agent.is_some() {
            self.look(node);
        }
    }

    /// An earlier scheduler does not know that it is over.
    fn haunt(&mut self, node: NodeIndex) {
        let (set, table) = self.scheduler.ghosts.get(&node).cloned().unwrap_or_default();
        let sim = &self.nodes[node];
        let Some(agent) = sim.agent.as_ref().filter(|_| sim.frozen.is_none()) else { return };
        let (held_set, held_table) = agent.held();
        // Nobody can tell what is earlier who remembers neither that kind nor a later run of the scheduler: an agent that lost it
        // from its disk has a new session first, and an earlier run has nothing to send on that one.
        let remembers = |kind: Option<_>, epoch| {
            let later = [held_set, held_table].into_iter().flatten().any(|(known, _)| known > epoch);
            kind.is_some() || later
        };
        let (set, table) = (
            set.filter(|set| remembers(held_set, set.epoch)),
            table.filter(|table| remembers(held_table, table.epoch)),
        );
        if let Some(set) = set {
            self.step_agent(node, AgentInput::Assigned((*set).clone()));
        }
        if let Some(table) = table {
            self.step_agent(node, AgentInput::Services(table));
        }
    }

    /// What an agent said on a session before its newest arrives once more; so does the end of that session.
    fn replay(&mut self, node: NodeIndex) {
        let Some((session, report)) = self.nodes[node].said.clone() else { return };
        let is_over = self.nodes[node].session.is_some_and(|newest| newest > session);
        if !is_over || self.scheduler.core.is_none() {
            return;
        }
        let node = self.nodes[node].id.clone();
        let (statuses, gone, complete) = (report.statuses, report.gone, report.complete);
        self.step_scheduler(SchedulerInput::Heartbeat { node: node.clone(), session });
        self.step_scheduler(SchedulerInput::Reported { node: node.clone(), session, statuses, gone, complete });
        self.step_scheduler(SchedulerInput::SessionClosed { node, session });
    }
}

/// Makes something up that goes wrong.
fn make_up(random: &mut Random, nodes: usize) -> Option<Deed> {
    let node = random.index(nodes);
    Some(match random.between(0, 99) {
        0..=1 => Deed::SchedulerDies {
            effects: if random.per_mille(700) { random.between(1, 6) } else { 0 },
            down_ms: random.between(200, 30_000),
            clock_ms: clock(random),
        },
        2 if random.per_mille(200) => Deed::BlackOut { most_ms: 90_000 },
        2 if random.per_mille(400) => Deed::SchedulerFreezes { for_ms: random.between(500, 30_000) },
        2 => Deed::RegistryAway { for_ms: random.between(5000, 60_000) },
        3..=4 => Deed::SlowDisk { for_ms: random.between(500, 8000) },
        5..=20 => Deed::AgentDies { node, down_ms: random.between(100, 15_000), clock_ms: clock(random) },
        21..=24 => Deed::AgentFreezes { node, for_ms: random.between(200, 40_000) },
        25..=36 => Deed::PowerOff {
            node,
            for_ms: random.between(3000, 60_000),
            cpu_millis: random.per_mille(100).then(|| random.between(2, 16) * 1000),
        },
        37..=44 => Deed::ContainerdDies { node, for_ms: random.between(100, 10_000) },
        45..=46 => Deed::ContainerdHangs { node, for_ms: random.between(1000, 40_000) },
        47..=64 => Deed::Cut { place: Place::Node(node), way: way(random), for_ms: random.between(500, 40_000) },
        65..=66 => {
            let site = random.index(SITES);
            Deed::Cut { place: Place::Site(site), way: way(random), for_ms: random.between(500, 40_000) }
        }
        67..=74 => Deed::Break { node },
        75..=79 => Deed::DiskForgets {
            node,
            lost: match random.between(0, 3) {
                0 => Lost::Set,
                1 => Lost::Table,
                _ => Lost::All,
            },
        },
        80..=87 => Deed::RemoveContainer { node, number: random.between(0, 99) },
        88..=91 => Deed::Ghost { node },
        92..=95 => Deed::Replay { node },
        96 => Deed::Look { node },
        97..=98 => Deed::Unplug { node, number: random.between(0, 1), for_ms: random.between(1000, 60_000) },
        _ => return None,
    })
}

fn way(random: &mut Random) -> Way {
    match random.between(0, 3) {
        0 => Way::Up,
        1 => Way::Down,
        _ => Way::Both,
    }
}

/// How wrong a clock is after a start: mostly not at all, else by days, or by all time since 1970.
fn clock(random: &mut Random) -> i64 {
    let off = match random.between(0, 9) {
        0 => random.between(0, 30 * DAY_MS),
        1 => crate::world::START.0 - random.between(0, 100_000),
        _ => 0,
    };
    let off = i64::try_from(off).expect("less than since 1970");
    // Nobody's clock is before 1970; a battery that is empty says 1970.
    if random.per_mille(500) && off < i64::try_from(30 * DAY_MS).expect("small") { off } else { -off }
}
