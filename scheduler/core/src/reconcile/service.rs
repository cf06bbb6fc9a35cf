//! N replicas by slot: fill what is empty, replace what is given up, roll out what changed, end what is surplus.
//!
//! A slot holds at most one instance that is as wanted and one that it replaces; the latter goes when the former serves.

use std::collections::BTreeMap;

use api_types::{disconnect::OnReturn, id::WorkloadId, node::Liveness};

use crate::{
    history::Subject,
    machine::Scheduler,
    placement::Seat,
    reconcile::{
        ENDED_RETRY_MS,
        rollout::Remainder,
        rollout_share,
        slots::{LIVE_PER_SLOT_MAX, Slot, Why, is_stop_first},
        volumes::Home,
    },
    timers::Timer,
};

/// A step may place at least this part of the instances that a service has, since it looks at all of them: a million are
/// placed in a few dozen looks then, not in a thousand.
const GROWTH_PART: usize = 4;

/// How a slot stands after what needs no new instance was done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing to do, or nobody knows.
    Settled,
    /// Its instance is not well yet, and its node is heard of.
    UnderWay,
    /// It needs a new instance at once.
    Replace,
    /// Its instance is to leave a draining node.
    Move(u64),
    /// Its instance runs an earlier revision.
    Renew(u64),
    /// Its instance ends again and again where it is.
    Escape(u64),
}

/// What a service asks of placement, the most pressing first.
#[derive(Debug, Default)]
struct Needs {
    now: Vec<u32>,
    moves: Vec<(u32, u64)>,
    renewals: Vec<(u32, u64)>,
    escapes: Vec<(u32, u64)>,
    /// Escapes that are under way.
    escaping: usize,
    under_way: usize,
}

impl Scheduler {
    /// Brings a service up to date.
    pub(crate) fn reconcile_service(&mut self, id: &WorkloadId, replicas: u32) {
        if self.judge_rollout(id) {
            return;
        }
        self.placements_left = self.placements_left.max(self.cluster.numbers_of(id).len() / GROWTH_PART);
        self.ask_turns(id);
        self.count_for_spread(id);
        let mut slots = self.slots_of(id);
        self.scale_down(id, replicas, &mut slots);
        let needs = self.needs_of(id, replicas, &mut slots);
        if let Some(at) = self.next_look(id) {
            self.timers.set(at, Timer::Look(id.clone()));
        }
        let is_calm = slots.len() == replicas as usize && slots.values().all(Slot::is_steady);
        let is_steady = is_calm && !self.is_rolling_out(id);
        if let Some(entry) = self.cluster.workloads.get_mut(id) {
            entry.is_steady = is_steady;
        }
        let before = self.placements_left;
        let mut room = self.fill(id, needs.now.clone(), &slots);
        if !self.is_exclusive(id) {
            room &= self.give_away(id, &needs.moves);
        } else if !slots.values().any(|slot| slot.is_ending) {
            room &= self.end_to_move(id, &needs.moves);
        }
        // Who was stopped to make room for its successor is under way, too, until that is placed.
        let makes_room = |number: &&u32| slots.get(number).is_some_and(|slot| slot.is_ending && !slot.is_held());
        let making_room = needs.now.iter().filter(makes_room).count();
        let under_way = needs.under_way + making_room.max(before - self.placements_left);
        let updated = slots.values().filter(|slot| !slot.targets.is_empty()).count();
        let count = self.rollout_width(id, replicas as usize, updated).saturating_sub(under_way);
        if count > 0 {
            room &= self.renew(id, &needs.renewals, count);
        }
        let count = rollout_share(replicas as usize).saturating_sub(needs.escaping);
        self.replace_elsewhere(id, &needs.escapes, count);
        if self.is_rolling_out(id) {
            let outdated = needs.renewals.iter().any(|(_, old)| self.is_heard(*old));
            let under_way = !needs.now.is_empty() || under_way > 0;
            let serves = |slot: &&Slot| slot.targets.iter().any(|number| self.serves(*number));
            let (serving, is_meant) = (slots.values().filter(serves).count(), replicas > 0);
            let left = Remainder { outdated, under_way, updated, serving, is_meant };
            self.note_progress(id, replicas as usize, left);
        }
        if room {
            self.unpark(id);
        } else {
            self.park(id);
        }
        self.judge_room(id, !room && updated == 0 && under_way == 0);
    }

    /// Does what needs no new instance, and collects what does.
    fn needs_of(&mut self, id: &WorkloadId, replicas: u32, slots: &mut BTreeMap<u32, Slot>) -> Needs {
        let mut needs = Needs::default();
        let held = slots.values().filter(|slot| slot.is_held()).count();
        for (number, slot) in slots.iter_mut().filter(|(_, slot)| slot.is_held()) {
            self.trim(slot);
            match self.settle_slot(slot) {
                Standing::Settled => {}
                Standing::UnderWay => {
                    needs.under_way += 1;
                    needs.escaping += usize::from(slot.stale.iter().any(|(_, why)| *why == Why::UsedUp));
                }
                Standing::Replace => needs.now.push(*number),
                Standing::Move(old) => needs.moves.push((*number, old)),
                Standing::Renew(old) => needs.renewals.push((*number, old)),
                Standing::Escape(old) => needs.escapes.push((*number, old)),
            }
        }
        let stop_first = self.cluster.workloads.get(id).is_some_and(is_stop_first);
        for number in self.free_slots(id, slots, (replicas as usize).saturating_sub(held)) {
            if stop_first && slots.get(&number).is_some_and(|slot| slot.is_ending) {
                needs.under_way += 1;
            } else {
                needs.now.push(number);
            }
        }
        needs
    }

    /// Ends what a slot holds beyond an instance and the one that it replaces. More are there only after the scheduler
    /// was killed between taking instances out of the table and telling them to stop: that they were to leave is not durable.
    fn trim(&mut self, slot: &mut Slot) {
        while slot.targets.len() + slot.stale.len() > LIVE_PER_SLOT_MAX {
            let targets = slot.targets.iter().map(|number| (self.serves(*number), true, *number));
            let stale = slot.stale.iter().map(|(number, _)| (self.serves(*number), false, *number));
            let Some((_, _, least)) = targets.chain(stale).min() else { return };
            slot.targets.retain(|number| *number != least);
            slot.stale.retain(|(number, _)| *number != least);
            self.retire(least);
        }
    }

    fn settle_slot(&mut self, slot: &Slot) -> Standing {
        let Some(kept) = self.keep_one(slot) else { return self.stand_in(slot) };
        if self.serves(kept) {
            // One that is to come back to its slot waits for its node.
            let awaits = self.on_return(kept) == Some(OnReturn::KeepOriginal);
            let replaced = slot.stale.iter().filter(|(_, why)| !awaits || *why != Why::GivenUp);
            let replaced: Vec<u64> = replaced.map(|(old, _)| *old).collect();
            if !replaced.is_empty() && !self.is_known(kept) {
                return Standing::UnderWay;
            }
            for old in replaced {
                self.retire(old);
            }
            self.barriers.forget(kept);
            return Standing::Settled;
        }
        self.barriers.forget(kept);
        for (old, why) in &slot.stale {
            if matches!(why, Why::Ended(_)) {
                self.retire(*old);
            }
        }
        if self.is_heard(kept) { Standing::UnderWay } else { Standing::Settled }
    }

    /// Which of the instances that are as wanted stays. Two are there when a node returns whose instance was being
    /// replaced: the replacement stays if it serves already, else the original, unless the workload says who. That one is
    /// waited for.
    fn keep_one(&mut self, slot: &Slot) -> Option<u64> {
        let (oldest, newest) = (*slot.targets.first()?, *slot.targets.last()?);
        if slot.targets.len() == 1 {
            return Some(oldest);
        }
        let chosen = match self.on_return(oldest) {
            Some(OnReturn::KeepOriginal) => Some(oldest),
            Some(OnReturn::KeepReplacement) => Some(newest),
            None => None,
        };
        if let Some(chosen) = chosen.filter(|chosen| !self.serves(*chosen)) {
            return Some(chosen);
        }
        let serving = chosen.or_else(|| slot.targets.iter().rev().copied().find(|number| self.serves(*number)));
        let all_known = slot
            .targets
            .iter()
            .all(|number| self.cluster.held(*number).is_some_and(|held| held.node().is_ready() && held.node().synced));
        let Some(kept) = serving.or_else(|| all_known.then_some(oldest)) else { return Some(oldest) };
        let keeper = self.cluster.held(kept).map(|held| held.id());
        for surplus in slot.targets.iter().copied().filter(|number| *number != kept) {
            if let (Some(held), Some(keeper)) = (self.cluster.held(surplus), &keeper) {
                let (instance, message) = (held.instance(), format!("surplus: {keeper} holds the slot"));
                self.history.add(self.now, Subject::Instance(&instance), "surplus", message);
            }
            self.retire(surplus);
        }
        self.settle_data_of(kept);
        Some(kept)
    }

    /// Whom the workload of an instance keeps when a node returns.
    fn on_return(&self, number: u64) -> Option<OnReturn> {
        let workload = self.cluster.held(number)?.workload();
        self.cluster.workloads.get(workload)?.spec().disconnect.on_return
    }

    /// What a slot needs in which nothing is as wanted. One old instance stands in until there is a new one.
    fn stand_in(&mut self, slot: &Slot) -> Standing {
        let awaits = |number| self.on_return(number) == Some(OnReturn::KeepOriginal);
        let age = |number: u64| if awaits(number) { u64::MAX - number } else { number };
        let rank = |(number, why): &&(u64, Why)| (self.serves(*number), *why, age(*number));
        let Some((best, why)) = slot.stale.iter().max_by_key(rank).copied() else { return Standing::Settled };
        for (other, _) in slot.stale.iter().filter(|(number, _)| *number != best) {
            self.retire(*other);
        }
        match why {
            Why::Ended(at) if self.now < at + ENDED_RETRY_MS => {
                if let Some(held) = self.cluster.held(best) {
                    self.timers.set(at + ENDED_RETRY_MS, Timer::Look(held.workload().clone()));
                }
                Standing::UnderWay
            }
            // It is over already; what it holds may be what its successor needs.
            Why::Ended(_) if self.cluster.held(best).is_some_and(|held| held.spec().is_exclusive()) => {
                self.retire(best);
                Standing::UnderWay
            }
            Why::Ended(_) | Why::GivenUp => Standing::Replace,
            Why::Draining => Standing::Move(best),
            // Its successor is placed by whoever moves it.
            Why::Moving => Standing::UnderWay,
            Why::Earlier => Standing::Renew(best),
            Why::UsedUp if self.is_heard(best) => Standing::Escape(best),
            Why::UsedUp => Standing::Settled,
        }
    }

    /// Places an instance into each of these slots; whether there was room for all. Those with data go to it first.
    fn fill(&mut self, id: &WorkloadId, mut wanted: Vec<u32>, slots: &BTreeMap<u32, Slot>) -> bool {
        let mut enough = true;
        for number in self.take_out_those_with_data(id, &mut wanted) {
            enough &= self.fill_at_home(id, number, slots);
        }
        enough &= self.fill_at_sites(id, &mut wanted, slots);
        let (picks, room) = self.pick(id, &wanted);
        let missing = wanted.len() - picks.len();
        for (number, seat) in picks {
            self.fill_slot(id, number, &seat, slots);
        }
        // Not before: a claim looks at what its node's instances hold, and a place that is only taken is not among that.
        if !room {
            self.displace(id, missing, None);
        }
        enough && room
    }

    /// Places an instance into a slot whose data says where; whether it can go there.
    fn fill_at_home(&mut self, id: &WorkloadId, number: u32, slots: &BTreeMap<u32, Slot>) -> bool {
        if self.placements_left == 0 {
            self.cluster.touched.workloads.insert(id.clone());
            return true;
        }
        let home = self.cluster.workloads.get(id).map(|entry| self.home_of(entry.spec(), number));
        let Some(Home::Ready(node)) = home else {
            if let Some(home) = self.only_home(id, number) {
                self.displace(id, 1, Some(home));
            }
            return false;
        };
        let index = self.cluster.nodes.index_of(&node);
        let Some(seat) = index.and_then(|index| self.cluster.reserve_on(id, index)) else { return false };
        self.fill_slot(id, number, &seat, slots);
        // Once more, to see whether it is steady then.
        self.cluster.touched.workloads.insert(id.clone());
        true
    }

    pub(super) fn fill_slot(&mut self, id: &WorkloadId, number: u32, seat: &Seat, slots: &BTreeMap<u32, Slot>) {
        let placed = self.commit_to(id, number, seat);
        for (old, why) in slots.get(&number).map(|slot| slot.stale.as_slice()).unwrap_or_default() {
            self.tell_replaced(*old, placed, *why);
            // One whose node has surely ended it must not be wanted any more when that is back.
            if matches!(why, Why::Ended(_)) || self.is_exclusive(id) {
                self.retire(*old);
            }
        }
    }

    /// Places successors of instances on draining nodes, a few at a time; whether there was room for all.
    fn give_away(&mut self, id: &WorkloadId, moves: &[(u32, u64)]) -> bool {
        let mut allowed: Vec<u32> = self.allowed_moves(moves);
        allowed.retain(|slot| !self.has_data(id, *slot));
        let (picks, enough) = self.pick(id, &allowed);
        let missing = allowed.len() - picks.len();
        for (number, seat) in picks {
            let placed = self.commit_to(id, number, &seat);
            let old = moves.iter().find(|(slot, _)| *slot == number);
            if let Some((_, old)) = old {
                self.tell_replaced(*old, placed, Why::Draining);
            }
        }
        if !enough {
            self.displace(id, missing, None);
        }
        enough
    }

    /// Takes a place for each of these slots, as far as this step may place; whether there was room. What this step may
    /// not place is left to the next.
    pub(crate) fn pick(&mut self, id: &WorkloadId, wanted: &[u32]) -> (Vec<(u32, Seat)>, bool) {
        let now = &wanted[..wanted.len().min(self.placements_left)];
        let mut picks = Vec::new();
        if !now.is_empty() {
            picks.extend(now.iter().copied().zip(self.cluster.reserve(id, now.len())));
        }
        let enough = picks.len() == now.len();
        if !picks.is_empty() {
            // Once more, to see whether it is steady then.
            self.cluster.touched.workloads.insert(id.clone());
        }
        if enough && now.len() < wanted.len() {
            self.cluster.touched.workloads.insert(id.clone());
        }
        (picks, enough)
    }

    /// Tells placement which instances of a workload count for its evenness: those that go away anyway do not.
    pub(crate) fn count_for_spread(&mut self, id: &WorkloadId) {
        let entry = self.cluster.workloads.get(id);
        let for_successors = self.counted_for_successors(id);
        let differ = self.cluster.instances_of(id).filter_map(|held| {
            let counts =
                entry.is_some_and(|entry| self.counts_as_one_of(entry, held)) || for_successors.contains(&held.number);
            (counts != held.is_counted()).then_some((held.number, counts))
        });
        for (number, counts) in differ.collect::<Vec<_>>() {
            self.cluster.set_counted(number, counts);
        }
    }

    /// Whether an instance does its work.
    pub(crate) fn serves(&self, number: u64) -> bool {
        self.cluster.held(number).is_some_and(|held| held.is_serving())
    }

    /// Whether its node is heard of.
    pub(crate) fn is_heard(&self, number: u64) -> bool {
        self.cluster.held(number).is_some_and(|held| held.node().liveness == Liveness::Ready)
    }

    pub(crate) fn tell_replaced(&mut self, old: u64, new: u64, why: Why) {
        let (Some(old), Some(new)) = (self.cluster.held(old), self.cluster.held(new)) else { return };
        let (instance, node) = (old.instance(), old.node_id());
        let because = match why {
            Why::Ended(_) => "it ended".to_owned(),
            Why::GivenUp => format!("{node} is silent"),
            Why::Draining => format!("{node} is being drained"),
            Why::Moving => "it is better elsewhere".to_owned(),
            Why::Earlier => "its workload changed".to_owned(),
            Why::UsedUp => format!("its restarts on {node} are used up"),
        };
        let message = format!("by {}: {because}", new.id());
        self.history.add(self.now, Subject::Instance(&instance), "replaced", message);
    }
}
