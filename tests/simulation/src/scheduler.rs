//! The real scheduler core in a simulated daemon: its disk and its crashes.

mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use api_types::{
    assignment::AssignmentSet,
    counter::{Epoch, RequestId},
    id::NodeId,
    service::ServiceTable,
    time::Timestamp,
};
use scheduler_core::{
    Scheduler, Settings,
    effect::{Accepted, Effect, Record, RecordKey, Refusal},
    input::Input,
};

use crate::{
    disk::Disk,
    event::{ConnectionId, Down, Event, NodeIndex},
    node::shift,
    scheduler::sessions::Session,
    world::World,
};

/// The scheduler's daemon.
#[derive(Debug)]
pub struct SimScheduler {
    /// The core, while the daemon runs.
    pub core: Option<Scheduler>,
    /// Which run this is.
    pub epoch: Epoch,
    /// Since when it runs.
    pub up_since: Timestamp,
    /// What is durable.
    pub disk: Disk,
    /// What will be, once all that was decided is durable.
    pub decided: Disk,
    /// The settings of every run.
    pub settings: Settings,
    /// When its disk is quick again.
    pub slow_until: Timestamp,
    /// When it dies by itself.
    pub doom: Option<Doom>,
    /// What waits for it while it is stopped.
    pub frozen: Option<Vec<Event>>,
    /// How wrong its clock will be after its next start, in milliseconds.
    pub next_clock_ms: i64,
    clock_ms: i64,
    /// A transaction on its way to the disk: then nothing else is done, and nothing of it is visible.
    pending: Option<Batch>,
    /// The nodes that the disk knows.
    registered: BTreeSet<NodeIndex>,
    /// What sessions may send: as of the last transaction that is durable.
    sets: BTreeMap<NodeIndex, Arc<AssignmentSet>>,
    table: Option<Arc<ServiceTable>>,
    /// Sets and tables of long ago, for the ghost of an earlier scheduler to send.
    pub ghosts: BTreeMap<NodeIndex, Ghost>,
    inbox: VecDeque<Input>,
    sessions: BTreeMap<NodeIndex, Session>,
    session_count: u64,
    tick_at: Option<Timestamp>,
}

/// What an earlier scheduler once sent.
pub type Ghost = (Option<Arc<AssignmentSet>>, Option<Arc<ServiceTable>>);

/// A death between two effects.
#[derive(Clone, Copy, Debug)]
pub struct Doom {
    /// How many effects are still done; writing a transaction is one.
    pub effects: u64,
    /// For how many milliseconds it is dead.
    pub down_ms: u64,
}

/// Milliseconds after a change of the service table within which a session sends it: several changes become one.
const TABLE_PAUSE_MS: u64 = 400;

/// The same in a world of more nodes than [`LARGE`], where most of all work is to follow tables.
const LARGE_TABLE_PAUSE_MS: u64 = 1_600;

/// Nodes above which a world is large.
const LARGE: usize = 50;

/// The most inputs that are stepped before one transaction.
const BATCH_MAX: usize = 256;

#[derive(Debug, Default)]
struct Batch {
    writes: Vec<Effect>,
    visible: Vec<Effect>,
    /// The nodes whose sessions begin with it.
    opened: Vec<NodeId>,
}

impl SimScheduler {
    /// A daemon that was never started.
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self {
            core: None,
            epoch: Epoch(0),
            up_since: now,
            disk: Disk::default(),
            decided: Disk::default(),
            settings,
            slow_until: now,
            doom: None,
            frozen: None,
            next_clock_ms: 0,
            clock_ms: 0,
            pending: None,
            registered: BTreeSet::new(),
            sets: BTreeMap::new(),
            table: None,
            ghosts: BTreeMap::new(),
            inbox: VecDeque::new(),
            sessions: BTreeMap::new(),
            session_count: 0,
            tick_at: None,
        }
    }

    /// Whether something waits to be decided, or to be durable.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some() || !self.inbox.is_empty()
    }

    /// How wrong its clock is, in milliseconds.
    #[must_use]
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }
}

impl World {
    /// The daemon starts with what its disk has.
    pub fn start_scheduler(&mut self) {
        if self.scheduler.core.is_some() {
            return;
        }
        let scheduler = &mut self.scheduler;
        scheduler.epoch = scheduler.epoch.next();
        scheduler.up_since = self.now;
        scheduler.tick_at = None;
        scheduler.clock_ms = std::mem::take(&mut scheduler.next_clock_ms);
        let records = scheduler.disk.records.values().cloned().collect();
        let now = shift(self.now, scheduler.clock_ms);
        let core = Scheduler::recover(scheduler.settings.clone(), scheduler.epoch, records, now);
        scheduler.decided = scheduler.disk.clone();
        scheduler.sets.clear();
        scheduler.table = core.service_table();
        scheduler.core = Some(core);
        for node in &mut self.nodes {
            node.last_heard = self.now;
        }
        self.note(&format!("scheduler: starts, epoch {}", self.scheduler.epoch));
        self.check_acknowledged();
        self.step_scheduler(Input::Tick);
    }

    /// The daemon dies. What was on its way to the disk may have arrived; nobody was told of it.
    pub fn crash_scheduler(&mut self) {
        if self.scheduler.core.take().is_none() {
            return;
        }
        self.scheduler.doom = None;
        self.scheduler.frozen = None;
        let arrived = self.random.per_mille(500);
        if let Some(batch) = self.scheduler.pending.take()
            && arrived
        {
            self.write(batch.writes);
        }
        self.scheduler.inbox.clear();
        self.scheduler.sessions.clear();
        let open: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, held)| !held.broken).map(|(id, _)| *id).collect();
        for id in open {
            self.break_connection(id);
        }
        self.note("scheduler: dies");
    }

    /// Gives the core an input, or keeps it until the disk is done.
    pub fn step_scheduler(&mut self, input: Input) {
        self.scheduler.inbox.push_back(input);
        self.drain_inbox();
    }

    /// Steps all that waits, as one transaction: nothing of it is visible before all of it is durable.
    pub fn drain_inbox(&mut self) {
        if self.scheduler.frozen.is_some() {
            return;
        }
        while self.scheduler.pending.is_none() && !self.scheduler.inbox.is_empty() {
            if self.scheduler.core.is_none() {
                self.scheduler.inbox.clear();
                return;
            }
            let batch = self.decide();
            if batch.writes.is_empty() {
                self.show(batch);
                continue;
            }
            let slow = self.now < self.scheduler.slow_until;
            let takes = if slow { self.random.between(100, 1500) } else { self.random.between(1, 8) };
            self.scheduler.pending = Some(batch);
            let epoch = self.scheduler.epoch;
            self.after(takes, Event::Committed { epoch });
            // What is written may still arrive, or not.
            self.is_doomed();
        }
        self.arm_scheduler();
    }

    fn decide(&mut self) -> Batch {
        let mut batch = Batch::default();
        let now = shift(self.now, self.scheduler.clock_ms);
        for _ in 0..BATCH_MAX {
            let (Some(core), Some(input)) = (&mut self.scheduler.core, self.scheduler.inbox.pop_front()) else { break };
            if let Input::SessionOpened { node, .. } = &input {
                batch.opened.push(node.clone());
            }
            let mut effects = Vec::new();
            core.step(now, input, &mut effects);
            self.steps += 1;
            self.check_scheduler(!effects.is_empty());
            self.check_scales(&effects);
            self.check_causes(&effects);
            self.check_runs(&effects);
            self.check_releases(&effects);
            self.check_placements(&effects);
            for effect in effects {
                let is_write = matches!(effect, Effect::Persist(_) | Effect::Forget(_));
                if is_write { &mut batch.writes } else { &mut batch.visible }.push(effect);
            }
        }
        batch
    }

    /// Whether the scheduler dies now, one effect later than a moment ago.
    fn is_doomed(&mut self) -> bool {
        let Some(doom) = &mut self.scheduler.doom else { return false };
        doom.effects = doom.effects.saturating_sub(1);
        let (left, down_ms) = (doom.effects, doom.down_ms);
        if left == 0 {
            self.note("scheduler: is to die between two effects");
            self.scheduler_dies(down_ms);
        }
        left == 0
    }

    /// The transaction is durable: it becomes visible, and the next input is taken.
    pub fn committed(&mut self, epoch: Epoch) {
        if epoch != self.scheduler.epoch {
            return;
        }
        let Some(mut batch) = self.scheduler.pending.take() else { return };
        self.write(std::mem::take(&mut batch.writes));
        if !self.is_doomed() {
            self.show(batch);
            self.drain_inbox();
        }
    }

    /// A deadline may be due.
    pub fn scheduler_tick(&mut self) {
        if self.scheduler.tick_at.is_some_and(|at| at <= self.now) {
            self.scheduler.tick_at = None;
        }
        let now = shift(self.now, self.scheduler.clock_ms);
        let Some(core) = &self.scheduler.core else { return };
        if self.scheduler.pending.is_none() && core.next_deadline().is_some_and(|(at, _)| at <= now) {
            self.step_scheduler(Input::Tick);
        } else {
            self.arm_scheduler();
        }
    }

    /// Lets be seen what is durable: the core is at the end of the batch, and nowhere else.
    fn show(&mut self, batch: Batch) {
        for effect in batch.visible {
            if self.is_doomed() {
                return;
            }
            match effect {
                Effect::Persist(_) | Effect::Forget(_) => {}
                Effect::Reply { request, outcome } => self.show_reply(request, outcome),
                Effect::AssignmentsChanged(node) => {
                    self.moves += 1;
                    self.note(&format!("scheduler: set of {node} changed"));
                    self.publish_set(&node);
                }
                Effect::ServicesChanged => {
                    self.moves += 1;
                    self.note("scheduler: services changed");
                    self.scheduler.table = self.scheduler.core.as_ref().and_then(Scheduler::service_table);
                    let all: Vec<NodeIndex> = self.scheduler.sessions.keys().copied().collect();
                    let most_ms = if self.nodes.len() > LARGE { LARGE_TABLE_PAUSE_MS } else { TABLE_PAUSE_MS };
                    for index in all {
                        self.pump_within(index, most_ms);
                    }
                }
                Effect::NodeRemoved(node) => self.show_removed(&node),
            }
        }
        for node in batch.opened {
            if let Some(connection) = self.index.get(&node).and_then(|index| self.scheduler.sessions.get(index)) {
                let (id, epoch) = (connection.connection, self.scheduler.epoch);
                self.send_down(id, Down::Welcome { epoch });
            }
            self.publish_set(&node);
        }
    }

    fn show_removed(&mut self, node: &NodeId) {
        self.moves += 1;
        self.note(&format!("scheduler: {node} removed"));
        let Some(&index) = self.index.get(node) else { return };
        self.scheduler.sets.remove(&index);
        self.scheduler.ghosts.remove(&index);
        if let Some(session) = self.scheduler.sessions.remove(&index) {
            self.break_connection(session.connection);
        }
    }

    fn show_reply(&mut self, request: RequestId, outcome: Result<Accepted, Refusal>) {
        let said = match &outcome {
            Ok(_) => "yes".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        self.note(&format!("scheduler: answer to {request}: {said}"));
        // It takes its way: nothing is asked of the core while a batch is being shown.
        let takes = self.random.between(1, 10);
        self.after(takes, Event::Reply { request, outcome: outcome.map(|_| ()) });
    }

    fn write(&mut self, writes: Vec<Effect>) {
        for effect in writes {
            if let Effect::Persist(record) = &effect
                && let Record::Node(node) = &**record
            {
                self.scheduler.registered.extend(self.index.get(&node.id));
            }
            if let Effect::Forget(RecordKey::Node(node)) = &effect
                && let Some(index) = self.index.get(node)
            {
                self.scheduler.registered.remove(index);
            }
            self.scheduler.disk.write(effect);
        }
    }

    fn arm_scheduler(&mut self) {
        if self.scheduler.pending.is_some() {
            return;
        }
        let Some((at, _)) = self.scheduler.core.as_ref().and_then(Scheduler::next_deadline) else { return };
        let at = shift(at, -self.scheduler.clock_ms).max(self.now);
        if self.scheduler.tick_at.is_none_or(|armed| at < armed) {
            self.scheduler.tick_at = Some(at);
            self.at(at, Event::SchedulerTick);
        }
    }
}
