//! A copy of the cluster in which time passes at once and agents do what they are told: what plans and forecasts are
//! made of. Every decision in it is made by the code that makes it otherwise.

use std::collections::BTreeSet;

use api_types::{
    id::NodeId,
    instance::{Desired, Findings, Health, Instance, InstanceState},
    time::Timestamp,
};

use crate::{
    cluster::{held::Held, rows::Observation},
    effect::{Effect, Effects},
    input::Input,
    machine::Scheduler,
};

/// How many moments are played at most: a rollout of ten thousand instances, a tenth at once, takes fewer.
const MOMENTS_MAX: usize = 5_000;

/// How much time is played at most, in milliseconds: a day.
const PLAYED_MS_MAX: u64 = 86_400_000;

/// When living nodes were last heard of: nobody waits for their heartbeats.
const ALWAYS: Timestamp = Timestamp(u64::MAX / 2);

/// The copy.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    /// The copied scheduler.
    pub(crate) scheduler: Scheduler,
    /// When it began.
    pub(crate) began_at: Timestamp,
    /// Instances with this number or a greater one were placed in it.
    pub(crate) first_new: u64,
    /// Nodes that have no power.
    dead: BTreeSet<NodeId>,
    /// Nodes whose agents were told something and have not done it yet.
    told: BTreeSet<NodeId>,
}

/// What agents did at one moment.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    /// The instances that got well, by number.
    pub(crate) started: Vec<u64>,
    /// The instances that ended because they were told to.
    pub(crate) ended: Vec<Instance>,
}

/// How a rehearsal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is left to happen, as far as was asked.
    Settled,
    /// Something would happen later than is played.
    TooLong,
    /// There was too much to play.
    TooMuch,
}

impl Rehearsal {
    /// Copies a scheduler. The nodes in `dead` are not heard of from now on, all that are ready now always are.
    pub(crate) fn new(scheduler: &Scheduler, dead: BTreeSet<NodeId>) -> Self {
        let mut copy = scheduler.clone();
        copy.is_rehearsal = true;
        // A rehearsal of what comes again and again would never end.
        copy.timers.drop_recurring();
        let living = copy.cluster.nodes.iter().filter(|(id, node)| node.is_ready() && !dead.contains(*id));
        let living: BTreeSet<NodeId> = living.map(|(id, _)| id.clone()).collect();
        for id in &living {
            copy.cluster.set_synced(id, true);
            hear_always(&mut copy, id);
        }
        let (began_at, first_new) = (copy.now, copy.cluster.counters.next_instance);
        Self { scheduler: copy, began_at, first_new, dead, told: living }
    }

    /// Whether a node has no power.
    pub(crate) fn is_dead(&self, node: &NodeId) -> bool {
        self.dead.contains(node)
    }

    /// Takes a node that just joined for one that is always heard of.
    pub(crate) fn hears(&mut self, id: &NodeId) {
        self.scheduler.cluster.set_synced(id, true);
        hear_always(&mut self.scheduler, id);
        self.told.insert(id.clone());
    }

    /// Goes on until nothing is left to happen. `see` is shown each moment: what agents did, and what the scheduler made of
    /// it. With `patience_ms` it is enough that nothing happened for so long.
    pub(crate) fn play(&mut self, patience_ms: Option<u64>, see: &mut dyn FnMut(&Self, &Moment)) -> End {
        let mut busy_at = self.scheduler.now;
        self.decide();
        see(self, &Moment::default());
        for _ in 0..MOMENTS_MAX {
            let moment = self.obey();
            if !moment.started.is_empty() || !moment.ended.is_empty() {
                busy_at = self.scheduler.now;
                self.decide();
                see(self, &moment);
                continue;
            }
            let Some((at, _)) = self.scheduler.next_deadline().filter(|(at, _)| *at < ALWAYS) else {
                return End::Settled;
            };
            if patience_ms.is_some_and(|patience| at.since(busy_at) > patience) {
                return End::Settled;
            }
            if at.since(self.began_at) > PLAYED_MS_MAX {
                return End::TooLong;
            }
            let mut effects = Effects::new();
            self.scheduler.step(at, Input::Tick, &mut effects);
            self.tell(effects);
            see(self, &Moment::default());
        }
        End::TooMuch
    }

    /// Has the scheduler decide on what happened.
    fn decide(&mut self) {
        let mut effects = Effects::new();
        self.scheduler.settle();
        self.scheduler.emit(&mut effects);
        self.tell(effects);
    }

    fn tell(&mut self, effects: Effects) {
        self.told.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::AssignmentsChanged(node) => Some(node),
            Effect::Persist(_)
            | Effect::Forget(_)
            | Effect::Reply { .. }
            | Effect::ServicesChanged
            | Effect::NodeRemoved(_) => None,
        }));
    }

    /// Lets all agents do at once what they were told.
    fn obey(&mut self) -> Moment {
        let (mut moment, mut ending) = (Moment::default(), Vec::new());
        for id in std::mem::take(&mut self.told) {
            let node = self.scheduler.cluster.nodes.get(&id).filter(|node| node.is_ready() && !self.is_dead(&id));
            for held in node.into_iter().flat_map(|node| self.scheduler.cluster.instances_on(node)) {
                if held.desired() == Desired::Stop {
                    ending.push(held.number);
                } else if held.is_wanted()
                    && !held.looks_well()
                    && (held.number >= self.first_new || is_under_way(held))
                {
                    moment.started.push(held.number);
                }
            }
        }
        let now = self.scheduler.now;
        for number in &moment.started {
            // Any address of the node's will do: nobody connects to it.
            let address = self.scheduler.cluster.held(*number).and_then(|held| held.node().spec.subnet.nth(2));
            self.scheduler.cluster.observe(*number, Some(well(address, now)), now);
        }
        for number in ending {
            if let Some(instance) = self.scheduler.cluster.forget(number) {
                self.scheduler.touch_drain(&instance.node);
                moment.ended.push(instance);
            }
        }
        moment
    }
}

/// Nobody waits for the node's heartbeats, nor for what its kernel holds: in a rehearsal that is the latest at once.
fn hear_always(scheduler: &mut Scheduler, id: &NodeId) {
    let Some(index) = scheduler.cluster.nodes.index_of(id) else { return };
    if let Some(node) = scheduler.cluster.nodes.at_mut(index) {
        node.last_seen = Some(ALWAYS);
        node.is_mute = true;
    }
    scheduler.cluster.await_node(index);
}

/// Whether an instance that was there before is about to get well: nothing went wrong with it so far.
fn is_under_way(held: Held<'_>) -> bool {
    held.observation().is_none_or(|observation| {
        let starts = matches!(
            observation.state,
            InstanceState::Pending | InstanceState::Assigned | InstanceState::Preparing | InstanceState::Starting
        );
        let waits = observation.state == InstanceState::Running && observation.health == Health::Unknown;
        (starts || waits) && observation.restarts == 0 && observation.reason.is_empty()
    })
}

fn well(address: Option<std::net::Ipv4Addr>, since: Timestamp) -> Observation {
    Observation {
        state: InstanceState::Running,
        health: Health::Healthy,
        address,
        pid: None,
        restarts: 0,
        last_exit: None,
        reason: String::new(),
        since,
        findings: Findings::default(),
    }
}
