//! What no move makes better: how uneven it stays, and what the emptiest place says.

use crate::{
    check::Miss,
    class::{DomainKey, DomainValue},
    demand::Over,
    engine::Engine,
    group::{Group, GroupIndex},
    preemption::weight,
};

/// So many nodes of the emptiest place are asked.
const ASKED_MAX: usize = 64;

/// A rule that stays unmet because the emptier places have no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// Of which group.
    pub group: GroupIndex,
    /// The rule's place in its list.
    pub rule: usize,
    /// By how many the fullest place exceeds the emptiest.
    pub skew: u32,
    /// The value of the property in the emptiest place.
    pub place: DomainValue,
    /// What the node there says that comes nearest to taking one.
    pub miss: Option<Miss>,
}

/// The residual of a rule over a property whose fullest place holds so many.
pub(super) fn of(engine: &Engine, index: GroupIndex, rule: usize, fullest: u32) -> Option<Residual> {
    let group = engine.group(index)?;
    let Over::Domain(key) = group.demand().spread.get(rule)?.over else { return None };
    let tally = group.tally(key)?;
    let hosts = engine.hosts_of(group, key);
    let place = hosts.into_iter().min_by_key(|value| (tally.get(*value).counted, *value))?;
    let skew = fullest.saturating_sub(tally.get(place).counted);
    Some(Residual { group: index, rule, skew, place, miss: nearest_miss(engine, group, index, key, place) })
}

fn nearest_miss(engine: &Engine, group: &Group, index: GroupIndex, key: DomainKey, place: DomainValue) -> Option<Miss> {
    let hosts = engine.view().selections.hosts(group.demand().selection, Some(key));
    let classes = hosts.and_then(|hosts| hosts.get(&place)).into_iter().flatten();
    let fleet = engine.fleet();
    let nodes = classes.flat_map(|class| (0..fleet.class(*class).rows).map(|row| fleet.node_at(*class, row)));
    nodes.take(ASKED_MAX).filter_map(|node| engine.check(node, index).err()).max_by_key(|miss| {
        // The rules that are asked last are the nearest, of lacks the smallest.
        let lack = if let Miss::Resources(lack) = miss { weight(*lack) } else { u64::MAX };
        (matches!(miss, Miss::Resources(_)), std::cmp::Reverse(lack), *miss)
    })
}
