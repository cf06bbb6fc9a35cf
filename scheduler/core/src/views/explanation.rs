//! Why instances are where they are, or nowhere: every node is asked by the check that places, and ranked by its scores.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::InstanceState,
    view::{Explanation, NodeVerdict, PlacedInstance, Remedy, ScorePart, VerdictGroup},
    workload::{WorkloadKind, WorkloadSpec},
};

use crate::{
    cluster::{held::Held, nodes::NodeEntry, workloads::WorkloadEntry},
    effect::Refusal,
    machine::Scheduler,
    placement::{self, explain, filters::Miss, rank},
    rehearsal::Rehearsal,
    views::{
        ports::TakenPorts,
        remedies::{self, Trials},
        workloads::WARMING_UP,
    },
};

/// A cluster of up to so many nodes is shown whole.
const NODES_WHOLE_MAX: usize = 20;
/// How many nodes are shown for each reason in a larger one.
const NODES_EACH: usize = 3;
/// How many nodes are named for each reason.
const EXAMPLES_MAX: usize = 5;
/// How many instances are explained, and how many if all are asked for.
const INSTANCES_MAX: usize = 10;
/// The same if all are asked for.
const ALL_INSTANCES_MAX: usize = 1_000;

impl Scheduler {
    /// Why a workload's instances are where they are, or nowhere, and what the nodes say to one more. `all`: every node, not a
    /// few for each reason.
    ///
    /// # Errors
    /// When there is no such workload.
    pub fn explain(&self, workload: &WorkloadId, all: bool) -> Result<Explanation, Refusal> {
        let entry = self.cluster.workloads.get(workload).ok_or_else(|| Refusal::UnknownWorkload(workload.clone()))?;
        let inquiry = Inquiry { scheduler: self, entry, all };
        Ok(inquiry.explanation(&self.wanted_of(workload)))
    }

    /// Why one instance is where it is; see [`Self::explain`].
    ///
    /// # Errors
    /// When there is no such instance, or its workload was deleted.
    pub fn explain_instance(&self, instance: &InstanceId, all: bool) -> Result<Explanation, Refusal> {
        let unknown = || Refusal::UnknownInstance(instance.clone());
        let held = self.cluster.held_by_id(instance).ok_or_else(unknown)?;
        let entry = self.cluster.workloads.get(held.workload()).ok_or_else(unknown)?;
        Ok(Inquiry { scheduler: self, entry, all }.explanation(&[held]))
    }

    /// The same for workloads as they would be if they were applied together: what the nodes say to one more instance
    /// afterwards, and what of them would find no node. Changes nothing.
    ///
    /// # Errors
    /// What an apply would be refused for.
    pub fn explain_specs(&self, specs: &[WorkloadSpec], all: bool) -> Result<Vec<Explanation>, Refusal> {
        let mut rehearsal = Rehearsal::new(self, BTreeSet::new());
        rehearsal.scheduler.apply(specs.to_vec(), None)?;
        if !self.is_warming_up() {
            rehearsal.play(Some(0), &mut |_, _| {});
        }
        let copy = &rehearsal.scheduler;
        let explained = specs.iter().filter_map(|spec| {
            let entry = copy.cluster.workloads.get(&spec.id)?;
            let there: Vec<Held<'_>> =
                copy.wanted_of(&spec.id).into_iter().filter(|held| held.number < rehearsal.first_new).collect();
            Some(Inquiry { scheduler: copy, entry, all }.explanation(&there))
        });
        Ok(explained.collect())
    }

    fn wanted_of(&self, workload: &WorkloadId) -> Vec<Held<'_>> {
        let mut held: Vec<_> = self.cluster.instances_of(workload).filter(|held| held.is_wanted()).collect();
        held.sort_by_key(|held| (held.slot(), held.number));
        held
    }
}

/// A question about one workload.
#[derive(Clone, Copy, Debug)]
struct Inquiry<'s> {
    scheduler: &'s Scheduler,
    entry: &'s WorkloadEntry,
    all: bool,
}

/// A node and what it says.
type Verdict<'s> = (&'s NodeId, &'s NodeEntry, Option<Miss<'s>>);

impl<'s> Inquiry<'s> {
    fn explanation(self, instances: &[Held<'_>]) -> Explanation {
        let (cluster, spec) = (&self.scheduler.cluster, self.entry.spec());
        let verdicts: Vec<Verdict<'s>> = cluster.nodes.iter().map(|(id, node)| (id, node, self.miss(node))).collect();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for miss in verdicts.iter().filter_map(|(_, _, miss)| miss.as_ref()) {
            *counts.entry(miss.filter().to_owned()).or_default() += 1;
        }
        let (nodes, nodes_left_out) = self.nodes(&verdicts);
        // A daemon fits where it is; what matters are the nodes that it misses.
        let has_it = |node| self.is_daemon() && placement::instances_there(cluster, node, spec) > 0;
        let fits = verdicts.iter().any(|(_, node, miss)| miss.is_none() && !has_it(*node));
        let fits = fits || (self.is_daemon() && self.scheduler.daemon_nodes_without(self.entry) == 0);
        let remedies = if fits { Vec::new() } else { remedies::find(cluster, spec, &verdicts) };
        let hint = match remedies.first() {
            Some(Remedy { node, action, .. }) => format!("it fits on {node} if you {action}"),
            None if fits => String::new(),
            None => explain::hint(cluster, spec),
        };
        let most = if self.all { ALL_INSTANCES_MAX } else { INSTANCES_MAX };
        Explanation {
            workload: spec.id.clone(),
            summary: self.summary(instances),
            instances: instances.iter().take(most).map(|held| self.placed(*held)).collect(),
            instances_left_out: number(instances.len().saturating_sub(most)),
            groups: groups(&verdicts),
            nodes,
            nodes_left_out,
            counts,
            remedies,
            hint,
        }
    }

    fn summary(self, instances: &[Held<'_>]) -> String {
        let view = self.scheduler.workload_view(self.entry, &TakenPorts::default());
        let placed = view.wanted.saturating_sub(view.pending);
        let scaled =
            view.scale.as_ref().map(|scale| format!("; scaled by its load: {}", scale.reason)).unwrap_or_default();
        let failed = view.rollout.as_ref().and_then(|rollout| Some((rollout.failed?, &rollout.cause)));
        let failed =
            failed.map(|(revision, cause)| format!("; revision {revision} did not work: {cause}")).unwrap_or_default();
        let summary = format!("{placed} of {} placed{scaled}{failed}", view.wanted);
        match self.scheduler.parked_told(self.entry) {
            Some(reason) => format!("{summary}; {reason}"),
            None if view.pending > 0 && self.scheduler.is_warming_up() => format!("{summary}; {WARMING_UP}"),
            None => match instances.iter().find_map(|held| delay(*held)) {
                Some(delay) => format!("{summary}; {delay}"),
                None => summary,
            },
        }
    }

    fn is_daemon(self) -> bool {
        self.entry.spec().kind == WorkloadKind::Daemon
    }

    fn miss(self, node: &NodeEntry) -> Option<Miss<'s>> {
        let miss = placement::check(&self.scheduler.cluster, node, self.entry.spec()).err();
        // A daemon's own instance is no reason against its node.
        miss.filter(|miss| !(self.is_daemon() && matches!(miss, Miss::PerNode(_))))
    }

    /// The nodes that are shown, by name, and how many are not.
    fn nodes(self, verdicts: &[Verdict<'s>]) -> (Vec<NodeVerdict>, u32) {
        let (cluster, spec) = (&self.scheduler.cluster, self.entry.spec());
        let ranked = rank::rank(cluster, spec, None);
        let mut shown: BTreeSet<&NodeId> = BTreeSet::new();
        if self.all || verdicts.len() <= NODES_WHOLE_MAX {
            shown.extend(verdicts.iter().map(|(id, _, _)| *id));
        } else {
            shown.extend(ranked.iter().take(NODES_EACH).map(|best| &best.node));
            let mut each: BTreeMap<String, usize> = BTreeMap::new();
            for (id, _, miss) in verdicts {
                let Some(miss) = miss else { continue };
                let seen = each.entry(explain::sentence(miss, 1)).or_default();
                *seen += 1;
                if *seen <= NODES_EACH {
                    shown.insert(id);
                }
            }
        }
        let scores: BTreeMap<&NodeId, &Vec<ScorePart>> = ranked.iter().map(|best| (&best.node, &best.score)).collect();
        let mut trials = Trials::new(cluster, spec);
        let nodes = verdicts.iter().filter(|(id, _, _)| shown.contains(id)).map(|(id, node, miss)| {
            let mut no = if miss.is_some() { trials.rejections(id) } else { Vec::new() }.into_iter();
            let first = no.next();
            NodeVerdict {
                node: (*id).clone(),
                filter: first.as_ref().map(|no| no.filter.clone()).unwrap_or_default(),
                reason: first.map(|no| no.reason).unwrap_or_default(),
                also: no.collect(),
                instances: placement::instances_there(cluster, node, spec),
                score: scores.get(id).map(|score| (*score).clone()).unwrap_or_default(),
            }
        });
        (nodes.collect(), number(verdicts.len() - shown.len()))
    }

    /// How the node of an instance compares, as if it were placed anew.
    fn placed(self, held: Held<'_>) -> PlacedInstance {
        let (cluster, spec) = (&self.scheduler.cluster, self.entry.spec());
        let mut placed = PlacedInstance {
            instance: held.id(),
            slot: held.slot(),
            node: held.node_id().clone(),
            rank: 1,
            fits: 1,
            score: Vec::new(),
            reason: "a daemon runs on every node that fits".to_owned(),
        };
        if self.is_daemon() {
            return placed;
        }
        let ranked = rank::rank(cluster, spec, Some(held));
        let place = ranked.iter().position(|ranked| ranked.node == placed.node);
        (placed.rank, placed.fits) = (place.map_or(0, |place| number(place + 1)), number(ranked.len()));
        placed.score = place.map(|place| ranked[place].score.clone()).unwrap_or_default();
        placed.reason = match (place, ranked.as_slice()) {
            (None, _) => {
                let miss = placement::check_instead_of(cluster, held, spec).err();
                let reason = miss.map(|miss| explain::reason(cluster, held.node(), &miss)).unwrap_or_default();
                format!("would not be placed there now: {reason}")
            }
            (Some(_), [_]) => "the only node that fits".to_owned(),
            (Some(0), [own, second, ..]) => match differing(&own.score, &second.score) {
                Some((own, other)) => {
                    format!("best of {}: {}; {}: {}", ranked.len(), own.words, second.node, other.words)
                }
                None => format!("first by address of {} that are alike", ranked.len()),
            },
            (Some(place), _) => {
                let (own, best) = (&ranked[place], &ranked[0]);
                let why = match differing(&own.score, &best.score) {
                    Some((own, other)) => format!("{}; {}: {}", own.words, best.node, other.words),
                    None => format!("{} is alike and comes first by address", best.node),
                };
                format!("place {} of {} now: {why}", place + 1, ranked.len())
            }
        };
        placed
    }
}

/// Why an instance that has its node has no process there yet, as that says; `None` = it has, or nothing is wrong.
fn delay(held: Held<'_>) -> Option<String> {
    let said = held.observation()?;
    let is_on_its_way = matches!(said.state, InstanceState::Preparing | InstanceState::Starting);
    (is_on_its_way && !said.reason.is_empty()).then(|| format!("{} on {}: {}", held.id(), held.node_id(), said.reason))
}

/// The first part in which two scores differ.
fn differing<'p>(own: &'p [ScorePart], other: &'p [ScorePart]) -> Option<(&'p ScorePart, &'p ScorePart)> {
    own.iter().zip(other).find(|(own, other)| own.value != other.value)
}

/// Nodes with the same reason together, the most first.
fn groups(verdicts: &[Verdict<'_>]) -> Vec<VerdictGroup> {
    let mut groups: BTreeMap<String, (&Miss<'_>, Vec<&NodeId>)> = BTreeMap::new();
    for (id, _, miss) in verdicts {
        if let Some(miss) = miss {
            groups.entry(explain::sentence(miss, 2)).or_insert_with(|| (miss, Vec::new())).1.push(id);
        }
    }
    let mut groups: Vec<VerdictGroup> = groups
        .into_values()
        .map(|(miss, nodes)| VerdictGroup {
            filter: miss.filter().to_owned(),
            reason: explain::sentence(miss, nodes.len()),
            count: number(nodes.len()),
            examples: nodes.iter().take(EXAMPLES_MAX).map(|id| (*id).clone()).collect(),
        })
        .collect();
    groups.sort_by_key(|group| Reverse(group.count));
    groups
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
