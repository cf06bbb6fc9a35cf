//! Facts in: what agents report. An agent is hostile input: it speaks for the instances on its own node only.

mod volumes;

use std::collections::BTreeMap;

use api_types::{
    container::NetworkMode,
    counter::SessionId,
    id::{InstanceId, NodeId},
    instance::{Desired, Exit, Health, InstanceState, InstanceStatus, InstanceUsage},
    node::{Condition, NodeFacts, NodeUsage, TAKEN_PORTS_MAX},
};

use crate::{cluster::rows::Observation, history::Subject, machine::Scheduler};

/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 500;

/// How many events one report makes: a node that starts its hundreds is not to push everything else out of the history.
const TOLD_MAX: usize = 64;

/// What one report told people.
#[derive(Debug, Default)]
struct News {
    told: usize,
    /// Statuses that differ and were not told of.
    untold: usize,
}

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
        let Some(entry) = self.cluster.nodes.get(node) else { return };
        let (subnet, own) = (entry.spec.subnet, entry.facts.as_ref().and_then(|facts| facts.address));
        let mut named: Vec<u64> = Vec::with_capacity(statuses.len());
        let mut news = News::default();
        for status in statuses {
            let Some(number) = self.number_on(&status.instance, node) else {
                self.ignored += 1;
                continue;
            };
            let mut said = Observation::from(status);
            cut(&mut said.reason);
            cut(&mut said.findings.last_lines);
            said.findings.probes.iter_mut().for_each(|probe| cut(&mut probe.output));
            // Everybody balances to what is said here: it must not lead out of the node's own subnet, or to another node.
            let may_be_at = |address| {
                if self.is_in_nodes_network(number) { own == Some(address) } else { subnet.contains(address) }
            };
            if said.address.is_some_and(|address| !may_be_at(address)) {
                self.ignored += 1;
                said.address = None;
            }
            named.push(number);
            let before = self.cluster.observe(number, Some(said.clone()), self.now);
            self.tell(number, before.as_ref(), &said, &mut news);
        }
        self.tell_rest(node, &news);
        named.sort_unstable();
        for id in gone {
            match self.number_on(&id, node) {
                Some(number) if named.binary_search(&number).is_err() => self.left_nothing(number),
                Some(_) => {}
                None => self.ignored += 1,
            }
        }
        if complete {
            let here = self.cluster.nodes.get(node).map(|entry| entry.instances.clone()).unwrap_or_default();
            for number in here.into_iter().filter(|number| named.binary_search(number).is_err()) {
                self.left_nothing(number);
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
        (conditions, facts): (Option<Vec<Condition>>, Option<NodeFacts>),
        usage: NodeUsage,
        (instances, requests): (BTreeMap<InstanceId, InstanceUsage>, BTreeMap<InstanceId, u64>),
    ) {
        if !self.heard(node, session) {
            return;
        }
        if let Some(facts) = facts {
            self.cluster.set_facts(node, facts, &self.settings.system_reserve);
        }
        if let Some(mut conditions) = conditions {
            conditions.truncate(CONDITIONS_MAX);
            for condition in &mut conditions {
                cut(&mut condition.reason);
                condition.taken.truncate(TAKEN_PORTS_MAX);
                condition.taken.iter_mut().for_each(|taken| cut(&mut taken.owner));
            }
            self.tell_conditions(node, &conditions);
            self.cluster.set_conditions(node, conditions);
        }
        if let Some(entry) = self.cluster.nodes.get_mut(node) {
            entry.usage = usage;
        }
        let mut own = instances;
        let ignored = &mut self.ignored;
        own.retain(|id, usage| {
            let is_known = self.cluster.sample(id, node, usage);
            *ignored += u64::from(!is_known);
            is_known
        });
        self.note_load(node, &own, requests);
    }

    /// Tells people what is newly wrong on a node, and what is well again.
    fn tell_conditions(&mut self, node: &NodeId, conditions: &[Condition]) {
        let Some(entry) = self.cluster.nodes.get(node) else { return };
        let before = |name: &str| entry.conditions.iter().find(|known| known.name == name).filter(|known| !known.ok);
        let news = conditions.iter().filter_map(|condition| match before(&condition.name) {
            Some(known) if condition.ok => {
                Some(("condition-well", format!("{}: no longer: {}", known.name, known.reason)))
            }
            known if !condition.ok && known.is_none_or(|known| known.reason != condition.reason) => {
                Some(("condition-bad", format!("{}: {}", condition.name, condition.reason)))
            }
            _ => None,
        });
        for (kind, message) in news.collect::<Vec<_>>() {
            self.history.add(self.now, Subject::Node(node), kind, message);
        }
    }

    /// The number of an instance on this node; `None` if it is not there.
    fn number_on(&self, id: &InstanceId, node: &NodeId) -> Option<u64> {
        self.cluster.held_by_id(id).filter(|held| held.node_id() == node).map(|held| held.number)
    }

    /// Nothing of an instance is on its node: that is its end if it was asked to stop, else it is not there yet.
    fn left_nothing(&mut self, number: u64) {
        let Some(held) = self.cluster.held(number) else { return };
        if held.desired() == Desired::Stop {
            if let Some(instance) = self.cluster.forget(number) {
                self.history.add(self.now, Subject::Instance(&instance), "stopped", "nothing of it is left");
                self.touch_drain(&instance.node);
            }
        } else {
            self.cluster.observe(number, None, self.now);
        }
    }

    /// Tells people what is new in a status.
    fn tell(&mut self, number: u64, before: Option<&Observation>, after: &Observation, news: &mut News) {
        let Some(held) = self.cluster.held(number) else { return };
        if before == Some(after) || (before.is_none() && held.placed_at() < self.began_at) {
            // The first word on an instance of an earlier run of the scheduler is no news.
            return;
        }
        if news.told >= TOLD_MAX {
            news.untold += 1;
            return;
        }
        let (instance, is_asked) = (&held.instance(), held.is_asked());
        let mut tell = |kind: &str, message: String| {
            news.told += 1;
            self.history.add(self.now, Subject::Instance(instance), kind, message);
        };
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
                Health::Healthy if is_asked => tell("healthy", "its probe answers".to_owned()),
                Health::Healthy if health == Health::Unhealthy => {
                    tell("healthy", "nothing is wrong any more".to_owned())
                }
                Health::Unhealthy if after.reason.is_empty() => {
                    tell("unhealthy", "its probe does not answer".to_owned())
                }
                Health::Unhealthy => tell("unhealthy", after.reason.clone()),
                // Who is not asked is well as soon as it runs, which is told already.
                Health::Healthy | Health::Unknown => {}
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

    fn is_in_nodes_network(&self, number: u64) -> bool {
        let workload = self.cluster.held(number).and_then(|held| self.cluster.workloads.get(held.workload()));
        workload.is_some_and(|entry| entry.spec().container.network == NetworkMode::Host)
    }

    /// Tells people how much more a report said.
    fn tell_rest(&mut self, node: &NodeId, news: &News) {
        if news.untold > 0 {
            let message = format!("{} more of its instances changed in the same report", news.untold);
            self.history.add(self.now, Subject::Node(node), "reported", message);
        }
    }
}

fn exit_sentence(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("its process ended with code {code}"),
        Exit::OutOfMemory => "its process was killed: out of its memory limit".to_owned(),
        Exit::Probe(kind) => format!("its process was killed: its {} probe failed", kind.as_str()),
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
