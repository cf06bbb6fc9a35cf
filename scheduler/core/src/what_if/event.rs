//! What is supposed to happen, checked, in words, and done to a copy.

use std::collections::BTreeSet;

use api_types::{
    counter::SessionId,
    id::{NodeId, WorkloadId},
    node::{Availability, NodeFacts},
    view::{QUESTION_NODES_MAX, Question},
};

use crate::{effect::Refusal, machine::Scheduler, rehearsal::Rehearsal, what_if::names::unknown_node};

/// How many names are said one by one.
const NAMES_MAX: usize = 4;

/// What is supposed to happen, and it could.
#[derive(Debug)]
pub(super) struct Event<'q> {
    question: &'q Question,
    /// The nodes that lose their power.
    dead: BTreeSet<NodeId>,
    /// The nodes that are drained.
    drained: Vec<NodeId>,
    /// The nodes that join.
    joining: Vec<NodeId>,
}

impl<'q> Event<'q> {
    /// Checks a question.
    pub(super) fn new(scheduler: &Scheduler, question: &'q Question) -> Result<Self, Refusal> {
        let mut event = Self { question, dead: BTreeSet::new(), drained: Vec::new(), joining: Vec::new() };
        match question {
            Question::NodeLoss { nodes } => event.dead = known(scheduler, nodes)?.into_iter().collect(),
            Question::SiteLoss { site } => {
                let here = scheduler.cluster.nodes.iter().filter(|(_, node)| node.spec.site == *site);
                event.dead = here.map(|(id, _)| id.clone()).collect();
                if event.dead.is_empty() {
                    return Err(Refusal::UnknownSite(site.clone()));
                }
            }
            Question::Drain { nodes } => event.drained = known(scheduler, nodes)?,
            Question::Join { like, count } => {
                known(scheduler, std::slice::from_ref(like))?;
                event.joining = new_names(scheduler, *count)?;
            }
            Question::Apply { .. } => {}
        }
        Ok(event)
    }

    /// Whether nodes join.
    pub(super) fn makes_room(&self) -> bool {
        !self.joining.is_empty()
    }

    /// The nodes that lose their power.
    pub(super) fn dead(&self) -> &BTreeSet<NodeId> {
        &self.dead
    }

    /// The nodes that are drained.
    pub(super) fn drained(&self) -> &[NodeId] {
        &self.drained
    }

    /// What happens, as a clause.
    pub(super) fn words(&self) -> String {
        match self.question {
            Question::NodeLoss { nodes } => {
                format!("{} {} power", names(nodes), if nodes.len() == 1 { "loses its" } else { "lose their" })
            }
            Question::SiteLoss { site } => {
                let count = self.dead.len();
                format!("site {site} ({count} {}) loses its power", if count == 1 { "node" } else { "nodes" })
            }
            Question::Drain { nodes } => {
                format!("{} {} drained", names(nodes), if nodes.len() == 1 { "is" } else { "are" })
            }
            Question::Join { like, count: 1 } => format!("a node like {like} joins"),
            Question::Join { like, count } => format!("{count} nodes like {like} join"),
            Question::Apply { specs } => {
                let ids: Vec<&WorkloadId> = specs.iter().map(|spec| &spec.id).collect();
                format!("{} {} applied", names(&ids), if ids.len() == 1 { "is" } else { "are" })
            }
        }
    }

    /// The workloads that have something where it happens.
    pub(super) fn concerned(&self, scheduler: &Scheduler) -> BTreeSet<WorkloadId> {
        let nodes = self.dead.iter().chain(&self.drained).filter_map(|id| scheduler.cluster.nodes.get(id));
        let instances = nodes.flat_map(|node| scheduler.cluster.instances_on(node));
        let mut concerned: BTreeSet<WorkloadId> = instances.map(|held| held.workload().clone()).collect();
        if let Question::Apply { specs } = self.question {
            concerned.extend(specs.iter().map(|spec| spec.id.clone()));
        }
        concerned
    }

    /// Makes it so on a copy. Nodes that lose their power simply are not heard of any more.
    pub(super) fn happen(&self, rehearsal: &mut Rehearsal) -> Result<(), Refusal> {
        for id in &self.drained {
            rehearsal.scheduler.set_availability(id, Availability::Draining)?;
        }
        match self.question {
            Question::Join { like, .. } => self.join(rehearsal, like),
            Question::Apply { specs } => rehearsal.scheduler.apply(specs.clone(), None).map(drop),
            Question::NodeLoss { .. } | Question::SiteLoss { .. } | Question::Drain { .. } => Ok(()),
        }
    }

    fn join(&self, rehearsal: &mut Rehearsal, like: &NodeId) -> Result<(), Refusal> {
        let scheduler = &mut rehearsal.scheduler;
        let Some(model) = scheduler.cluster.nodes.get(like) else { return Err(Refusal::UnknownNode(like.clone())) };
        let (site, labels) = (model.spec.site.clone(), model.spec.labels.clone());
        let Some(facts) = model.facts.clone() else {
            let reason = format!("node `{like}` has not said yet what it is: name one that is ready");
            return Err(Refusal::Conflict(reason));
        };
        for id in &self.joining {
            rehearsal.scheduler.admit_node(id.clone(), site.clone(), labels.clone())?;
            let facts = NodeFacts { address: None, ..facts.clone() };
            rehearsal.scheduler.session_opened(id, SessionId(1), facts);
            rehearsal.hears(id);
        }
        Ok(())
    }
}

/// The nodes that were named, each once; all must be there.
fn known(scheduler: &Scheduler, nodes: &[NodeId]) -> Result<Vec<NodeId>, Refusal> {
    if nodes.is_empty() || nodes.len() > QUESTION_NODES_MAX {
        return Err(Refusal::Invalid(format!("name 1 to {QUESTION_NODES_MAX} nodes")));
    }
    if let Some(unknown) = nodes.iter().find(|id| scheduler.cluster.nodes.get(id).is_none()) {
        return Err(unknown_node(scheduler, unknown));
    }
    let once: BTreeSet<&NodeId> = nodes.iter().collect();
    Ok(once.into_iter().cloned().collect())
}

/// Names that no node has.
fn new_names(scheduler: &Scheduler, count: u32) -> Result<Vec<NodeId>, Refusal> {
    let most = u32::try_from(QUESTION_NODES_MAX).unwrap_or(u32::MAX);
    if !(1..=most).contains(&count) {
        return Err(Refusal::Invalid(format!("between 1 and {most} nodes may join")));
    }
    let names = (1_u64..).filter_map(|number| NodeId::new(&format!("new-{number}")).ok());
    let free = names.filter(|id| scheduler.cluster.nodes.get(id).is_none());
    Ok(free.take(usize::try_from(count).unwrap_or(0)).collect())
}

/// `n1`, `n1 and n2`, `n1, n2, n3 and 7 more`.
fn names<T: std::fmt::Display>(things: &[T]) -> String {
    let said: Vec<String> = things.iter().take(NAMES_MAX).map(ToString::to_string).collect();
    match (said.split_last(), things.len().saturating_sub(NAMES_MAX)) {
        (Some((last, [])), 0) => last.clone(),
        (Some((last, before)), 0) => format!("{} and {last}", before.join(", ")),
        (_, hidden) => format!("{} and {hidden} more", said.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_read_as_people_list_them() {
        assert_eq!(names(&["a"]), "a");
        assert_eq!(names(&["a", "b", "c"]), "a, b and c");
        assert_eq!(names(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
