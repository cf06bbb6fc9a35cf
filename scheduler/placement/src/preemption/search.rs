//! The cheapest of all sets of instances on one node: branch and bound over kinds of equal ones.

use super::{Cost, LEVELS, Prospect, Victim, weight};
use crate::{
    amount::Amount,
    check::Credit,
    engine::Engine,
    group::{Count, GroupIndex},
};

/// So many branches of one node are followed; then the best plan so far is taken.
const BRANCHES_MAX: u32 = 1_000;

/// Instances that are alike in all that matters, the youngest first.
#[derive(Debug)]
struct Kind<'v> {
    like: &'v Victim,
    keys: Vec<u64>,
    place: usize,
}

/// What is left of a search from one kind on.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    total: Amount,
    largest: Amount,
    /// The place of the lowest priority in a cost.
    place: usize,
}

/// A search on one node.
#[derive(Debug)]
pub(super) struct Search<'e, 'v> {
    engine: &'e Engine,
    group: GroupIndex,
    prospect: Prospect,
    /// What leaves anyway.
    leaving: Vec<&'v Victim>,
    /// The highest priority first, in it the largest first.
    kinds: Vec<Kind<'v>>,
    rest: Vec<Rest>,
    lack: Amount,
    chosen: Vec<usize>,
    best: Option<(Cost, Vec<usize>)>,
    branches: u32,
}

impl<'e, 'v> Search<'e, 'v> {
    /// The cheapest plan for a node, if there is one: who ends, the lowest priorities first.
    pub(super) fn best(
        engine: &'e Engine,
        group: GroupIndex,
        prospect: Prospect,
        victims: &'v [Victim],
    ) -> Option<(Cost, Vec<u64>)> {
        let mut search = Self::new(engine, group, prospect, victims)?;
        if search.fits() {
            return Some((search.cost(), Vec::new()));
        }
        search.spare()?;
        search.follow(0, Amount::default());
        let (cost, chosen) = search.best?;
        let ended = search.kinds.iter().zip(&chosen).rev().flat_map(|(kind, count)| kind.keys.iter().take(*count));
        Some((cost, ended.copied().collect()))
    }

    fn new(engine: &'e Engine, group: GroupIndex, prospect: Prospect, victims: &'v [Victim]) -> Option<Self> {
        let wanted = engine.group(group)?.demand().amount;
        let leaving: Vec<_> = victims.iter().filter(|victim| victim.leaves).collect();
        let freed =
            leaving.iter().fold(engine.fleet().free(prospect.node), |sum, victim| sum.saturating_add(victim.amount));
        let kinds = kinds(victims.iter().filter(|victim| !victim.leaves));
        let mut rest = vec![Rest { place: LEVELS - 1, ..Rest::default() }; kinds.len() + 1];
        for (index, kind) in kinds.iter().enumerate().rev() {
            let (after, amount) = (rest[index + 1], kind.like.amount);
            let total = kind.keys.iter().fold(after.total, |sum, _| sum.saturating_add(amount));
            let largest = Amount {
                cpu_millis: after.largest.cpu_millis.max(amount.cpu_millis),
                memory_kib: after.largest.memory_kib.max(amount.memory_kib),
            };
            // The last kinds are of the lowest priority.
            let place = if index + 1 == kinds.len() { kind.place } else { after.place };
            rest[index] = Rest { total, largest, place };
        }
        let chosen = vec![0; kinds.len()];
        let lack = wanted.saturating_sub(freed);
        Some(Self { engine, group, prospect, leaving, kinds, rest, lack, chosen, best: None, branches: 0 })
    }

    /// A first plan: all go, then whoever can is spared, the highest priorities and the smallest first. `None` when it is
    /// not enough that all go.
    fn spare(&mut self) -> Option<()> {
        for (chosen, kind) in self.chosen.iter_mut().zip(&self.kinds) {
            *chosen = kind.keys.len();
        }
        if !self.fits() {
            return None;
        }
        let mut order: Vec<usize> = (0..self.kinds.len()).collect();
        order.sort_by_key(|index| {
            let kind = &self.kinds[*index];
            (kind.place, weight(kind.like.amount), *index)
        });
        for index in order {
            while self.chosen[index] > 0 {
                self.chosen[index] -= 1;
                if !self.fits() {
                    self.chosen[index] += 1;
                    break;
                }
            }
        }
        self.best = Some((self.cost(), self.chosen.clone()));
        self.chosen.fill(0);
        Some(())
    }

    /// Tries every number of each kind from here on, as far as it can be cheaper than the best.
    fn follow(&mut self, index: usize, freed: Amount) {
        self.branches += 1;
        if self.branches > BRANCHES_MAX || self.is_hopeless(index, freed) {
            return;
        }
        if index == self.kinds.len() {
            if self.fits() {
                self.best = Some((self.cost(), self.chosen.clone()));
            }
            return;
        }
        let (amount, count) = (self.kinds[index].like.amount, self.kinds[index].keys.len());
        let mut freed = freed;
        for chosen in 0..=count {
            self.chosen[index] = chosen;
            self.follow(index + 1, freed);
            freed = freed.saturating_add(amount);
        }
        self.chosen[index] = 0;
    }

    /// Whether nothing from here on is both enough and cheaper than the best.
    fn is_hopeless(&self, index: usize, freed: Amount) -> bool {
        let (lack, rest) = (self.lack.saturating_sub(freed), self.rest[index]);
        if !rest.total.fits(lack) {
            return true;
        }
        let at_least = |lack: u32, largest: u32| lack.div_ceil(largest.max(1));
        let more =
            at_least(lack.cpu_millis, rest.largest.cpu_millis).max(at_least(lack.memory_kib, rest.largest.memory_kib));
        let mut cost = self.cost();
        cost.counts[rest.place] += more;
        self.best.as_ref().is_some_and(|(best, _)| cost >= *best)
    }

    fn cost(&self) -> Cost {
        let mut cost = Cost { counts: [0; LEVELS], weight: 0, order: self.prospect.order };
        for (kind, chosen) in self.kinds.iter().zip(&self.chosen) {
            let count = u32::try_from(*chosen).unwrap_or(u32::MAX);
            cost.counts[kind.place] += count;
            cost.weight += u64::from(count) * weight(kind.like.amount);
        }
        cost
    }

    /// Whether the instance fits when the chosen ones and those that leave anyway are gone.
    fn fits(&self) -> bool {
        let mut credit = Credit::default();
        self.leaving.iter().for_each(|victim| add(&mut credit, victim));
        for (kind, chosen) in self.kinds.iter().zip(&self.chosen) {
            (0..*chosen).for_each(|_| add(&mut credit, kind.like));
        }
        self.engine.check_with(self.prospect.node, self.group, &credit).is_ok()
    }
}

/// Puts together what is alike.
fn kinds<'v>(victims: impl Iterator<Item = &'v Victim>) -> Vec<Kind<'v>> {
    let mut kinds: Vec<Kind<'v>> = Vec::new();
    for victim in victims {
        let alike = |kind: &&mut Kind<'v>| *kind.like == Victim { key: kind.like.key, ..victim.clone() };
        match kinds.iter_mut().find(alike) {
            Some(kind) => kind.keys.push(victim.key),
            None => {
                let place = LEVELS - 1 - usize::from(victim.priority);
                kinds.push(Kind { like: victim, keys: vec![victim.key], place });
            }
        }
    }
    kinds.iter_mut().for_each(|kind| kind.keys.sort_unstable_by(|a, b| b.cmp(a)));
    kinds.sort_by_key(|kind| (kind.place, std::cmp::Reverse(weight(kind.like.amount)), kind.keys[0]));
    kinds
}

fn add(credit: &mut Credit, victim: &Victim) {
    credit.amount = credit.amount.saturating_add(victim.amount);
    credit.ports.extend(&victim.ports);
    credit.devices.extend(&victim.devices);
    let counted = u32::from(victim.counted);
    match credit.groups.iter_mut().find(|(group, _)| *group == victim.group) {
        Some((_, count)) => *count = Count { counted: count.counted + counted, total: count.total + 1 },
        None => credit.groups.push((victim.group, Count { counted, total: 1 })),
    }
}
