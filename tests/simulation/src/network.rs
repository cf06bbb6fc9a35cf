//! Connections between agents and the scheduler: delays, order within one connection, cuts in one or both directions.

use api_types::{counter::SessionId, time::Timestamp};

use crate::{
    event::{ConnectionId, Down, Event, NodeIndex, Up},
    world::World,
};

/// One dialled connection. Messages of one direction keep their order; a lost one breaks the connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Whose.
    pub node: NodeIndex,
    /// Whether messages still get through.
    pub broken: bool,
    /// Whether the scheduler's end is open, and as which session.
    pub session: Option<SessionId>,
    /// Whether the agent's end is open.
    pub agent_open: bool,
    last_up: Timestamp,
    last_down: Timestamp,
}

impl World {
    /// An agent dials, if it has no connection. Without an answer it tries again later.
    pub fn dial(&mut self, node: NodeIndex) {
        let sim = &self.nodes[node];
        if sim.agent.is_none() || sim.connection.is_some() {
            return;
        }
        if sim.cut_up || sim.cut_down || self.scheduler.core.is_none() || !self.is_registered(node) {
            let pause = self.nodes[node].random.between(200, 3000);
            self.after(pause, Event::Dial(node));
            return;
        }
        self.connection_count += 1;
        let id = self.connection_count;
        let (last_up, last_down) = (self.now, self.now);
        let connection = Connection { node, broken: false, session: None, agent_open: true, last_up, last_down };
        self.connections.insert(id, connection);
        let sim = &mut self.nodes[node];
        sim.connection = Some(id);
        sim.hello_at = self.now;
        let Some(agent) = &sim.agent else { return };
        let hello = Up::Hello { facts: Box::new(sim.said()), held: agent.held() };
        self.send_up(id, hello);
    }

    /// Sends to the scheduler.
    pub fn send_up(&mut self, id: ConnectionId, message: Up) {
        let down = self.scheduler.core.is_none();
        let Some((delay, lost)) = self.carry(id) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if lost || down || self.nodes[connection.node].cut_up {
            self.break_connection(id);
            return;
        }
        connection.last_up = connection.last_up.max(self.now + delay);
        let at = connection.last_up;
        self.at(at, Event::Up(id, message));
    }

    /// Sends to an agent.
    pub fn send_down(&mut self, id: ConnectionId, message: Down) {
        let Some((delay, lost)) = self.carry(id) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if lost || self.nodes[connection.node].cut_down {
            self.break_connection(id);
            return;
        }
        connection.last_down = connection.last_down.max(self.now + delay);
        let at = connection.last_down;
        self.at(at, Event::Down(id, message));
    }

    /// Nothing gets through any more; each end notices when it does.
    pub fn break_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.broken {
            return;
        }
        connection.broken = true;
        let random = &mut self.nodes[connection.node].random;
        let scheduler_after = random.between(0, 20_000);
        let agent_after = random.between(0, 6000);
        self.after(scheduler_after, Event::SchedulerNotices(id));
        self.after(agent_after, Event::AgentNotices(id));
    }

    /// The agent's end closes; it dials again soon.
    pub fn agent_notices(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !connection.agent_open {
            return;
        }
        connection.agent_open = false;
        let node = connection.node;
        if self.nodes[node].connection != Some(id) {
            return;
        }
        self.nodes[node].connection = None;
        self.nodes[node].session_since = None;
        self.step_agent(node, agent_core::input::Input::SessionClosed);
        let pause = self.nodes[node].random.between(50, 2000);
        self.after(pause, Event::Dial(node));
    }

    /// How many milliseconds a message takes, and whether it is lost; `None` = the connection is broken.
    fn carry(&mut self, id: ConnectionId) -> Option<(u64, bool)> {
        let connection = self.connections.get(&id).filter(|connection| !connection.broken)?;
        let loss = if self.is_quiet() { 0 } else { self.loss };
        let random = &mut self.nodes[connection.node].random;
        let delay = if random.per_mille(10) { random.between(100, 900) } else { random.between(1, 40) };
        Some((delay, random.per_mille(loss)))
    }
}
