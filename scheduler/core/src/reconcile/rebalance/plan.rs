//! What a rebalancing would move, by name, and what it could not make better.

use std::collections::BTreeSet;

use api_types::{
    placement::Domain,
    view::{RebalanceMove, RebalancePlan},
};
use scheduler_placement::{Gain, GroupIndex, Miss, NodeIndex, Over, Rebalance, Residual, rebalance};

use crate::{
    cluster::held::Held,
    machine::Scheduler,
    placement::{explain, filters},
};

impl Scheduler {
    /// What a rebalancing would move now, and what it could not make better. Changes nothing.
    #[must_use]
    pub fn rebalance_plan(&self) -> RebalancePlan {
        let (planned, plan) = self.plan_moves();
        let moves = planned.iter().filter_map(|(number, to, why)| {
            let held = self.cluster.held(*number)?;
            Some(RebalanceMove {
                instance: held.id(),
                workload: held.workload().clone(),
                slot: held.slot(),
                from: held.node_id().clone(),
                to: self.cluster.nodes.at(to.0)?.spec.id.clone(),
                gain: gain_text(held, *why),
            })
        });
        RebalancePlan {
            moves: moves.collect(),
            moves_min: plan.moves_min,
            residuals: plan.residuals.iter().filter_map(|residual| self.residual_text(residual)).collect(),
            left: self.rebalance_left(),
        }
    }

    /// How many instances a rebalancing that goes on has not moved yet; 0 = none goes on.
    #[must_use]
    pub fn rebalance_left(&self) -> u32 {
        let left = self.rebalancing.as_ref().map_or(0, |going| going.left());
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Which instances would be better where, by number, and the plan as the engine made it.
    pub(super) fn plan_moves(&self) -> (Vec<(u64, NodeIndex, Gain)>, scheduler_placement::RebalancePlan) {
        let mut engine = self.cluster.ledger.engine.clone();
        let mut groups = Vec::new();
        for id in self.cluster.workloads.keys().filter(|id| self.may_move(id)) {
            let Some(group) = self.cluster.ledger.group(id) else { continue };
            groups.push(group);
            for held in self.cluster.instances_of(id) {
                let counts = self.counts_for_spread(held);
                if counts != held.is_counted() {
                    engine.set_counted(NodeIndex(held.node_index()), group, counts);
                }
            }
        }
        let plan = rebalance(engine, &Rebalance { groups, use_max: self.settings.rebalance_use_max_per_mille });
        let mut chosen: BTreeSet<u64> = BTreeSet::new();
        let mut moves = Vec::new();
        for moved in &plan.moves {
            let Some(id) = self.cluster.ledger.name(moved.group) else { continue };
            let Some(node) = self.cluster.nodes.at(moved.from.0) else { continue };
            let here = self.cluster.instances_on(node).filter(|held| held.workload() == id);
            let free = here.filter(|held| self.counts_for_spread(*held) && !chosen.contains(&held.number));
            // The youngest: the others are warm for longest.
            let Some(number) = free.map(|held| held.number).max() else { continue };
            chosen.insert(number);
            moves.push((number, moved.to, moved.gain));
        }
        (moves, plan)
    }

    fn residual_text(&self, residual: &Residual) -> Option<String> {
        let id = self.cluster.ledger.name(residual.group)?;
        let rule = self.cluster.workloads.get(id)?.spec().placement.spread.get(residual.rule)?;
        let place = self.place_name(residual.group, residual.rule, residual.place, &rule.over)?;
        let why = match residual.miss {
            Some(Miss::Resources(lack)) => {
                format!("the nearest node lacks {}", explain::amount(filters::lack(lack)))
            }
            Some(Miss::Port(port)) => format!("port {} is taken on its nodes", port.number),
            Some(Miss::PerNode(most)) => format!("its nodes hold {most} of at most {most}"),
            Some(Miss::Device(_)) => "its nodes have no device free".to_owned(),
            Some(Miss::Affinity(_) | Miss::AvoidedBy(_)) => "rules about other workloads forbid more".to_owned(),
            Some(Miss::Spread(_)) => "another rule of evenness forbids more".to_owned(),
            Some(Miss::Unavailable | Miss::Class | Miss::Node) | None => "no node of it takes more".to_owned(),
        };
        Some(format!("{id}: {} {place} has {} fewer than the fullest: {why}", rule.over, residual.skew))
    }

    /// What a place is called that the engine knows by a number.
    fn place_name(&self, group: GroupIndex, rule: usize, place: u32, over: &Domain) -> Option<String> {
        let engine = &self.cluster.ledger.engine;
        let Over::Domain(key) = engine.group(group)?.demand().spread.get(rule)?.over else { return None };
        let is_there = |index: u32| {
            let shape = engine.fleet().shape(NodeIndex(index));
            shape.is_some_and(|shape| engine.fleet().value(shape.class, key) == place)
        };
        let (_, node) = self.cluster.nodes.indexed().find(|(index, _)| is_there(*index))?;
        Some(match over {
            Domain::Site => node.spec.site.clone(),
            Domain::Node => node.spec.id.to_string(),
            Domain::Label(name) => node.spec.labels.get(name).cloned().unwrap_or_else(|| "(none)".to_owned()),
        })
    }
}

fn gain_text(held: Held<'_>, gain: Gain) -> String {
    match gain {
        Gain::Headroom => format!("room on {}", held.node_id()),
        Gain::Spread(rule) => {
            let rule = held.spec().placement.spread.get(rule);
            rule.map_or_else(String::new, |rule| format!("more even over {}", rule.over))
        }
    }
}
