//! Whether a node takes one more instance: the one question that planner and committer both ask.

use crate::{
    amount::Amount,
    demand::{Affinity, Demand, Over, Port, Relation, Spread},
    device::{self, Grant, Slot},
    engine::Engine,
    fleet::{Class, Fleet, NodeIndex},
    group::{Count, Group, GroupIndex},
    score::Judgement,
    selection::Selections,
};

/// Why a node does not take an instance: the first rule that it breaks, in this order. Resources come last: a node that
/// misses only these is the nearest miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// There is no such node or group, or the node takes nothing now.
    Unavailable,
    /// Its class is not one on which the demand may be.
    Class,
    /// It is not one of the nodes on which the demand may be.
    Node,
    /// The demand's affinity at this place of its list does not hold.
    Affinity(usize),
    /// An instance of this group is in the same place and keeps it away.
    AvoidedBy(GroupIndex),
    /// It would be more uneven than the demand's rule at this place of its list allows.
    Spread(usize),
    /// Another instance holds this port.
    Port(Port),
    /// It holds as many instances of the group as it may: so many.
    PerNode(u32),
    /// It has not what the demand's device at this place of its list asks for.
    Device(usize),
    /// It lacks this much; zero in what it has enough of.
    Resources(Amount),
}

/// What is looked upon as freed on a node: what would be so if certain instances were not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// CPU and memory.
    pub amount: Amount,
    /// Ports.
    pub ports: Vec<Port>,
    /// Devices.
    pub devices: Vec<Grant>,
    /// Instances by group: how many in all, and how many of them count for evenness.
    pub groups: Vec<(GroupIndex, Count)>,
}

impl Credit {
    fn of(&self, group: GroupIndex) -> Count {
        self.groups.iter().filter(|(other, _)| *other == group).fold(Count::default(), |sum, (_, count)| Count {
            counted: sum.counted + count.counted,
            total: sum.total + count.total,
        })
    }
}

/// What questions are answered from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'e> {
    pub(crate) fleet: &'e Fleet,
    pub(crate) groups: &'e [Option<Group>],
    pub(crate) selections: &'e Selections,
}

/// A node that is asked, with all that the answer depends on.
struct Asked<'e> {
    view: View<'e>,
    node: NodeIndex,
    class: &'e Class,
    index: GroupIndex,
    group: &'e Group,
    demand: &'e Demand,
    credit: &'e Credit,
}

impl Engine {
    /// Whether a node takes one more instance of a group.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, node: NodeIndex, group: GroupIndex) -> Result<(), Miss> {
        self.view().check(node, group, &Credit::default())
    }

    /// The same if `credit` were freed there.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_with(&self, node: NodeIndex, group: GroupIndex, credit: &Credit) -> Result<(), Miss> {
        self.view().check(node, group, credit)
    }

    /// How good a node would be for one more instance if `credit` were freed there; of two the lesser is better. It is not
    /// asked whether there is room. `None` = no such node or group.
    #[must_use]
    pub fn judge(&self, node: NodeIndex, index: GroupIndex, credit: &Credit) -> Option<Judgement> {
        let group = self.group(index)?;
        let shape = self.fleet().shape(node)?;
        let class = self.fleet().class(shape.class);
        let gone = credit.of(index).counted;
        let there = |over| there(group, over, class, node).saturating_sub(gone);
        let counts = group.demand().spread.iter().map(|rule| there(rule.over)).collect();
        let free = self.fleet().free_if(node, credit.amount);
        Some(Judgement::new(counts, free, &shape, class.need(group.demand().amount)))
    }

    /// The devices that an instance of a group would be given on a node.
    ///
    /// # Errors
    /// What the node has not.
    pub fn grant(&self, node: NodeIndex, group: GroupIndex) -> Result<Vec<Grant>, Miss> {
        self.grant_with(node, group, &Credit::default())
    }

    /// The same if `credit` were freed there.
    ///
    /// # Errors
    /// What the node has not.
    pub fn grant_with(&self, node: NodeIndex, group: GroupIndex, credit: &Credit) -> Result<Vec<Grant>, Miss> {
        let group = self.group(group).ok_or(Miss::Unavailable)?;
        granted(self.fleet().devices(node), group.demand(), credit)
    }
}

impl<'e> View<'e> {
    pub(crate) fn group(self, group: GroupIndex) -> Option<&'e Group> {
        self.groups.get(group.0 as usize)?.as_ref()
    }

    pub(crate) fn check(self, node: NodeIndex, index: GroupIndex, credit: &Credit) -> Result<(), Miss> {
        let group = self.group(index).ok_or(Miss::Unavailable)?;
        let (class, _) = self.fleet.placed(node).ok_or(Miss::Unavailable)?;
        let demand = &group.demand;
        if !self.selections.allows(demand.selection, class) {
            return Err(Miss::Class);
        }
        if demand.nodes.as_ref().is_some_and(|nodes| nodes.binary_search(&node).is_err()) {
            return Err(Miss::Node);
        }
        let asked = Asked { view: self, node, class: self.fleet.class(class), index, group, demand, credit };
        asked.affinities()?;
        asked.evenness()?;
        asked.ports()?;
        if let Some(limit) = demand.per_node_max.filter(|limit| asked.there(Over::Node).total >= *limit) {
            return Err(Miss::PerNode(limit));
        }
        asked.devices()?;
        asked.resources()
    }

    /// Whether a group is kept away from a node by somebody in a place of several nodes.
    pub(crate) fn is_kept_off_a_place(self, node: NodeIndex, index: GroupIndex) -> bool {
        let (Some(group), Some((class, _))) = (self.group(index), self.fleet.placed(node)) else { return false };
        let class = self.fleet.class(class);
        let own = group.demand.affinities.iter().map(|rule| (rule.group, rule.within, rule.relation));
        let all = own.chain(group.named_by.iter().copied());
        let mut there = all.filter_map(|(other, within, relation)| match (within, relation) {
            (Over::Domain(key), Relation::Without) => Some(self.group(other)?.at(key, class.value(key)).total),
            (Over::Domain(_), Relation::With) | (Over::Node, _) => None,
        });
        there.any(|count| count > 0)
    }

    /// The lowest count of a rule's places, of those that have a node that is meant: what [`Spread::skew_max`] is counted
    /// from.
    pub(crate) fn floor(self, group: &Group, over: Over) -> u32 {
        let selection = group.demand.selection;
        let lowest = match (&group.demand.nodes, over) {
            (Some(nodes), _) => self.meant(group, nodes).map(|(node, class)| there(group, over, class, node)).min(),
            (None, Over::Domain(key)) => {
                let (tally, hosts) = (group.tally(key), self.selections.hosts(selection, Some(key)));
                let (Some(tally), Some(hosts)) = (tally, hosts) else { return 0 };
                let is_full =
                    tally.levels.len() >= hosts.len() && tally.counted_among(hosts.keys().copied()) == hosts.len();
                let first = tally.levels.iter().find(|(_, value)| is_full && hosts.contains_key(value));
                first.map(|(count, _)| *count)
            }
            (None, Over::Node) => {
                let hosting = self.selections.hosting(selection);
                if (group.holders() as u64) < hosting {
                    return 0;
                }
                let nodes: Vec<NodeIndex> = group.nodes().map(|(node, _)| node).collect();
                let counts = || self.meant(group, &nodes).map(|(node, class)| group.on(class, node).counted);
                let held = counts().filter(|count| *count > 0).count() as u64;
                if held < hosting { None } else { counts().min() }
            }
        };
        lowest.unwrap_or_default()
    }

    /// Of some nodes those that count for evenness and are of an allowed class.
    pub(crate) fn meant<'n>(
        self,
        group: &'n Group,
        nodes: &'n [NodeIndex],
    ) -> impl Iterator<Item = (NodeIndex, &'n Class)> + use<'n, 'e>
    where
        'e: 'n,
    {
        nodes.iter().filter_map(move |node| {
            let class = self.fleet.hosting(*node)?;
            let allowed = self.selections.allows(group.demand.selection, class);
            allowed.then(|| (*node, self.fleet.class(class)))
        })
    }

    /// Whether an affinity holds where so many of the other group are.
    pub(crate) fn holds(group: &Group, index: GroupIndex, rule: Affinity, there: u32) -> bool {
        match rule.relation {
            Relation::Without => there == 0,
            Relation::With => there > 0 || (rule.group == index && group.total() == 0),
        }
    }
}

impl Asked<'_> {
    /// How many siblings are in the same place, without those looked upon as gone.
    fn there(&self, over: Over) -> Count {
        self.others(self.index, over)
    }

    /// How many instances of a group are in the same place, without those looked upon as gone.
    fn others(&self, other: GroupIndex, over: Over) -> Count {
        let Some(group) = self.view.group(other) else { return Count::default() };
        let all = match over {
            Over::Domain(key) => group.at(key, self.class.value(key)),
            Over::Node => group.on(self.class, self.node),
        };
        let gone = self.credit.of(other);
        Count { counted: all.counted.saturating_sub(gone.counted), total: all.total.saturating_sub(gone.total) }
    }

    fn affinities(&self) -> Result<(), Miss> {
        for (place, rule) in self.demand.affinities.iter().enumerate() {
            if !View::holds(self.group, self.index, *rule, self.others(rule.group, rule.within).total) {
                return Err(Miss::Affinity(place));
            }
        }
        for (other, within, relation) in &self.group.named_by {
            if *relation == Relation::Without && self.others(*other, *within).total > 0 {
                return Err(Miss::AvoidedBy(*other));
            }
        }
        Ok(())
    }

    fn evenness(&self) -> Result<(), Miss> {
        for (place, rule) in self.demand.spread.iter().enumerate() {
            let Spread { over, skew_max: Some(skew) } = *rule else { continue };
            let there = self.there(over).counted;
            let floor = self.view.floor(self.group, over).min(there);
            if there >= floor.saturating_add(skew) {
                return Err(Miss::Spread(place));
            }
        }
        Ok(())
    }

    fn ports(&self) -> Result<(), Miss> {
        let taken = |port: &&Port| {
            let held = self.view.fleet.ports.get(*port).and_then(|holders| holders.get(&self.node)).copied();
            let gone = self.credit.ports.iter().filter(|freed| freed == port).count();
            held.unwrap_or_default() as usize > gone
        };
        self.demand.ports.iter().find(taken).map_or(Ok(()), |port| Err(Miss::Port(*port)))
    }

    fn devices(&self) -> Result<(), Miss> {
        if self.demand.devices.is_empty() {
            return Ok(());
        }
        granted(self.view.fleet.devices(self.node), self.demand, self.credit).map(|_| ())
    }

    fn resources(&self) -> Result<(), Miss> {
        // More may have been given away than there is; what is freed pays for that first.
        let free = self.view.fleet.free_if(self.node, self.credit.amount);
        let wanted = self.demand.amount;
        if free.fits(wanted) { Ok(()) } else { Err(Miss::Resources(wanted.saturating_sub(free))) }
    }
}

/// How many siblings that count are where a node is.
fn there(group: &Group, over: Over, class: &Class, node: NodeIndex) -> u32 {
    match over {
        Over::Domain(key) => group.at(key, class.value(key)).counted,
        Over::Node => group.on(class, node).counted,
    }
}

fn granted(slots: &[Slot], demand: &Demand, credit: &Credit) -> Result<Vec<Grant>, Miss> {
    if demand.devices.is_empty() {
        return Ok(Vec::new());
    }
    let mut slots = slots.to_vec();
    for gone in &credit.devices {
        if let Some(slot) = slots.get_mut(gone.slot as usize) {
            slot.used = slot.used.saturating_sub(gone.shares);
        }
    }
    device::grant(&slots, &demand.devices).map_err(Miss::Device)
}
