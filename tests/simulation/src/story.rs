//! What happens to a world from outside: made from a seed as it goes, or read from a scenario; told as text in both cases.

pub mod text;

use std::collections::VecDeque;

use crate::{event::NodeIndex, random::Random, scenario::Scenario, shape::Shape};

/// Which of its ways a link loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the agent says.
    Up,
    /// What the scheduler says.
    Down,
    /// Both.
    Both,
}

/// Which nodes a cut concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One node.
    Node(NodeIndex),
    /// All nodes of a site.
    Site(usize),
}

/// What a disk forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The assignment set.
    Set,
    /// The service table.
    Table,
    /// Both, and who is where.
    All,
}

/// One thing that is done to the world. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The scheduler dies once so many of its next effects are done, for so long; its clock is wrong by so much after.
    SchedulerDies { effects: u64, down_ms: u64, clock_ms: i64 },
    /// The scheduler is stopped, and goes on with all that came meanwhile.
    SchedulerFreezes { for_ms: u64 },
    /// The scheduler's disk is slow.
    SlowDisk { for_ms: u64 },
    /// The power of everything goes, and comes back one by one.
    BlackOut { most_ms: u64 },
    /// No image can be had.
    RegistryAway { for_ms: u64 },
    /// An agent dies; its clock is wrong by so much after.
    AgentDies { node: NodeIndex, down_ms: u64, clock_ms: i64 },
    /// An agent is stopped, and goes on with all that came meanwhile.
    AgentFreezes { node: NodeIndex, for_ms: u64 },
    /// A machine loses power, and comes back, perhaps with other hardware.
    PowerOff { node: NodeIndex, for_ms: u64, cpu_millis: Option<u64> },
    /// containerd dies.
    ContainerdDies { node: NodeIndex, for_ms: u64 },
    /// What containerd is told to do hangs.
    ContainerdHangs { node: NodeIndex, for_ms: u64 },
    /// A link is cut.
    Cut { place: Place, way: Way, for_ms: u64 },
    /// A connection breaks.
    Break { node: NodeIndex },
    /// An agent's disk forgets, and the agent dies.
    DiskForgets { node: NodeIndex, lost: Lost },
    /// Somebody removes a container by hand: the one with this number.
    RemoveContainer { node: NodeIndex, number: u64 },
    /// An earlier scheduler sends what it once decided.
    Ghost { node: NodeIndex },
    /// What an agent said on an earlier session arrives once more.
    Replay { node: NodeIndex },
    /// An event hints that something changed; nothing did.
    Look { node: NodeIndex },
    /// Somebody unplugs a device, the one with this number, and plugs it in again.
    Unplug { node: NodeIndex, number: u64, for_ms: u64 },
    /// A person wants a workload like this.
    Apply(Box<Shape>),
    /// A person wants so many replicas.
    Scale { workload: String, replicas: u32 },
    /// A person wants a workload to go.
    Delete { workload: String },
    /// A person cordons a node for a while.
    Cordon { node: NodeIndex, for_ms: u64 },
    /// A person drains a node for a while.
    Drain { node: NodeIndex, for_ms: u64 },
    /// A person has a node forgotten, and it joins again.
    Forget { node: NodeIndex, for_ms: u64 },
    /// A person gives up data: of one slot, or of all.
    ForgetVolume { workload: String, slot: Option<u32> },
    /// A person says that what is silent of a site is dead.
    Resume { site: usize },
    /// A person has what would be better elsewhere moved there.
    Rebalance,
}

impl Deed {
    /// Whether a person does it.
    #[must_use]
    pub fn is_wish(&self) -> bool {
        match self {
            Self::Apply(_) | Self::Scale { .. } | Self::Delete { .. } => true,
            Self::Cordon { .. } | Self::Drain { .. } | Self::Forget { .. } => true,
            Self::ForgetVolume { .. } | Self::Resume { .. } | Self::Rebalance => true,
            Self::SchedulerDies { .. } | Self::SchedulerFreezes { .. } | Self::SlowDisk { .. } => false,
            Self::BlackOut { .. } | Self::RegistryAway { .. } | Self::AgentDies { .. } => false,
            Self::AgentFreezes { .. } | Self::PowerOff { .. } | Self::ContainerdDies { .. } => false,
            Self::ContainerdHangs { .. } | Self::Cut { .. } | Self::Break { .. } | Self::DiskForgets { .. } => false,
            Self::RemoveContainer { .. } | Self::Ghost { .. } | Self::Replay { .. } | Self::Look { .. } => false,
            Self::Unplug { .. } => false,
        }
    }
}

/// Where deeds come from.
#[derive(Debug)]
enum Source {
    /// They are made up as the story goes.
    Seed(Random),
    /// They were written down: faults and wishes, each with its millisecond.
    Script { faults: VecDeque<(u64, Deed)>, wishes: VecDeque<(u64, Deed)> },
}

/// The deeds of a world.
#[derive(Debug)]
pub struct Story {
    source: Source,
    /// What was done so far, with its millisecond since the start: a scenario that tells the same story.
    pub told: Vec<(u64, Deed)>,
}

impl Story {
    /// A story that the seed makes up.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        // Another stream than that of delays and failures: a scenario has the same ones without it.
        Self { source: Source::Seed(Random::new(seed ^ 0x5354_4F52_5900_0000)), told: Vec::new() }
    }

    /// A story that was written down.
    #[must_use]
    pub fn of_scenario(scenario: &Scenario) -> Self {
        let of = |wish| scenario.deeds.iter().filter(move |(_, deed)| deed.is_wish() == wish).cloned().collect();
        Self { source: Source::Script { faults: of(false), wishes: of(true) }, told: Vec::new() }
    }

    /// Chance, for a story that is made up.
    pub fn random(&mut self) -> Option<&mut Random> {
        match &mut self.source {
            Source::Seed(random) => Some(random),
            Source::Script { .. } => None,
        }
    }

    /// The millisecond of the next deed that was written down: a wish, or a fault.
    #[must_use]
    pub fn next_at(&self, wish: bool) -> Option<u64> {
        match &self.source {
            Source::Seed(_) => None,
            Source::Script { faults, wishes } => if wish { wishes } else { faults }.front().map(|(at, _)| *at),
        }
    }

    /// Takes the next deed that was written down, if it is due.
    pub fn take(&mut self, wish: bool, now: u64) -> Option<Deed> {
        match &mut self.source {
            Source::Seed(_) => None,
            Source::Script { faults, wishes } => {
                let queue = if wish { wishes } else { faults };
                if queue.front().is_none_or(|(at, _)| *at > now) {
                    return None;
                }
                queue.pop_front().map(|(_, deed)| deed)
            }
        }
    }
}
