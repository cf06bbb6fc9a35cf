//! The sessions of the scheduler's daemon: what agents say, and what they are sent.

use std::collections::BTreeMap;

use agent_core::Version;
use api_types::{
    counter::SessionId,
    id::{InstanceId, NodeId},
    instance::InstanceUsage,
    node::{Condition, NodeFacts, NodeUsage},
    time::Timestamp,
};
use scheduler_core::input::Input;

use crate::{
    event::{ConnectionId, Down, Event, NodeIndex, Up},
    scheduler::SimScheduler,
    world::World,
};

/// A session, as the scheduler's end knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    set: Option<Version>,
    table: Option<Version>,
    pumping: bool,
}

impl World {
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
        self.note_fenced(&message);
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
                self.nodes[index].session = Some(session);
                self.nodes[index].told = Some((*facts).clone());
                self.nodes[index].said_all = false;
                self.step_scheduler(Input::SessionOpened { node, session, facts: *facts });
            }
            (Up::Heartbeat, Some(session)) => {
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::Heartbeat { node, session });
            }
            (Up::Alone(jobs), Some(session)) => {
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::RanAlone { node, session, jobs: (*jobs).clone() });
            }
            (Up::RenewLease(said_at), Some(session)) => {
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::Heartbeat { node, session });
                self.after(1, Event::AnswerLease(id, said_at));
            }
            (Up::Report(report), Some(session)) => {
                let sim = &mut self.nodes[index];
                sim.last_heard = self.now;
                sim.said_all |= report.complete;
                if sim.said.is_none() || sim.random.per_mille(100) {
                    sim.said = Some((session, report.clone()));
                }
                let (statuses, gone, complete) = (report.statuses, report.gone, report.complete);
                self.step_scheduler(Input::Reported { node, session, statuses, gone, complete });
            }
            (Up::NodeReport(conditions, usage), Some(session)) => {
                self.node_said((index, session), Some(conditions), None, usage);
            }
            (Up::Programmed((epoch, generation)), Some(session)) => {
                self.nodes[index].last_heard = self.now;
                self.step_scheduler(Input::Programmed { node, session, epoch, generation });
            }
            (Up::Facts(facts), Some(session)) => {
                self.nodes[index].told = Some((*facts).clone());
                self.node_said((index, session), None, Some(*facts), BTreeMap::new());
            }
            (Up::Heartbeat | Up::RenewLease(_) | Up::Alone(_) | Up::Report(_) | Up::NodeReport(..), None) => {}
            (Up::Programmed(_) | Up::Facts(_), None) => {}
        }
    }

    fn node_said(
        &mut self,
        (index, session): (NodeIndex, SessionId),
        conditions: Option<Vec<Condition>>,
        facts: Option<NodeFacts>,
        instances: BTreeMap<InstanceId, InstanceUsage>,
    ) {
        self.nodes[index].last_heard = self.now;
        if let Some(conditions) = &conditions {
            self.nodes[index].said_well = conditions.iter().all(|condition| condition.ok);
        }
        let node = self.nodes[index].id.clone();
        let (usage, requests) = (NodeUsage::default(), BTreeMap::new());
        self.step_scheduler(Input::NodeReported { node, session, conditions, facts, usage, instances, requests });
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

    /// Tells an agent that it was heard, behind the set as it is once all was decided that came before: not while a
    /// transaction is under way.
    pub fn answer_lease(&mut self, id: ConnectionId, said_at: Timestamp) {
        if self.scheduler.core.is_none() {
            return;
        }
        if self.scheduler.is_busy() {
            self.after(5, Event::AnswerLease(id, said_at));
            return;
        }
        self.pump(id);
        self.send_down(id, Down::LeaseRenewed(said_at));
    }

    /// Whether the scheduler's disk knows the node: nobody else gets a session.
    pub fn is_registered(&self, index: NodeIndex) -> bool {
        self.scheduler.registered.contains(&index)
    }

    pub(super) fn publish_set(&mut self, node: &NodeId) {
        let Some(&index) = self.index.get(node) else { return };
        let set = self.scheduler.core.as_ref().and_then(|core| core.assignment_set(node));
        let before = match set {
            Some(set) => self.scheduler.sets.insert(index, set),
            None => self.scheduler.sets.remove(&index),
        };
        if let Some(before) = before
            && self.random.per_mille(100)
        {
            self.scheduler.ghosts.insert(index, (Some(before), self.scheduler.table.clone()));
        }
        self.pump_soon(index);
    }

    /// Lets the node's session send soon.
    pub(super) fn pump_soon(&mut self, index: NodeIndex) {
        self.pump_within(index, 20);
    }

    /// Lets the node's session send within so many milliseconds, or when it is about to anyway.
    pub(super) fn pump_within(&mut self, index: NodeIndex, most_ms: u64) {
        let pause = self.random.between(1, most_ms);
        if let Some(session) = self.scheduler.sessions.get_mut(&index)
            && !session.pumping
        {
            session.pumping = true;
            let connection = session.connection;
            self.after(pause, Event::Pump(connection));
        }
    }
}
