//! Who gives way: the instances of lower priority on one node whose end makes room for one more of a group.
//!
//! A plan is complete or there is none: [`Engine::check_with`] says that the instance fits once its victims are gone. Only
//! lower priorities give way, so that nobody who was displaced can displace back.

mod search;

use crate::{
    amount::Amount,
    check::Miss,
    demand::{Demand, Port, Relation},
    device::Grant,
    engine::Engine,
    fleet::{Intake, NodeIndex},
    group::GroupIndex,
    preemption::search::Search,
};

/// Priorities from this on give way to nobody.
const LEVELS: usize = 3;

/// So many nodes are looked at closely, those that lack least first; further ones only as long as there is no plan.
const LOOKS_MAX: usize = 64;

/// What instances of each lower priority hold on each node. The owner tells of those that may be displaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Displaceable {
    nodes: Vec<Below>,
}

/// What may be displaced on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Below {
    levels: [Amount; LEVELS],
    leaving: Amount,
}

/// An instance that may have to give way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Which, as the owner numbers them: the youngest has the greatest number.
    pub key: u64,
    /// Its group.
    pub group: GroupIndex,
    /// Its priority.
    pub priority: u8,
    /// What it holds of CPU and memory.
    pub amount: Amount,
    /// The ports that it holds.
    pub ports: Vec<Port>,
    /// The devices that it holds.
    pub devices: Vec<Grant>,
    /// Whether it counts for evenness.
    pub counted: bool,
    /// Whether it ends anyway: its room is waited for before somebody else must go.
    pub leaves: bool,
}

/// Who gives way, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preemption {
    /// The node that takes the instance then.
    pub node: NodeIndex,
    /// Who ends for it, the lowest priorities first; nobody, where those that leave anyway are enough.
    pub victims: Vec<u64>,
}

/// What a plan costs, the most important first; lower is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    /// How many give way of each priority, the highest first.
    counts: [u32; LEVELS],
    /// What they hold.
    weight: u64,
    /// The node's place among equals.
    order: u32,
}

/// A node that could do, as far as sums tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prospect {
    /// The highest priority that must give way at least.
    level: usize,
    lack: u64,
    order: u32,
    node: NodeIndex,
}

impl Displaceable {
    /// Notes an instance that may be displaced.
    pub fn add(&mut self, node: NodeIndex, priority: u8, amount: Amount) {
        self.change(node, priority, false, |held| sum(held, amount));
    }

    /// Notes that an instance ends anyway.
    pub fn leave(&mut self, node: NodeIndex, priority: u8, amount: Amount) {
        self.change(node, priority, false, |held| difference(held, amount));
        self.change(node, priority, true, |held| sum(held, amount));
    }

    /// Forgets an instance: it is gone, or may be displaced no more. `leaves` tells whether [`Self::leave`] was called.
    pub fn remove(&mut self, node: NodeIndex, priority: u8, amount: Amount, leaves: bool) {
        self.change(node, priority, leaves, |held| difference(held, amount));
    }

    /// The lowest priority up to which all must give way so that `free` grows to `wanted`; `None` = not below `priority`.
    /// What leaves anyway is looked upon as gone, whatever its priority.
    fn level(&self, node: NodeIndex, priority: u8, free: Amount, wanted: Amount) -> Option<usize> {
        let held = self.nodes.get(node.0 as usize)?;
        let mut free = free.saturating_add(held.leaving);
        for (level, held) in held.levels.iter().enumerate().take(usize::from(priority)) {
            free = free.saturating_add(*held);
            if free.fits(wanted) {
                return Some(level);
            }
        }
        None
    }

    fn change(&mut self, node: NodeIndex, priority: u8, leaves: bool, change: impl FnOnce(Amount) -> Amount) {
        let (node, level) = (node.0 as usize, usize::from(priority));
        if level >= LEVELS {
            return;
        }
        if self.nodes.len() <= node {
            self.nodes.resize(node + 1, Default::default());
        }
        let held = &mut self.nodes[node];
        let held = if leaves { &mut held.leaving } else { &mut held.levels[level] };
        *held = change(*held);
    }
}

/// Adds so that [`difference`] undoes it, whatever it comes to.
fn sum(held: Amount, amount: Amount) -> Amount {
    Amount {
        cpu_millis: held.cpu_millis.wrapping_add(amount.cpu_millis),
        memory_kib: held.memory_kib.wrapping_add(amount.memory_kib),
    }
}

fn difference(held: Amount, amount: Amount) -> Amount {
    Amount {
        cpu_millis: held.cpu_millis.wrapping_sub(amount.cpu_millis),
        memory_kib: held.memory_kib.wrapping_sub(amount.memory_kib),
    }
}

/// Finds the node and the instances to displace for one more instance of a group, which fits nowhere now: as few as can be
/// of the highest priority, then of the next, then the least amount. `victims_on` gives those of `displaceable` on a node.
///
/// Where somebody keeps the group away from a place of several nodes (a rack, a site), nobody is displaced for it.
///
/// The best of the [`LOOKS_MAX`] nodes that lack least of what gives way first; the search on a node with very many
/// different instances ends early with a plan from which nobody can be spared.
pub fn preempt(
    engine: &Engine,
    displaceable: &Displaceable,
    group: GroupIndex,
    victims_on: impl Fn(NodeIndex) -> Vec<Victim>,
) -> Option<Preemption> {
    let demand = engine.group(group)?.demand();
    let mut prospects: Vec<Prospect> =
        engine.fleet().nodes().filter_map(|node| prospect(engine, displaceable, group, demand, node)).collect();
    prospects.sort_unstable();
    let mut best: Option<(Cost, Preemption)> = None;
    for (looked, prospect) in prospects.into_iter().enumerate() {
        if let Some((cost, _)) = &best
            && (looked >= LOOKS_MAX || cost.highest().is_none_or(|highest| highest < prospect.level))
        {
            break;
        }
        let victims = candidates(demand, group, victims_on(prospect.node));
        let Some((cost, victims)) = Search::best(engine, group, prospect, &victims) else { continue };
        if best.as_ref().is_none_or(|(lowest, _)| cost < *lowest) {
            best = Some((cost, Preemption { node: prospect.node, victims }));
        }
    }
    best.map(|(_, plan)| plan)
}

fn prospect(
    engine: &Engine,
    displaceable: &Displaceable,
    group: GroupIndex,
    demand: &Demand,
    node: NodeIndex,
) -> Option<Prospect> {
    let (shape, free) = (engine.fleet().shape(node)?, engine.fleet().free(node));
    let level =
        displaceable.level(node, demand.priority, free, demand.amount).filter(|_| shape.intake == Intake::Open)?;
    if engine.view().is_kept_off_a_place(node, group) {
        // Only the node is kept until the room is used: who ends here may be placed elsewhere in that place meanwhile.
        return None;
    }
    match engine.check(node, group) {
        // Nobody's end makes a difference to these.
        Ok(()) | Err(Miss::Unavailable | Miss::Class | Miss::Node | Miss::Spread(_) | Miss::PerNode(_)) => None,
        Err(Miss::Affinity(_) | Miss::AvoidedBy(_) | Miss::Port(_) | Miss::Device(_) | Miss::Resources(_)) => {
            let lack = weight(demand.amount.saturating_sub(free));
            Some(Prospect { level, lack, order: shape.order, node })
        }
    }
}

/// Those who may give way for a demand: of lower priority, and not somebody whom it wants to be with.
fn candidates(demand: &Demand, group: GroupIndex, mut victims: Vec<Victim>) -> Vec<Victim> {
    let company = |victim: &Victim| {
        demand.affinities.iter().any(|rule| rule.relation == Relation::With && rule.group == victim.group)
    };
    victims.retain(|victim| {
        let level = usize::from(victim.priority);
        level < LEVELS && victim.priority < demand.priority && victim.group != group && !company(victim)
    });
    victims
}

/// An amount as one number: one CPU weighs as much as 4 GiB, the usual shape of a machine.
pub(crate) fn weight(amount: Amount) -> u64 {
    const KIB_PER_CPU_MILLI: u64 = (4 << 20) / 1_000;
    u64::from(amount.cpu_millis) * KIB_PER_CPU_MILLI + u64::from(amount.memory_kib)
}

impl Cost {
    /// The highest priority that gives way; `None` = nobody.
    fn highest(&self) -> Option<usize> {
        self.counts.iter().position(|count| *count > 0).map(|place| LEVELS - 1 - place)
    }
}
