//! The people: they apply, scale and delete workloads and drain nodes, one wish after another, until each is answered.

mod made_up;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use api_types::{
    counter::RequestId,
    id::WorkloadId,
    node::Availability,
    rollout::{RolloutAction, RolloutState},
};
use scheduler_core::{
    effect::{Refusal, Rollout},
    input::{Change, Input},
};

use crate::{
    equipment::labels_of,
    event::{Event, NodeIndex, Wish},
    fault::SITES,
    shape::{Shape, volume},
    story::Deed,
    world::World,
};

/// Milliseconds after which a person asks again.
const PATIENCE_MS: u64 = 4000;

/// Milliseconds between two looks whether a change has to be tried again.
pub(crate) const AGAIN_MS: u64 = 10_000;

/// What people want, and what they were told.
#[derive(Debug, Default)]
pub struct Demand {
    /// What is wanted, as of the last wish that was uttered.
    pub wanted: BTreeMap<WorkloadId, Shape>,
    /// Wishes that wait for their turn.
    pub queue: VecDeque<Wish>,
    /// The wish that waits for its answer.
    pub asked: Option<(RequestId, Wish)>,
    /// Nodes that were removed and did not join again yet.
    pub removed: BTreeSet<NodeIndex>,
    /// How many wishes were granted.
    pub granted: u64,
    requests: u64,
    /// Counts services and jobs that were ever made up.
    made_up: u64,
}

impl World {
    /// Queues what makes a cluster: its nodes, and, where the story is made up, the first workloads.
    pub fn want_cluster(&mut self) {
        for node in 0..self.nodes.len() {
            self.demand.queue.push_back(Wish::Admit(node));
        }
        let nodes = self.nodes.len();
        if let Some(random) = self.story.random() {
            for shape in made_up::first(random, &mut self.demand, nodes) {
                self.story.told.push((0, Deed::Apply(Box::new(shape.clone()))));
                self.demand.queue.push_back(Wish::Apply(Box::new(shape)));
            }
        } else {
            while let Some(deed) = self.story.take(true, 0) {
                self.grant(deed);
            }
            self.await_written(true);
        }
        self.ask();
    }

    /// A person wants something new.
    pub fn want(&mut self) {
        if self.calm {
            return;
        }
        if let Some(until) = self.rests_until() {
            self.at(until, Event::Demand);
            return;
        }
        let (now, nodes) = (self.elapsed(), self.nodes.len());
        let deed = match self.story.random() {
            Some(random) => {
                // Some minutes are busier than others: demand grows, and goes.
                let growing = (now / 240_000).is_multiple_of(2);
                let pause = random.between(500, if growing { 12_000 } else { 20_000 });
                let deed = made_up::next(random, &mut self.demand, nodes, growing);
                self.after(pause, Event::Demand);
                deed
            }
            None => {
                let deed = self.story.take(true, now);
                self.await_written(true);
                deed
            }
        };
        if let Some(deed) = deed {
            self.story.told.push((now, deed.clone()));
            self.grant(deed);
            self.ask();
        }
    }

    /// When nothing is broken any more, people try again what did not work, as long as something does not, but not what has room
    /// nowhere. A release that cannot work they replace, unless the one before it is back, or comes back.
    pub(crate) fn let_rollouts_go_on(&mut self) {
        let (mut again, mut is_open) = (Vec::new(), false);
        for (id, shape) in &self.demand.wanted {
            let rollout = self.scheduler.disk.rollout(id);
            let state = rollout.map(|rollout| rollout.state);
            is_open |= rollout.is_some_and(Rollout::is_open);
            if shape.bad.is_none() {
                let has_failed = state == Some(RolloutState::Failed);
                let may_work = has_failed && self.has_room_for(&shape.spec());
                is_open |= has_failed;
                again.extend(may_work.then(|| Wish::TryAgain(id.clone())));
            } else if rollout.is_none_or(|rollout| !rollout.is_open()) && state != Some(RolloutState::RolledBack) {
                again.push(Wish::Apply(Box::new(Shape { bad: None, ..shape.clone() })));
            }
        }
        if is_open || !again.is_empty() {
            self.after(AGAIN_MS, Event::TryAgain);
        }
        self.demand.queue.extend(again);
        self.ask();
    }

    /// Queues what a deed of a person wants.
    fn grant(&mut self, deed: Deed) {
        let is_node = |node: NodeIndex| node < self.nodes.len();
        let id = |workload: &str| workload.parse::<WorkloadId>().ok();
        let wish = match deed {
            Deed::Apply(shape) => Wish::Apply(shape),
            Deed::Scale { workload, replicas } => {
                let Some(id) = id(&workload) else { return };
                Wish::Scale(id, replicas)
            }
            Deed::Delete { workload } => {
                let Some(id) = id(&workload) else { return };
                Wish::Delete(id)
            }
            Deed::Cordon { node, for_ms } if is_node(node) => {
                self.after(for_ms, Event::Uncordon(node));
                Wish::Availability(node, Availability::Cordoned)
            }
            Deed::Drain { node, for_ms } if is_node(node) => {
                self.after(for_ms, Event::Uncordon(node));
                Wish::Availability(node, Availability::Draining)
            }
            Deed::Forget { node, for_ms } if is_node(node) => {
                self.after(for_ms, Event::Rejoin(node));
                self.demand.removed.insert(node);
                Wish::Remove(node)
            }
            Deed::ForgetVolume { workload, slot } => {
                let Some(id) = id(&workload) else { return };
                Wish::ForgetVolume(id, slot)
            }
            Deed::Resume { site } if site < SITES => Wish::Resume(site),
            Deed::Rebalance => Wish::Rebalance,
            Deed::Cordon { .. } | Deed::Drain { .. } | Deed::Forget { .. } | Deed::Resume { .. } => return,
            Deed::SchedulerDies { .. } | Deed::SchedulerFreezes { .. } | Deed::SlowDisk { .. } => return,
            Deed::BlackOut { .. } | Deed::RegistryAway { .. } | Deed::AgentDies { .. } => return,
            Deed::AgentFreezes { .. } | Deed::PowerOff { .. } | Deed::ContainerdDies { .. } => return,
            Deed::ContainerdHangs { .. } | Deed::Cut { .. } | Deed::Break { .. } => return,
            Deed::DiskForgets { .. } | Deed::RemoveContainer { .. } => return,
            Deed::Ghost { .. } | Deed::Replay { .. } | Deed::Look { .. } | Deed::Unplug { .. } => return,
        };
        self.demand.queue.push_back(wish);
    }

    /// A node takes instances again.
    pub fn uncordon(&mut self, node: NodeIndex) {
        self.demand.queue.push_back(Wish::Availability(node, Availability::Active));
        self.ask();
    }

    /// A node that was forgotten joins again.
    pub fn rejoin(&mut self, node: NodeIndex) {
        if !self.calm && self.demand.removed.contains(&node) {
            self.demand.queue.push_back(Wish::Admit(node));
            self.ask();
        }
    }

    /// Utters the next wish, if none waits for its answer.
    pub fn ask(&mut self) {
        while self.demand.asked.is_none() {
            let Some(wish) = self.demand.queue.pop_front() else { return };
            match &wish {
                Wish::Apply(shape) => {
                    self.demand.wanted.insert(shape.id(), (**shape).clone());
                }
                Wish::Scale(workload, replicas) => {
                    // A story that lost its beginning may scale what never was.
                    let Some(shape) = self.demand.wanted.get_mut(workload) else { continue };
                    shape.replicas = shape.replicas.and(Some(*replicas));
                }
                Wish::Delete(workload) => {
                    self.demand.wanted.remove(workload);
                }
                Wish::Admit(_) | Wish::Remove(_) | Wish::Availability(..) => {}
                Wish::ForgetVolume(..) | Wish::Resume(_) | Wish::Rebalance | Wish::TryAgain(_) => {}
            }
            self.utter(wish);
        }
    }

    /// The scheduler answered.
    pub fn replied(&mut self, request: RequestId, outcome: &Result<(), Refusal>) {
        let Some((_, wish)) = self.demand.asked.take_if(|(asked, _)| *asked == request) else { return };
        let in_order = match (outcome, &wish) {
            (Ok(()), _) => true,
            // The wish before was granted, and its answer lost; or its workload is gone since.
            (Err(Refusal::UnknownWorkload(_)), Wish::Delete(_) | Wish::Scale(..)) => true,
            (Err(Refusal::UnknownNode(_)), Wish::Remove(_) | Wish::Availability(..)) => true,
            (Err(Refusal::UnknownVolume(_)), Wish::ForgetVolume(..)) => true,
            // All its nodes were removed.
            (Err(Refusal::UnknownSite(_)), Wish::Resume(_)) => true,
            // Nothing is silent there (any more).
            (Err(Refusal::Conflict(_)), Wish::Resume(_)) => true,
            // The scheduler has just started, or one goes on.
            (Err(Refusal::Conflict(_)), Wish::Rebalance) => true,
            // It was tried again already, and the answer lost.
            (Err(Refusal::Conflict(_)), Wish::TryAgain(_)) => true,
            (Err(_), _) => false,
        };
        if !in_order {
            self.fail(format!("{wish:?} was refused: {outcome:?}"));
        }
        self.demand.granted += 1;
        if let Wish::Admit(node) = wish {
            self.demand.removed.remove(&node);
            if std::mem::replace(&mut self.nodes[node].joined, true) {
                // Whoever joins starts with an empty disk; what ran goes on.
                self.crash_agent(node);
                self.nodes[node].disk = (None, None);
                self.nodes[node].kept_addresses = Arc::default();
                let remembered = std::mem::take(&mut self.nodes[node].kept_tries);
                self.jobs.note_forgotten(&remembered);
                self.after(500, Event::AgentStart(node));
            }
            let pause = self.nodes[node].random.between(0, 3000);
            self.after(pause, Event::PowerOn(node));
        }
        self.ask();
    }

    /// A request was not answered in time: it is made again.
    pub fn demand_timeout(&mut self, request: u64) {
        if let Some((_, wish)) = self.demand.asked.take_if(|(asked, _)| asked.0 == request) {
            self.utter(wish);
        }
    }

    fn utter(&mut self, wish: Wish) {
        self.demand.requests += 1;
        let request = RequestId(self.demand.requests);
        self.note(&format!("person: request {request}, {}", describe(&wish)));
        self.displaced.clear();
        self.causes.wish(self.now, &wish, &self.nodes, &self.scheduler);
        let node_id = |node: NodeIndex| self.nodes[node].id.clone();
        let change = match wish.clone() {
            Wish::Admit(node) => Change::AdmitNode {
                node: node_id(node),
                site: format!("site-{}", self.nodes[node].site),
                labels: labels_of(node),
            },
            Wish::Apply(shape) => Change::Apply { specs: vec![shape.spec()], expect: None },
            Wish::Scale(workload, replicas) => Change::Scale { workload, replicas },
            Wish::Delete(workload) => Change::Delete { workload },
            Wish::Remove(node) => Change::RemoveNode { node: node_id(node), force: true, watch_key: None },
            Wish::Availability(node, availability) => Change::SetAvailability { node: node_id(node), availability },
            Wish::ForgetVolume(workload, slot) => Change::ForgetVolume { workload, volume: volume(), slot },
            Wish::Resume(site) => Change::ResumeSite { site: format!("site-{site}") },
            Wish::Rebalance => Change::Rebalance,
            Wish::TryAgain(workload) => Change::Rollout { workload, action: RolloutAction::Resume },
        };
        self.demand.asked = Some((request, wish));
        self.after(PATIENCE_MS, Event::DemandTimeout { request: request.0 });
        self.step_scheduler(Input::Request { request, by: "demand".to_owned(), change });
    }
}

fn describe(wish: &Wish) -> String {
    match wish {
        Wish::Admit(node) => format!("admit edge-{node}"),
        Wish::Remove(node) => format!("remove edge-{node}"),
        Wish::Apply(shape) => format!("apply {shape}"),
        Wish::Scale(workload, replicas) => format!("scale {workload} to {replicas}"),
        Wish::Delete(workload) => format!("delete {workload}"),
        Wish::Availability(node, availability) => format!("edge-{node} shall be {availability:?}"),
        Wish::ForgetVolume(workload, slot) => format!("forget the data of {workload}, slot {slot:?}"),
        Wish::Resume(site) => format!("what is silent of site-{site} is dead"),
        Wish::Rebalance => "rebalance".to_owned(),
        Wish::TryAgain(workload) => format!("try {workload} again"),
    }
}
