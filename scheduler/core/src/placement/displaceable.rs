//! What could give way to something more urgent, by node and priority: what the engine looks through before it searches.

use api_types::{id::WorkloadId, placement::Priority, workload::WorkloadKind};
use scheduler_placement::{Amount, Displaceable, GroupIndex, Miss, NodeIndex, Victim};

use crate::{
    cluster::{Cluster, held::Held},
    placement::holdings::{Taken, request},
};

/// How a sum changes with one instance.
type Change = fn(&mut Displaceable, NodeIndex, u8, Amount);

impl Cluster {
    /// Sums up what could be displaced, unless that is known. Clusters in which nobody is urgent never pay for it.
    pub(crate) fn know_displaceable(&mut self) {
        if self.ledger.displaceable.is_none() {
            self.ledger.displaceable = Some(self.displaceable());
        }
    }

    /// Takes note of an instance that came, may go, or is about to be forgotten, if anybody asked for such sums.
    pub(crate) fn change_displaceable(&mut self, number: u64, change: Change) {
        let Some(mut sums) = self.ledger.displaceable.take() else { return };
        if let Some(held) = self.held(number).filter(|held| self.may_give_way(*held)) {
            change(&mut sums, NodeIndex(held.node_index()), self.priority_of(held) as u8, request(held.reserve()));
        }
        self.ledger.displaceable = Some(sums);
    }

    /// Takes note of how urgent a workload is now. Where less urgent instances are than before, others may find room.
    pub(crate) fn enter_priority(&mut self, id: &WorkloadId, group: GroupIndex, priority: u8) {
        let Some(before) = self.ledger.engine.group(group).filter(|group| group.total() > 0) else { return };
        if priority < before.demand().priority {
            let nodes: Vec<u32> = self.instances_of(id).map(|held| held.node_index()).collect();
            self.touched.room.extend(nodes);
        }
        self.ledger.displaceable = None;
    }

    /// How urgent an instance is: as its workload is now; what was deleted goes anyway.
    pub(crate) fn priority_of(&self, held: Held<'_>) -> Priority {
        let entry = self.workloads.get(held.workload());
        entry.map_or(Priority::Low, |entry| entry.spec().placement.priority)
    }

    /// Who could be displaced on a node, and who leaves it anyway.
    pub(crate) fn victims_on(&self, node: NodeIndex) -> Vec<Victim> {
        let here = self.nodes.at(node.0).into_iter().flat_map(|entry| self.instances_on(entry));
        let victim = |held: Held<'_>| {
            let Taken { amount, ports, devices, counted } = Taken::of(held);
            Some(Victim {
                key: held.number,
                group: self.ledger.group(held.workload())?,
                priority: self.gives_way_as(held)? as u8,
                amount,
                ports,
                devices,
                counted,
                leaves: !held.is_wanted(),
            })
        };
        here.filter_map(victim).collect()
    }

    /// The priority below which an instance counts as in nobody's way: its own, but the lowest for one that leaves and
    /// whose room nobody of its workload takes; `None` = it never gives way.
    pub(crate) fn gives_way_as(&self, held: Held<'_>) -> Option<Priority> {
        if !self.may_give_way(held) {
            return None;
        }
        let is_surplus = !held.is_wanted() && !self.has_free_slots(held.workload());
        Some(if is_surplus { Priority::Low } else { self.priority_of(held) })
    }

    /// The workloads that wait, are urgent, and would fit on a node if what is less urgent went: they look again.
    pub(crate) fn wake_urgent<'p>(
        &self,
        index: u32,
        parked: impl Iterator<Item = &'p WorkloadId>,
    ) -> impl Iterator<Item = &'p WorkloadId> {
        let place = NodeIndex(index);
        let here = self.nodes.at(index).into_iter().flat_map(|node| self.instances_on(node));
        let mut room = [self.ledger.engine.fleet().free(place); 4];
        for held in here.filter(|held| self.may_give_way(*held)) {
            let lower = self.priority_of(held) as usize;
            let amount = request(held.reserve());
            room[lower + 1..].iter_mut().for_each(|room| *room = room.saturating_add(amount));
        }
        parked.filter(move |id| {
            let Some(group) = self.ledger.group(id) else { return false };
            let Some(demand) = self.ledger.engine.group(group).map(|group| group.demand()) else { return false };
            let could = room[usize::from(demand.priority).min(room.len() - 1)];
            could != room[0]
                && could.fits(demand.amount)
                && !matches!(
                    self.ledger.engine.check(place, group),
                    Ok(()) | Err(Miss::Unavailable | Miss::Class | Miss::Node)
                )
        })
    }

    /// Compares the sums, if there are any, with those made anew.
    ///
    /// # Errors
    /// When they differ.
    pub(crate) fn check_displaceable(&self) -> Result<(), String> {
        let Some(mut known) = self.ledger.displaceable.clone() else { return Ok(()) };
        let mut anew = self.displaceable();
        // Both as wide as the table.
        for sums in [&mut known, &mut anew] {
            sums.add(NodeIndex(self.nodes.width()), 0, Amount::default());
        }
        if known == anew { Ok(()) } else { Err("what could be displaced differs from a rebuild".to_owned()) }
    }

    fn displaceable(&self) -> Displaceable {
        let mut sums = Displaceable::default();
        for held in self.instances().filter(|held| self.may_give_way(*held)) {
            let (node, priority) = (NodeIndex(held.node_index()), self.priority_of(held) as u8);
            let amount = request(held.reserve());
            sums.add(node, priority, amount);
            if !held.is_wanted() {
                sums.leave(node, priority, amount);
            }
        }
        sums
    }

    /// Whether an instance may have to give way: a daemon's has no other node to go to, a job's would begin anew.
    fn may_give_way(&self, held: Held<'_>) -> bool {
        let entry = self.workloads.get(held.workload());
        !held.is_finished() && entry.is_none_or(|entry| matches!(entry.spec().kind, WorkloadKind::Service { .. }))
    }

    /// Whether a workload is about to place more instances than it has.
    fn has_free_slots(&self, id: &WorkloadId) -> bool {
        let Some(WorkloadKind::Service { replicas }) = self.workloads.get(id).map(|entry| entry.kind()) else {
            return false;
        };
        let mut slots: Vec<u32> =
            self.instances_of(id).filter(|held| held.is_wanted()).map(|held| held.slot()).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.len() < replicas as usize
    }
}
