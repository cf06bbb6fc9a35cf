//! Programs that are stopped and go on later: time passes, what comes waits, and then it is all there at once.

use crate::{
    event::{ConnectionId, Event, NodeIndex},
    world::World,
};

/// Milliseconds without an answer after which the other end gives a connection up.
const KEEP_ALIVE_MS: u64 = 15_000;

impl World {
    /// An agent is stopped. Its kernel, its containerd and its containers go on.
    pub fn freeze_agent(&mut self, node: NodeIndex, for_ms: u64) {
        let sim = &mut self.nodes[node];
        if sim.agent.is_none() || sim.frozen.is_some() {
            return;
        }
        sim.frozen = Some(Vec::new());
        let (life, connection) = (sim.life, sim.connection);
        if let Some(id) = connection.filter(|_| for_ms > KEEP_ALIVE_MS) {
            self.after(KEEP_ALIVE_MS, Event::GiveUp(id));
        }
        self.after(for_ms, Event::AgentThaws { node, life });
    }

    /// A stopped agent goes on: all that waited is there at once, in the order in which it came.
    pub fn thaw_agent(&mut self, node: NodeIndex) {
        let Some(waited) = self.nodes[node].frozen.take() else { return };
        self.note(&format!("{}: goes on, {} things waited", self.nodes[node].id, waited.len()));
        self.nodes[node].stood_still_until = self.now;
        self.run(waited);
    }

    /// The scheduler is stopped; connections stay open as long as agents are patient.
    pub fn freeze_scheduler(&mut self, for_ms: u64) {
        if self.scheduler.core.is_none() || self.scheduler.frozen.is_some() {
            return;
        }
        self.scheduler.frozen = Some(Vec::new());
        if for_ms > KEEP_ALIVE_MS {
            let open: Vec<_> = self.connections.iter().filter(|(_, held)| !held.broken).map(|(id, _)| *id).collect();
            for id in open {
                self.after(KEEP_ALIVE_MS, Event::GiveUp(id));
            }
        }
        let epoch = self.scheduler.epoch;
        self.after(for_ms, Event::SchedulerThaws { epoch });
    }

    /// A connection breaks if one of its ends is still stopped.
    pub fn give_up(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        if self.scheduler.frozen.is_some() || self.nodes[connection.node].frozen.is_some() {
            self.break_connection(id);
        }
    }

    /// The stopped scheduler goes on.
    pub fn thaw_scheduler(&mut self) {
        let Some(waited) = self.scheduler.frozen.take() else { return };
        self.note(&format!("scheduler: goes on, {} things waited", waited.len()));
        self.scheduler.slow_until = self.scheduler.slow_until.max(self.now);
        self.run(waited);
        if self.scheduler.core.is_some() {
            self.drain_inbox();
        }
    }

    /// Keeps an event back whose program is stopped; gives it back otherwise.
    pub fn hold_back(&mut self, event: Event) -> Option<Event> {
        let of_connection = |world: &Self, id: &u64| world.connections.get(id).map(|held| held.node);
        let node = match &event {
            Event::AgentTick(node) | Event::Dial(node) => Some(*node),
            Event::Answer { node, .. } | Event::Probe { node, .. } => Some(*node),
            Event::Programmed { node, .. } | Event::Kept { node, .. } => Some(*node),
            Event::LookForDevices { node, .. } => Some(*node),
            Event::Down(id, _) | Event::AgentNotices(id) | Event::Heartbeat(id) => of_connection(self, id),
            Event::SchedulerTick
            | Event::Committed { .. }
            | Event::Pump(_)
            | Event::Up(..)
            | Event::AnswerLease(..) => {
                return self.hold_back_from_scheduler(event);
            }
            Event::SchedulerNotices(_) => return self.hold_back_from_scheduler(event),
            Event::SchedulerStart | Event::AgentStart(_) | Event::Rejoin(_) | Event::AgentDies(_) => None,
            Event::AgentThaws { .. } | Event::SchedulerThaws { .. } | Event::GiveUp(_) => None,
            Event::Plugged { .. }
            | Event::PowerOn(_)
            | Event::RuntimeBack(_)
            | Event::Done { .. }
            | Event::Exit { .. }
            | Event::CompanionExit { .. } => None,
            Event::Heal(_) | Event::Fault | Event::Demand | Event::TryAgain | Event::Reply { .. } => None,
            Event::DemandTimeout { .. } | Event::Uncordon(_) | Event::Sweep => None,
        };
        match node.and_then(|node| self.nodes[node].frozen.as_mut()) {
            Some(waiting) => {
                waiting.push(event);
                None
            }
            None => Some(event),
        }
    }

    fn hold_back_from_scheduler(&mut self, event: Event) -> Option<Event> {
        match &mut self.scheduler.frozen {
            Some(waiting) => {
                waiting.push(event);
                None
            }
            None => Some(event),
        }
    }
}
