//! Facts in: what agents report. An agent is hostile input: it speaks for the instances on its own node only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{
    counter::SessionId,
    id::{InstanceId, NodeId},
    instance::{Desired, Exit, Health, Instance, InstanceState, InstanceStatus, InstanceUsage},
    node::{Condition, NodeFacts, NodeUsage},
};

use crate::{history::Subject, machine::Scheduler};

/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 500;

/// The most conditions that a node may have.
const CONDITIONS_MAX: usize = 32;

impl Scheduler {
    /// Takes what an agent observed of its instances.
    pub(crate) fn reported(
        &mut self,
        node: &NodeId,
        session: SessionId,
        statuses: Vec<InstanceStatus>,
        gone: Vec<InstanceId>,
        complete: bool,
    ) {
        if !self.heard(node, session) {
            return;
        }
        let mut named: BTreeSet<InstanceId> = BTreeSet::new();
        for mut status in statuses {
            if !self.is_on(&status.instance, node) {
                self.ignored += 1;
                continue;
            }
            cut(&mut status.reason);
            // Everybody balances to what is said here: it must not lead out of the node's own subnet.
            if status.address.is_some_and(|address| !self.owns(node, address)) {
                self.ignored += 1;
                status.address = None;
            }
            let id = status.instance.clone();
            named.insert(id.clone());
            let before = self.cluster.observe(&id, Some(status.clone()), self.now);
            self.tell(&id, before.as_ref(), &status);
        }
        for id in gone.into_iter().filter(|id| !named.contains(id)) {
            if self.is_on(&id, node) {
                self.left_nothing(&id);
            } else {
                self.ignored += 1;
            }
        }
        if complete {
            let here = self.cluster.nodes.get(node).map(|entry| entry.instances.clone()).unwrap_or_default();
            for id in here.difference(&named) {
                self.left_nothing(id);
            }
            self.cluster.set_synced(node, true);
            self.check_warm_up();
        }
    }

    /// Takes what a node checks about itself, uses, and is.
    pub(crate) fn node_reported(
        &mut self,
        node: &NodeId,
        session: SessionId,
        conditions: Option<Vec<Condition>>,
        facts: Option<NodeFacts>,
        usage: NodeUsage,
        instances: BTreeMap<InstanceId, InstanceUsage>,
    ) {
        if !self.heard(node, session) {
            return;
        }
        if let Some(facts) = facts {
            self.cluster.set_facts(node, facts, &self.settings.system_reserve);
        }
        if let Some(mut conditions) = conditions {
            conditions.truncate(CONDITIONS_MAX);
            conditions.iter_mut().for_each(|condition| cut(&mut condition.reason));
            self.cluster.set_conditions(node, conditions);
        }
        if let Some(entry) = self.cluster.nodes.get_mut(node) {
            entry.usage = usage;
        }
        for (id, usage) in instances {
            match self.cluster.instances.get_mut(&id).filter(|held| held.instance.node == *node) {
                Some(held) => held.usage = usage,
                None => self.ignored += 1,
            }
        }
    }

    fn is_on(&self, id: &InstanceId, node: &NodeId) -> bool {
        self.cluster.instances.get(id).is_some_and(|held| held.instance.node == *node)
    }

    fn owns(&self, node: &NodeId, address: Ipv4Addr) -> bool {
        self.cluster.nodes.get(node).is_some_and(|entry| entry.spec.subnet.contains(address))
    }

    /// Nothing of an instance is on its node: that is its end if it was asked to stop, else it is not there yet.
    fn left_nothing(&mut self, id: &InstanceId) {
        let Some(held) = self.cluster.instances.get(id) else { return };
        if held.instance.desired == Desired::Stop {
            if let Some(held) = self.cluster.forget(id) {
                self.history.add(self.now, Subject::Instance(&held.instance), "stopped", "nothing of it is left");
                self.touch_drain(&held.instance.node);
            }
        } else {
            self.cluster.observe(id, None, self.now);
        }
    }

    /// Tells people what is new in a status.
    fn tell(&mut self, id: &InstanceId, before: Option<&InstanceStatus>, after: &InstanceStatus) {
        let Some(held) = self.cluster.instances.get(id) else { return };
        let instance = &held.instance;
        if before.is_none() && instance.placed_at < self.began_at {
            // The first word on an instance of an earlier run of the scheduler is no news.
            return;
        }
        let mut tell = |kind: &str, message: String| tell(&mut self.history, self.now, instance, kind, message);
        let restarts = before.map_or(0, |before| before.restarts);
        if let Some(exit) = &after.last_exit
            && (before.and_then(|before| before.last_exit.as_ref()) != Some(exit) || after.restarts > restarts)
        {
            tell("exited", exit_sentence(exit));
        }
        let ran = before.is_some_and(|before| before.state == InstanceState::Running);
        if after.state == InstanceState::Running && (!ran || after.restarts > restarts) {
            if after.restarts > 0 {
                tell("restarted", format!("on {}, restart {}", instance.node, after.restarts));
            } else {
                tell("started", format!("runs on {}", instance.node));
            }
        }
        let health = before.map_or(Health::Unknown, |before| before.health);
        if health != after.health {
            match after.health {
                Health::Healthy => tell("healthy", "its probe answers".to_owned()),
                Health::Unhealthy => tell("unhealthy", with_reason("its probe does not answer", &after.reason)),
                Health::Unknown => {}
            }
        }
        let wanted = instance.desired == Desired::Run;
        let is_new = before.is_none_or(|before| before.reason != after.reason);
        if wanted && is_new && !after.reason.is_empty() && after.state < InstanceState::Running {
            tell("waiting", after.reason.clone());
        }
        let was_final = before.is_some_and(|before| before.state.is_final());
        if wanted && after.state.is_final() && !was_final {
            tell("ended", with_reason(after.state.as_str(), &after.reason));
        }
    }
}

fn tell(
    history: &mut crate::history::History,
    now: api_types::time::Timestamp,
    instance: &Instance,
    kind: &str,
    message: String,
) {
    history.add(now, Subject::Instance(instance), kind, message);
}

fn exit_sentence(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("its process ended with code {code}"),
        Exit::OutOfMemory => "its process was killed: out of its memory limit".to_owned(),
        Exit::Unknown => "its process is gone, nobody saw how".to_owned(),
    }
}

fn with_reason(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(REASON_CHARS_MAX) {
        text.truncate(end);
    }
}
