//! What goes wrong: crashes, cuts, lost power, lost disks, dead processes, hands behind our back.

use agent_core::input::Input;

use crate::{
    event::{Event, NodeIndex, Wish},
    world::World,
};

impl World {
    /// Something goes wrong somewhere, and will again.
    pub fn fault(&mut self) {
        if self.calm {
            return;
        }
        let busy = 20_000 / (self.nodes.len() as u64).clamp(10, 400);
        let pause = self.random.between(busy, busy * 8);
        self.after(pause, Event::Fault);
        let node = self.random.index(self.nodes.len());
        match self.random.between(0, 99) {
            0..=1 => self.scheduler_dies(),
            2 if self.random.per_mille(200) => self.black_out(),
            2..=4 => {
                let for_ms = self.random.between(500, 8000);
                self.scheduler.slow_until = self.now + for_ms;
                self.note("scheduler: its disk is slow");
            }
            5..=24 => self.after(0, Event::AgentDies(node)),
            25..=36 => {
                self.power_off(node);
                let pause = self.random.between(3000, 60_000);
                self.after(pause, Event::PowerOn(node));
            }
            37..=46 => {
                self.crash_runtime(node);
                let pause = self.random.between(100, 10_000);
                self.after(pause, Event::RuntimeBack(node));
            }
            47..=64 => self.cut_some(vec![node]),
            65..=66 => {
                let site = self.random.index(4);
                let nodes = (0..self.nodes.len()).filter(|index| self.nodes[*index].site == site).collect();
                self.cut_some(nodes);
            }
            67..=74 => {
                if let Some(id) = self.nodes[node].connection {
                    self.break_connection(id);
                }
            }
            75..=79 => {
                self.nodes[node].disk = (None, None);
                self.note(&format!("{}: its disk forgets", self.nodes[node].id));
                self.crash_agent(node);
                self.after(200, Event::AgentStart(node));
            }
            80..=89 => self.delete_container(node),
            90..=94 => {
                // An earlier scheduler that does not know that it is over.
                if let Some(set) = self.scheduler.ghosts.get(&node) {
                    let set = (**set).clone();
                    self.note(&format!("{}: a ghost sends generation {}", self.nodes[node].id, set.generation));
                    self.step_agent(node, Input::Assigned(set));
                }
            }
            // An event hints that something changed; nothing did.
            _ => {
                if self.nodes[node].agent.is_some() {
                    self.look(node);
                }
            }
        }
    }

    /// Everything is repaired, and stays so.
    pub fn calm_down(&mut self) {
        self.calm = true;
        self.note("calm: all faults end");
        self.scheduler.slow_until = self.now;
        if self.scheduler.core.is_none() {
            self.start_scheduler();
        }
        for &index in &self.demand.removed {
            self.demand.queue.push_back(Wish::Admit(index));
        }
        for index in 0..self.nodes.len() {
            self.heal(&[index]);
            self.after(100, Event::PowerOn(index));
            self.after(200, Event::RuntimeBack(index));
            self.after(300, Event::AgentStart(index));
            self.uncordon(index);
        }
    }

    /// Links work again.
    pub fn heal(&mut self, nodes: &[NodeIndex]) {
        for &node in nodes {
            self.nodes[node].cut_up = false;
            self.nodes[node].cut_down = false;
        }
    }

    fn scheduler_dies(&mut self) {
        self.crash_scheduler();
        let pause = self.random.between(200, 30_000);
        self.after(pause, Event::SchedulerStart);
    }

    /// The power of everything goes, and comes back one by one.
    fn black_out(&mut self) {
        self.note("power: all of it is lost");
        self.scheduler_dies();
        for node in 0..self.nodes.len() {
            self.power_off(node);
            let pause = self.random.between(2000, 90_000);
            self.after(pause, Event::PowerOn(node));
        }
    }

    /// Cuts nodes off for a while: both ways, or only one.
    fn cut_some(&mut self, nodes: Vec<NodeIndex>) {
        let (up, down) = match self.random.between(0, 3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        for &node in &nodes {
            self.cut(node, up, down);
        }
        self.note(&format!("link: {} nodes from {:?} cut, up {up}, down {down}", nodes.len(), nodes.first()));
        let for_ms = self.random.between(500, 40_000);
        self.after(for_ms, Event::Heal(nodes));
    }

    /// Somebody removes a container with his own hands.
    fn delete_container(&mut self, node: NodeIndex) {
        let runtime = &mut self.nodes[node].runtime;
        if runtime.away || runtime.containers.is_empty() {
            return;
        }
        let keys: Vec<_> = runtime.containers.keys().cloned().collect();
        let key = keys[self.random.index(keys.len())].clone();
        self.nodes[node].runtime.containers.remove(&key);
        self.died_at.insert(key.0.clone(), self.now);
        self.note(&format!("{}: somebody removes {} by hand", self.nodes[node].id, key.0));
        if self.nodes[node].agent.is_some() {
            self.look(node);
        }
    }
}
