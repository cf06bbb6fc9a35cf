//! What happened, for people: a bounded ring of events.

use std::collections::VecDeque;

use api_types::{
    id::{InstanceId, NodeId, SecretId, WorkloadId},
    instance::Instance,
    time::Timestamp,
    view::Event,
};

/// How many events are kept.
const EVENTS_MAX: usize = 2_000;

/// The ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    lines: VecDeque<Line>,
    last: u64,
}

/// An event and whom it concerns.
#[derive(Clone, Debug)]
struct Line {
    event: Event,
    instance: Option<InstanceId>,
    workload: Option<WorkloadId>,
    node: Option<NodeId>,
}

/// Of what an event tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    /// A node.
    Node(&'a NodeId),
    /// A workload.
    Workload(&'a WorkloadId),
    /// An instance; its node's and its workload's histories show it, too.
    Instance(&'a Instance),
    /// A site.
    Site(&'a str),
    /// A secret.
    Secret(&'a SecretId),
    /// All of it.
    Cluster,
}

impl History {
    /// Adds an event. The kind is one of a fixed list of short words.
    pub(crate) fn add(&mut self, at: Timestamp, subject: Subject<'_>, kind: &str, message: impl Into<String>) {
        self.last += 1;
        let (name, instance, workload, node) = match subject {
            Subject::Node(node) => (node.to_string(), None, None, Some(node.clone())),
            Subject::Workload(workload) => (workload.to_string(), None, Some(workload.clone()), None),
            Subject::Cluster => ("cluster".to_owned(), None, None, None),
            Subject::Secret(secret) => (secret.to_string(), None, None, None),
            Subject::Site(site) => (site.to_owned(), None, None, None),
            Subject::Instance(instance) => (
                instance.id.to_string(),
                Some(instance.id.clone()),
                Some(instance.workload.clone()),
                Some(instance.node.clone()),
            ),
        };
        if self.lines.len() >= EVENTS_MAX {
            self.lines.pop_front();
        }
        let event = Event { sequence: self.last, at, subject: name, kind: kind.to_owned(), message: message.into() };
        self.lines.push_back(Line { event, instance, workload, node });
    }

    /// The number of the newest event; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// All that is kept, the oldest first.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.lines.iter().map(|line| line.event.clone()).collect()
    }

    /// What concerns a node, the oldest first.
    pub(crate) fn of_node(&self, node: &NodeId) -> Vec<Event> {
        self.filtered(|line| line.node.as_ref() == Some(node))
    }

    /// What concerns a workload, the oldest first.
    pub(crate) fn of_workload(&self, workload: &WorkloadId) -> Vec<Event> {
        self.filtered(|line| line.workload.as_ref() == Some(workload))
    }

    /// What concerns an instance, the oldest first.
    pub(crate) fn of_instance(&self, instance: &InstanceId) -> Vec<Event> {
        self.filtered(|line| line.instance.as_ref() == Some(instance))
    }

    fn filtered(&self, concerns: impl Fn(&Line) -> bool) -> Vec<Event> {
        self.lines.iter().filter(|line| concerns(line)).map(|line| line.event.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut history = History::default();

        for _ in 0..=EVENTS_MAX {
            history.add(Timestamp(0), Subject::Site("a"), "site-frozen", "");
        }

        let events = history.all();
        assert_eq!((events.len(), events[0].sequence), (EVENTS_MAX, 2));
    }
}
