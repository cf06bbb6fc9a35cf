//! Moves instances to where they would be better, when somebody asks or the configuration says so: a few at a time, each
//! goes when its successor serves, only as long as it is still a gain, and no further once anything goes wrong.

mod plan;

use std::collections::{BTreeMap, VecDeque};

use api_types::{id::WorkloadId, node::Liveness, time::Timestamp, workload::WorkloadKind};
use scheduler_placement::{Gain, NodeIndex};

use crate::{
    cluster::held::Held,
    effect::Refusal,
    history::Subject,
    machine::Scheduler,
    reconcile::slots::{Why, is_current, is_stop_first},
    timers::Timer,
};

/// After how long a successor that does not serve is trouble, in milliseconds.
const MOVE_MS_MAX: u64 = 300_000;

/// How many of those that wait to be moved are looked at in one round.
const LOOKS_MAX: usize = 64;

/// A rebalancing that goes on. It is not durable: after a restart somebody asks again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rebalancing {
    /// What is still to be moved, by number, and what for.
    queue: VecDeque<(u64, Gain)>,
    /// What is on its way, by number.
    moving: BTreeMap<u64, Moving>,
    /// When a move last began or was done.
    progress_at: Timestamp,
    /// Why it does not go on.
    trouble: Option<String>,
    moved: usize,
    left_out: usize,
}

/// An instance that is on its way.
#[derive(Clone, Copy, Debug)]
struct Moving {
    /// Its successor, by number.
    successor: u64,
    since: Timestamp,
}

/// What came of an attempt to move an instance.
enum Attempt {
    Begun,
    /// Its workload is not at rest.
    NotNow,
    /// It is gone, or as good where it is.
    NoGain,
}

impl Rebalancing {
    /// How many are not moved yet.
    fn left(&self) -> usize {
        self.queue.len() + self.moving.len()
    }
}

impl Scheduler {
    /// Begins to rebalance.
    pub(crate) fn begin_rebalance(&mut self) -> Result<String, Refusal> {
        if self.is_warming_up() {
            let reason = "the scheduler has just started and waits for the nodes to report: ask again in a few seconds";
            return Err(Refusal::Conflict(reason.to_owned()));
        }
        if let Some(going) = &self.rebalancing {
            let reason = format!("a rebalancing goes on, {} are left: wait for its end", instances(going.left()));
            return Err(Refusal::Conflict(reason));
        }
        let (planned, _) = self.plan_moves();
        if planned.is_empty() {
            return Ok("nothing would be better elsewhere".to_owned());
        }
        let queue: VecDeque<(u64, Gain)> = planned.into_iter().map(|(number, _, gain)| (number, gain)).collect();
        let at_a_time = self.settings.rebalance_moves_max.max(1);
        let message = format!("moves {}, {at_a_time} at a time", instances(queue.len()));
        self.rebalancing = Some(Rebalancing { queue, progress_at: self.now, ..Rebalancing::default() });
        self.history.add(self.now, Subject::Cluster, "rebalance-began", message.clone());
        Ok(message)
    }

    /// Rebalances if the configuration says so and the cluster is calm, and looks again after the pause.
    pub(crate) fn rebalance_by_itself(&mut self) {
        if !self.settings.rebalance_automatic {
            return;
        }
        self.timers.set(self.now + self.settings.rebalance_pause_ms, Timer::Rebalance);
        let is_calm = self.rebalancing.is_none() && self.claims.is_empty() && self.frozen.is_empty();
        let unsure = |liveness| liveness == Liveness::Unreachable;
        if is_calm && !self.is_warming_up() && !self.cluster.nodes.values().any(|node| unsure(node.liveness)) {
            // Refused only for what was just asked.
            let _ = self.begin_rebalance();
        }
    }

    /// Ends a rebalancing that goes on: the cluster is not as it was planned for.
    pub(crate) fn trouble_rebalance(&mut self, why: impl FnOnce() -> String) {
        if let Some(going) = &mut self.rebalancing {
            going.trouble.get_or_insert_with(why);
        }
    }

    /// Whether an instance is on its way to a better node: its successor is there.
    pub(crate) fn is_moving(&self, number: u64) -> bool {
        self.rebalancing.as_ref().is_some_and(|going| going.moving.contains_key(&number))
    }

    /// Takes note of moves that are done, and begins the next.
    pub(crate) fn tend_rebalance(&mut self) {
        let Some(going) = self.rebalancing.take() else { return };
        let going = self.look_at_moves(going);
        let is_in_trouble = going.trouble.is_some();
        self.rebalancing = Some(going);
        if !is_in_trouble {
            self.begin_moves();
        }
        self.end_rebalance();
    }

    /// What became of those that were on their way.
    fn look_at_moves(&mut self, mut going: Rebalancing) -> Rebalancing {
        for (number, moving) in std::mem::take(&mut going.moving) {
            let wanted = |number| self.cluster.held(number).filter(|held| held.is_wanted());
            let (old, new) = (wanted(number), wanted(moving.successor));
            match (old, new) {
                (None, Some(_)) => {
                    going.moved += 1;
                    going.progress_at = self.now;
                }
                (Some(old), Some(new)) if is_current_now(self, new) => {
                    if new.has_ended() {
                        going.trouble = Some(format!("{}, the successor of {}, ended", new.id(), old.id()));
                    } else if self.now >= moving.since + MOVE_MS_MAX {
                        going.trouble = Some(format!("{}, the successor of {}, does not serve", new.id(), old.id()));
                    } else if self.parked.contains(old.workload()) {
                        going.trouble = Some(format!("{} waits for room", old.workload()));
                    }
                    going.moving.insert(number, moving);
                }
                // Its successor was ended, or what it runs changed, and its workload goes on by its own rules.
                (Some(_), _) | (None, None) => {
                    going.left_out += 1;
                    let workload = old.map(|held| held.workload().clone());
                    self.cluster.touched.workloads.extend(workload);
                }
            }
        }
        let is_stuck = going.moving.is_empty() && !going.queue.is_empty();
        if is_stuck && self.now >= going.progress_at + MOVE_MS_MAX {
            going.trouble.get_or_insert_with(|| "what is to be moved does not come to rest".to_owned());
        }
        going
    }

    fn begin_moves(&mut self) {
        let most = self.settings.rebalance_moves_max.max(1);
        for _ in 0..LOOKS_MAX {
            let Some(going) = self.rebalancing.as_mut().filter(|going| going.moving.len() < most) else { return };
            if self.placements_left == 0 {
                return;
            }
            let Some((number, gain)) = going.queue.pop_front() else { return };
            let attempt = self.attempt_move(number, gain);
            let Some(going) = &mut self.rebalancing else { return };
            match attempt {
                Attempt::Begun => going.progress_at = self.now,
                Attempt::NotNow => going.queue.push_back((number, gain)),
                Attempt::NoGain => going.left_out += 1,
            }
        }
    }

    /// Places the successor of an instance where it is better, if that is so still.
    fn attempt_move(&mut self, number: u64, gain: Gain) -> Attempt {
        let Some(held) = self.cluster.held(number).filter(|held| held.is_wanted()) else { return Attempt::NoGain };
        let (id, slot, node, serves) =
            (held.workload().clone(), held.slot(), NodeIndex(held.node_index()), held.is_serving());
        if !self.cluster.workloads.contains_key(&id) {
            return Attempt::NoGain;
        }
        if !self.may_move(&id) {
            let at = self.rebalancing.as_ref().map_or(self.now, |going| going.progress_at) + MOVE_MS_MAX;
            self.timers.set(at, Timer::Look(id));
            return Attempt::NotNow;
        }
        self.count_for_spread(&id);
        let Some(group) = self.cluster.ledger.group(&id).filter(|_| serves) else { return Attempt::NoGain };
        let use_max = self.settings.rebalance_use_max_per_mille;
        let Some(to) = self.cluster.ledger.engine.better(group, node, gain, use_max) else { return Attempt::NoGain };
        // It counts no more from here on: a hard rule would forbid both at once.
        self.cluster.set_counted(number, false);
        let Some(seat) = self.cluster.reserve_on(&id, to.0) else {
            self.cluster.set_counted(number, true);
            return Attempt::NoGain;
        };
        let successor = self.commit_to(&id, slot, &seat);
        if let Some(going) = &mut self.rebalancing {
            going.moving.insert(number, Moving { successor, since: self.now });
        }
        self.tell_replaced(number, successor, Why::Moving);
        self.timers.set(self.now + MOVE_MS_MAX, Timer::Look(id.clone()));
        self.cluster.touched.workloads.insert(id);
        Attempt::Begun
    }

    /// Tells people how it ended, once it did. What is on its way then is decided by the rule of slots: the successor stays
    /// if it serves, else the original.
    fn end_rebalance(&mut self) {
        let Some(going) = self.rebalancing.take_if(|going| going.trouble.is_some() || going.left() == 0) else {
            return;
        };
        let (moved, left) = (instances(going.moved), going.left());
        let (kind, message) = match going.trouble {
            Some(trouble) => ("rebalance-stopped", format!("{trouble}: {moved} moved, {left} not")),
            None if going.left_out == 0 => ("rebalanced", format!("{moved} moved")),
            None => (
                "rebalanced",
                format!("{moved} moved, {} left out: changed, or no better elsewhere by now", going.left_out),
            ),
        };
        self.history.add(self.now, Subject::Cluster, kind, message);
        let workloads = going.moving.keys().filter_map(|number| Some(self.cluster.held(*number)?.workload().clone()));
        let workloads: Vec<WorkloadId> = workloads.collect();
        self.cluster.touched.workloads.extend(workloads);
    }

    /// Whether instances of a workload may be moved: a service that is as wanted, and whose successor can start beside it.
    fn may_move(&self, id: &WorkloadId) -> bool {
        let Some(entry) = self.cluster.workloads.get(id) else { return false };
        let is_service = matches!(entry.spec().kind, WorkloadKind::Service { .. });
        let is_calm = entry.is_steady || self.cluster.numbers_of(id).iter().any(|number| self.is_moving(*number));
        // Data does not move, and who dials a node's port means that node.
        is_service && is_calm && entry.parked.is_none() && !is_stop_first(entry)
    }
}

/// Whether an instance runs what its workload is now.
fn is_current_now(scheduler: &Scheduler, held: Held<'_>) -> bool {
    let entry = scheduler.cluster.workloads.get(held.workload());
    entry.is_some_and(|entry| is_current(held, entry))
}

fn instances(count: usize) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}
