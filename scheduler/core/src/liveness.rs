//! Silence: ready → unreachable → lost, and the warm-up after a restart. How much of a silence is a cut link says `freeze`,
//! how fast lost nodes are replaced says `ladder`.

mod freeze;
pub(crate) mod ladder;

use api_types::{
    counter::SessionId,
    id::NodeId,
    node::{Liveness, NodeFacts},
    time::Timestamp,
};

use crate::{
    cluster::{held::Held, nodes::NodeEntry},
    history::Subject,
    machine::Scheduler,
    reconcile::exclusive::fenced_at,
};

/// What the silence of its node means for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The node is heard of.
    None,
    /// It is waited for: until then, or for ever.
    Waits(Option<Timestamp>),
    /// The instance is to be replaced.
    GivenUp,
}

impl Scheduler {
    /// An agent said hello.
    pub(crate) fn session_opened(&mut self, node: &NodeId, session: SessionId, facts: NodeFacts) {
        let Some(entry) = self.cluster.nodes.get_mut(node).filter(|entry| entry.session < Some(session)) else {
            self.ignored += 1;
            return;
        };
        entry.session = Some(session);
        let rebooted = entry.facts.as_ref().is_some_and(|before| before.boot_id != facts.boot_id);
        let was_away = !entry.is_ready();
        if rebooted || was_away {
            // What its instances were is not what they are: nobody balances to them before its complete report.
            self.cluster.set_synced(node, false);
        }
        self.cluster.set_facts(node, facts, &self.settings.system_reserve);
        // It says what its kernel holds once more: that may be nothing.
        self.cluster.forget_programmed(node);
        self.heard(node, session);
    }

    /// Takes a sign of life; whether it counts: the node is known and the session is its newest.
    pub(crate) fn heard(&mut self, node: &NodeId, session: SessionId) -> bool {
        let Some(entry) = self.cluster.nodes.get_mut(node).filter(|entry| entry.session == Some(session)) else {
            self.ignored += 1;
            return false;
        };
        entry.last_seen = Some(self.now);
        if !entry.is_ready() {
            self.cluster.set_liveness(node, Liveness::Ready);
            self.history.add(self.now, Subject::Node(node), "node-ready", "its heartbeats come");
        }
        let due = self.now + self.settings.unreachable_after_ms();
        self.silence_check_at = Some(self.silence_check_at.map_or(due, |at| at.min(due)));
        true
    }

    /// Looks who fell silent, when it is time to.
    pub(crate) fn check_silence(&mut self) {
        let Some(due) = self.silence_check_at.filter(|due| *due <= self.now) else { return };
        if self.is_warming_up() {
            self.silence_check_at = None;
            return;
        }
        if self.now.since(due) > self.settings.unreachable_after_ms() {
            // This very program was stopped for so long that heartbeats may lie unread before it: judge nobody by that.
            self.silence_check_at = Some(self.now + self.settings.heartbeat_interval_ms);
            return;
        }
        self.judge_silence();
    }

    /// Ends the warm-up when every node has reported, or its time is over.
    pub(crate) fn check_warm_up(&mut self) {
        let Some(until) = self.warm_up_until else { return };
        if self.now < until && !self.cluster.nodes.are_synced() {
            return;
        }
        self.warm_up_until = None;
        self.cluster.touched.seen = true;
        self.judge_silence();
    }

    /// Whether the scheduler has just started and waits for the nodes to report.
    pub(crate) fn is_warming_up(&self) -> bool {
        self.warm_up_until.is_some()
    }

    /// What the silence of its node means for an instance with this `replace_after_ms`.
    pub(crate) fn silence_of(&self, held: Held<'_>, replace_after_ms: Option<u64>) -> Silence {
        let node = held.node_id();
        if held.node().is_ready() {
            return Silence::None;
        }
        match self.due_at(held, replace_after_ms) {
            Some(at) if self.now < at => Silence::Waits(Some(at)),
            Some(_) if self.ladder.is_given_up(node) => Silence::GivenUp,
            // For ever, or for its turn.
            Some(_) | None => Silence::Waits(None),
        }
    }

    /// The node of an instance that would be replaced by now but waits until its site's pace allows it, and since when.
    pub(crate) fn waits_its_turn<'c>(
        &self,
        held: Held<'c>,
        replace_after_ms: Option<u64>,
    ) -> Option<(&'c NodeEntry, Timestamp)> {
        let at = self.due_at(held, replace_after_ms).filter(|at| *at <= self.now && !held.node().is_ready())?;
        (!self.ladder.is_given_up(held.node_id())).then_some((held.node(), at))
    }

    /// When an instance with this `replace_after_ms` on a silent node may be replaced; `None` = nobody knows, or never.
    fn due_at(&self, held: Held<'_>, replace_after_ms: Option<u64>) -> Option<Timestamp> {
        let entry = held.node();
        let (since, replace_after_ms) = (entry.silent_since()?, replace_after_ms?);
        if self.frozen.contains(&entry.spec.id) {
            return None;
        }
        // What it was placed with says when its node ends it, whatever is wanted now.
        let fenced_at = fenced_at(held).unwrap_or(since);
        if self.ladder.is_overruled(&entry.spec.id) {
            return Some(fenced_at);
        }
        let least = self.settings.least_silence_ms();
        let due = entry.excused_until.map_or(since, |until| since.max(until)) + replace_after_ms.max(least);
        Some(due.max(fenced_at))
    }

    fn judge_silence(&mut self) {
        let mut next: Option<Timestamp> = None;
        let mut fallen = Vec::new();
        for (id, node) in &self.cluster.nodes {
            let Some(since) = node.silent_since() else { continue };
            let (unreachable_at, lost_at) =
                (since + self.settings.unreachable_after_ms(), since + self.settings.lost_after_ms);
            let (liveness, at) = match node.liveness {
                Liveness::Lost => continue,
                Liveness::Ready | Liveness::Unreachable if self.now >= lost_at && self.now >= unreachable_at => {
                    (Liveness::Lost, None)
                }
                Liveness::Ready if self.now < unreachable_at => (Liveness::Ready, Some(unreachable_at)),
                Liveness::Ready | Liveness::Unreachable => (Liveness::Unreachable, Some(lost_at)),
            };
            next = next.into_iter().chain(at).min();
            if liveness != node.liveness {
                fallen.push((id.clone(), liveness, self.now.since(since)));
            }
        }
        self.silence_check_at = next;
        for (id, liveness, silent_ms) in fallen {
            self.cluster.set_liveness(&id, liveness);
            self.trouble_rebalance(|| format!("{id} fell silent"));
            let seconds = silent_ms / 1_000;
            let (kind, message) = if liveness == Liveness::Lost {
                ("node-lost", format!("silent for {seconds} s: given up, what may be replaced is replaced"))
            } else {
                ("node-unreachable", format!("silent for {seconds} s: its endpoints left the balancers"))
            };
            self.history.add(self.now, Subject::Node(&id), kind, message);
        }
    }
}
