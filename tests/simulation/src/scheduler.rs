//! The real scheduler core in a simulated daemon: its disk, its sessions, its crashes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use agent_core::Version;
use api_types::{
    assignment::AssignmentSet,
    counter::{Epoch, RequestId, SessionId},
    id::NodeId,
    node::NodeUsage,
    service::ServiceTable,
    time::Timestamp,
};
use scheduler_core::{
    Scheduler, Settings,
    effect::{Accepted, Effect, Record, RecordKey, Refusal},
    input::Input,
};

use crate::{
    event::{ConnectionId, Down, Event, NodeIndex, Up},
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
    pub records: BTreeMap<RecordKey, Record>,
    /// The settings of every run.
    pub settings: Settings,
    /// When its disk is quick again.
    pub slow_until: Timestamp,
    /// A transaction on its way to the disk: then nothing else is done, and nothing of it is visible.
    pending: Option<Batch>,
    /// What sessions may send: as of the last transaction that is durable.
    sets: BTreeMap<NodeIndex, Arc<AssignmentSet>>,
    table: Option<Arc<ServiceTable>>,
    /// Sets of long ago, for the ghost of an earlier scheduler to send.
    pub ghosts: BTreeMap<NodeIndex, Arc<AssignmentSet>>,
    inbox: VecDeque<Input>,
    sessions: BTreeMap<NodeIndex, Session>,
    session_count: u64,
    tick_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Batch {
    writes: Vec<Effect>,
    visible: Vec<Effect>,
    /// The node whose session begins with it.
    opened: Option<NodeId>,
}

#[derive(Debug)]
struct Session {
    connection: ConnectionId,
    set: Option<Version>,
    table: Option<Version>,
    pumping: bool,
}

impl SimScheduler {
    /// A daemon that was never started.
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self {
            core: None,
            epoch: Epoch(0),
            up_since: now,
            records: BTreeMap::new(),
            settings,
            slow_until: now,
            pending: None,
            sets: BTreeMap::new(),
            table: None,
            ghosts: BTreeMap::new(),
            inbox: VecDeque::new(),
            sessions: BTreeMap::new(),
            session_count: 0,
            tick_at: None,
        }
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
        let records = scheduler.records.values().cloned().collect();
        let core = Scheduler::recover(scheduler.settings.clone(), scheduler.epoch, records, self.now);
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

    fn drain_inbox(&mut self) {
        while self.scheduler.pending.is_none() {
            let Some(input) = self.scheduler.inbox.pop_front() else { break };
            let Some(core) = &mut self.scheduler.core else {
                self.scheduler.inbox.clear();
                return;
            };
            let opened = match &input {
                Input::SessionOpened { node, .. } => Some(node.clone()),
                Input::Tick | Input::Request { .. } | Input::SessionClosed { .. } | Input::Heartbeat { .. } => None,
                Input::Reported { .. } | Input::NodeReported { .. } => None,
            };
            let mut effects = Vec::new();
            core.step(self.now, input, &mut effects);
            self.steps += 1;
            self.check_scheduler(!effects.is_empty());
            self.check_causes(&effects);
            let (writes, visible): (Vec<_>, Vec<_>) =
                effects.into_iter().partition(|effect| matches!(effect, Effect::Persist(_) | Effect::Forget(_)));
            let batch = Batch { writes, visible, opened };
            if batch.writes.is_empty() {
                self.show(batch);
            } else {
                let slow = self.now < self.scheduler.slow_until;
                let takes = if slow { self.random.between(100, 1500) } else { self.random.between(1, 8) };
                self.scheduler.pending = Some(batch);
                let epoch = self.scheduler.epoch;
                self.after(takes, Event::Committed { epoch });
            }
        }
        self.arm_scheduler();
    }

    /// The transaction is durable: it becomes visible, and the next input is taken.
    pub fn committed(&mut self, epoch: Epoch) {
        if epoch != self.scheduler.epoch {
            return;
        }
        let Some(mut batch) = self.scheduler.pending.take() else { return };
        self.write(std::mem::take(&mut batch.writes));
        self.show(batch);
        self.drain_inbox();
    }

    /// A deadline may be due.
    pub fn scheduler_tick(&mut self) {
        if self.scheduler.tick_at.is_some_and(|at| at <= self.now) {
            self.scheduler.tick_at = None;
        }
        let Some(core) = &self.scheduler.core else { return };
        if self.scheduler.pending.is_none() && core.next_deadline().is_some_and(|(at, _)| at <= self.now) {
            self.step_scheduler(Input::Tick);
        } else {
            self.arm_scheduler();
        }
    }

    /// A message of an agent arrives.
    pub fn up(&mut self, id: ConnectionId, message: Up) {
        let Some(connection) = self.connections.get(&id).filter(|connection| !connection.broken) else { return };
        let (index, session) = (connection.node, connection.session);
        if self.scheduler.core.is_none() || self.nodes[index].cut_up {
            self.break_connection(id);
            return;
        }
        let node = self.nodes[index].id.clone();
        if !self.is_registered(index) {
            self.break_connection(id);
            return;
        }
        match (message, session) {
            (Up::Hello { facts, held }, _) => {
                self.scheduler.session_count += 1;
                let session = SessionId(self.scheduler.session_count);
                let (set, table) = held;
                let state = Session { connection: id, set, table, pumping: false };
                if let Some(older) = self.scheduler.sessions.insert(index, state) {
                    self.break_connection(older.connection);
                }
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.session = Some(session);
                }
                self.note(&format!("{node}: session {session} opens"));
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::SessionOpened { node, session, facts });
            }
            (Up::Heartbeat, Some(session)) => {
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::Heartbeat { node, session });
            }
            (Up::Report(report), Some(session)) => {
                self.nodes[index].last_heard = self.now;
                let (statuses, gone, complete) = (report.statuses, report.gone, report.complete);
                self.step_scheduler(Input::Reported { node, session, statuses, gone, complete });
            }
            (Up::NodeReport(conditions), Some(session)) => {
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::NodeReported {
                    node,
                    session,
                    conditions: Some(conditions),
                    facts: None,
                    usage: NodeUsage::default(),
                    instances: BTreeMap::new(),
                });
            }
            (Up::Heartbeat | Up::Report(_) | Up::NodeReport(_), None) => {}
        }
    }

    /// The scheduler's end of a connection closes.
    pub fn scheduler_notices(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (index, session) = (connection.node, connection.session.take());
        if !connection.agent_open {
            self.connections.remove(&id);
        }
        let Some(session) = session else { return };
        if self.scheduler.sessions.get(&index).is_some_and(|state| state.connection == id) {
            self.scheduler.sessions.remove(&index);
        }
        let node = self.nodes[index].id.clone();
        if self.scheduler.core.is_some() {
            self.step_scheduler(Input::SessionClosed { node, session });
        }
    }

    /// A session sends what its node does not have: what is so now, not what was so when it was asked to.
    pub fn pump(&mut self, id: ConnectionId) {
        let Some(index) = self.connections.get(&id).map(|connection| connection.node) else { return };
        let SimScheduler { sessions, sets, table, .. } = &mut self.scheduler;
        let Some(session) = sessions.get_mut(&index).filter(|held| held.connection == id) else { return };
        session.pumping = false;
        let mut messages = Vec::new();
        if let Some(set) = sets.get(&index)
            && session.set != Some((set.epoch, set.generation))
        {
            session.set = Some((set.epoch, set.generation));
            messages.push(Down::Assignments(set.clone()));
        }
        if let Some(table) = table
            && session.table != Some((table.epoch, table.generation))
        {
            session.table = Some((table.epoch, table.generation));
            messages.push(Down::Services(table.clone()));
        }
        for message in messages {
            self.send_down(id, message);
        }
    }

    /// Lets be seen what is durable: the core is at the end of the batch, and nowhere else.
    fn show(&mut self, batch: Batch) {
        for effect in batch.visible {
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
                    for index in all {
                        self.pump_soon(index);
                    }
                }
                Effect::NodeRemoved(node) => self.show_removed(&node),
            }
        }
        let Some(node) = batch.opened else { return };
        if let Some(connection) = self.index.get(&node).and_then(|index| self.scheduler.sessions.get(index)) {
            let (id, epoch) = (connection.connection, self.scheduler.epoch);
            self.send_down(id, Down::Welcome { epoch });
        }
        self.publish_set(&node);
    }

    /// Whether the scheduler's disk knows the node: nobody else gets a session.
    pub fn is_registered(&self, index: NodeIndex) -> bool {
        self.scheduler.records.contains_key(&RecordKey::Node(self.nodes[index].id.clone()))
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

    fn publish_set(&mut self, node: &NodeId) {
        let Some(&index) = self.index.get(node) else { return };
        let set = self.scheduler.core.as_ref().and_then(|core| core.assignment_set(node));
        let before = match set {
            Some(set) => self.scheduler.sets.insert(index, set),
            None => self.scheduler.sets.remove(&index),
        };
        if let Some(before) = before
            && self.random.per_mille(100)
        {
            self.scheduler.ghosts.insert(index, before);
        }
        self.pump_soon(index);
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
            match effect {
                Effect::Persist(record) => {
                    self.scheduler.records.insert(record.key(), *record);
                }
                Effect::Forget(key) => {
                    self.scheduler.records.remove(&key);
                }
                Effect::Reply { .. } | Effect::AssignmentsChanged(_) => {}
                Effect::ServicesChanged | Effect::NodeRemoved(_) => {}
            }
        }
    }

    fn pump_soon(&mut self, index: NodeIndex) {
        let pause = self.random.between(1, 20);
        if let Some(session) = self.scheduler.sessions.get_mut(&index)
            && !session.pumping
        {
            session.pumping = true;
            let connection = session.connection;
            self.after(pause, Event::Pump(connection));
        }
    }

    fn arm_scheduler(&mut self) {
        if self.scheduler.pending.is_some() {
            return;
        }
        let Some((at, _)) = self.scheduler.core.as_ref().and_then(Scheduler::next_deadline) else { return };
        let at = at.max(self.now);
        if self.scheduler.tick_at.is_none_or(|armed| at < armed) {
            self.scheduler.tick_at = Some(at);
            self.at(at, Event::SchedulerTick);
        }
    }
}
