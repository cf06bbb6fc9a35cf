//! How fast lost nodes are given up: the first ones of a site at once, then so many in a time, fewer while much of the
//! site is silent, none while it is frozen, all when an operator says that they are dead.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    id::{NodeId, WorkloadId},
    time::Timestamp,
    workload::WorkloadKind,
};

use crate::{
    cluster::{Cluster, held::Held},
    effect::Refusal,
    history::Subject,
    machine::Scheduler,
    settings::{Pace, Settings},
    timers::Timer,
};

/// Which silent nodes may be replaced, and which wait for their turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ladder {
    sites: BTreeMap<String, Turns>,
    /// Silent nodes whose turn came.
    given_up: BTreeSet<NodeId>,
    /// Silent nodes of which an operator said that they are dead.
    overruled: BTreeSet<NodeId>,
}

/// The turns of one site (generic cell rate algorithm, ITU-T I.371: one time instead of a bucket and its filling).
#[derive(Clone, Debug, Default)]
struct Turns {
    /// Who waits, and since when it could have been replaced.
    waiting: BTreeSet<(Timestamp, NodeId)>,
    /// Up to when turns are used up at the present pace.
    booked_until: Timestamp,
    /// Whether people know that some wait.
    told: bool,
}

impl Turns {
    /// When the next node may go.
    fn next_at(&self, now: Timestamp, pace: Pace) -> Timestamp {
        let ahead = self.booked_until.since(now).min(pace.interval_ms.saturating_mul(pace.at_once));
        now + ahead.saturating_sub(pace.interval_ms.saturating_mul(pace.at_once - 1))
    }

    /// Uses one turn.
    fn book(&mut self, now: Timestamp, pace: Pace) {
        let ahead = self.booked_until.since(now).min(pace.interval_ms.saturating_mul(pace.at_once));
        self.booked_until = now + ahead + pace.interval_ms;
    }
}

impl Ladder {
    /// Whether the instances of a silent node may be replaced.
    pub(crate) fn is_given_up(&self, node: &NodeId) -> bool {
        self.given_up.contains(node)
    }

    /// Whether an operator said that a silent node is dead.
    pub(crate) fn is_overruled(&self, node: &NodeId) -> bool {
        self.overruled.contains(node)
    }

    /// Forgets what is not silent any more.
    pub(crate) fn forget_living(&mut self, cluster: &Cluster) {
        let is_silent = |node: &NodeId| cluster.nodes.get(node).is_some_and(|entry| !entry.is_ready());
        self.given_up.retain(is_silent);
        self.overruled.retain(is_silent);
    }
}

impl Scheduler {
    /// Asks for the turns of the silent nodes on which instances of a service are due to be replaced.
    pub(crate) fn ask_turns(&mut self, id: &WorkloadId) {
        let Some(entry) = self.cluster.workloads.get(id) else { return };
        let replace_after_ms = entry.spec().disconnect.replace_after_ms;
        let mut due: BTreeMap<String, BTreeSet<(Timestamp, NodeId)>> = BTreeMap::new();
        for held in self.cluster.instances_of(id).filter(|held| held.is_wanted() && !held.node().is_ready()) {
            let Some((node, at)) = self.waits_its_turn(held, replace_after_ms) else { continue };
            due.entry(node.spec.site.clone()).or_default().insert((at, node.spec.id.clone()));
        }
        for (site, mut nodes) in due {
            self.ladder.sites.entry(site.clone()).or_default().waiting.append(&mut nodes);
            self.give_turns(&site);
        }
    }

    /// Whether an instance would be replaced by now, were its node not waiting for its turn.
    pub(crate) fn is_queued(&self, held: Held<'_>) -> bool {
        let turns = self.ladder.sites.get(&held.node().spec.site);
        turns.is_some_and(|turns| turns.waiting.iter().any(|(_, node)| node == held.node_id()))
            && self.waits_its_turn(held, held.spec().disconnect.replace_after_ms).is_some()
            && held.spec().kind != WorkloadKind::Daemon
    }

    /// Gives up the nodes of a site whose turn has come, and sets a timer for the next.
    pub(crate) fn give_turns(&mut self, site: &str) {
        let Some(mut turns) = self.ladder.sites.remove(site) else { return };
        let (nodes, silent) = self.count_site(site);
        let pace = self.settings.pace(nodes, silent);
        let mut next = None;
        while let Some((_, node)) = turns.waiting.first().cloned() {
            let is_due = self.cluster.nodes.get(&node).is_some_and(|entry| !entry.is_ready());
            if is_due && !self.frozen.contains(&node) && !self.ladder.given_up.contains(&node) {
                let at = turns.next_at(self.now, pace);
                if at > self.now && !self.ladder.overruled.contains(&node) {
                    next = Some(at);
                    break;
                }
                turns.book(self.now, pace);
                self.ladder.given_up.insert(node.clone());
                self.cluster.touch_instances_on(&node);
            }
            turns.waiting.pop_first();
        }
        if let Some(at) = next {
            self.timers.set(at, Timer::Turn(site.to_owned()));
            if !turns.told {
                let (waiting, per_minute) = (turns.waiting.len(), 60_000 / pace.interval_ms);
                let message = format!(
                    "{silent} of {nodes} nodes are silent: after the first {}, {per_minute} a minute are replaced, \
                     {waiting} wait; `wherry site resume {site}` replaces all at once",
                    pace.at_once
                );
                self.history.add(self.now, Subject::Site(site), "site-slowed", message);
            }
        }
        turns.told = next.is_some();
        if next.is_some() || turns.booked_until > self.now {
            self.ladder.sites.insert(site.to_owned(), turns);
        }
    }

    /// An operator says that what is silent of a site is dead: it is replaced now, as far as its workloads allow.
    pub(crate) fn resume_site(&mut self, site: &str) -> Result<String, Refusal> {
        if self.is_warming_up() {
            let reason = "the scheduler has just started and waits for the nodes to report: ask again in a few seconds";
            return Err(Refusal::Conflict(reason.to_owned()));
        }
        let mut here = self.cluster.nodes.values().filter(|entry| entry.spec.site == site).peekable();
        if here.peek().is_none() {
            return Err(Refusal::UnknownSite(site.to_owned()));
        }
        let silent: Vec<NodeId> = here.filter(|entry| !entry.is_ready()).map(|entry| entry.spec.id.clone()).collect();
        if silent.is_empty() {
            return Err(Refusal::Conflict(format!("no node of site `{site}` is silent: there is nothing to replace")));
        }
        for node in &silent {
            self.ladder.overruled.insert(node.clone());
            self.cluster.touch_instances_on(node);
        }
        self.cluster.touched.liveness = true;
        let count = silent.len();
        let message = format!("an operator gave up {count} silent {}", if count == 1 { "node" } else { "nodes" });
        self.history.add(self.now, Subject::Site(site), "site-given-up", message.clone());
        Ok(format!("site {site}: {message}"))
    }

    fn count_site(&self, site: &str) -> (usize, usize) {
        let (mut nodes, mut silent) = (0, 0);
        for entry in self.cluster.nodes.values() {
            if entry.spec.site == site && entry.silent_since().is_some() {
                nodes += 1;
                silent += usize::from(!entry.is_ready());
            }
        }
        (nodes, silent)
    }
}

impl Settings {
    /// How fast the lost nodes of a site may be given up when so many of its nodes are silent.
    pub(crate) fn pace(&self, nodes: usize, silent: usize) -> Pace {
        let is_bad = silent * 5 > nodes;
        let interval_ms = if is_bad { self.give_up_slow_interval_ms } else { self.give_up_interval_ms };
        // A fiftieth of a large site counts as one node of a small one: what can be started elsewhere grows with it.
        let share = u64::try_from(nodes / 50).unwrap_or(u64::MAX).max(1);
        Pace { at_once: self.give_up_at_once.max(1).saturating_mul(share), interval_ms: (interval_ms / share).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_go_at_once_and_the_rest_at_the_pace() {
        let (pace, mut turns) = (Pace { at_once: 3, interval_ms: 5_000 }, Turns::default());
        let mut now = Timestamp(1_000_000);
        let mut gone = Vec::new();

        for _ in 0..6 {
            now = turns.next_at(now, pace).max(now);
            turns.book(now, pace);
            gone.push(now.0 - 1_000_000);
        }

        assert_eq!(gone, [0, 0, 0, 5_000, 10_000, 15_000]);
    }

    #[test]
    fn turns_come_back_with_time_but_never_more_than_at_first() {
        let (pace, mut turns) = (Pace { at_once: 2, interval_ms: 5_000 }, Turns::default());
        turns.book(Timestamp(0), pace);
        turns.book(Timestamp(0), pace);

        let later = Timestamp(1_000_000);
        turns.book(later, pace);
        turns.book(later, pace);

        assert_eq!(turns.next_at(later, pace), later + 5_000);
    }

    #[test]
    fn what_was_booked_at_a_slow_pace_does_not_hold_up_a_quick_one() {
        let (slow, quick) = (Pace { at_once: 2, interval_ms: 30_000 }, Pace { at_once: 2, interval_ms: 5_000 });
        let (mut turns, now) = (Turns::default(), Timestamp(0));
        turns.book(now, slow);
        turns.book(now, slow);

        assert_eq!(turns.next_at(now, slow), now + 30_000);
        assert_eq!(turns.next_at(now, quick), now + 5_000);
    }

    #[test]
    fn a_large_site_is_replaced_in_the_same_time_as_a_small_one() {
        let settings = Settings::default();

        let (small, large) = (settings.pace(50, 5), settings.pace(5_000, 500));

        assert_eq!(large.at_once, 100 * small.at_once);
        assert_eq!(large.interval_ms, small.interval_ms / 100);
        assert!(settings.pace(50, 11).interval_ms > small.interval_ms);
    }
}
