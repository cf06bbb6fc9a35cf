//! No lost request: what leaves the service table is told to stop when every node that is heard of balances without it, and
//! nothing leaves before all of them know its successor.
//!
//! A node says which table its kernel holds ([`crate::input::Input::Programmed`]). One that is silent is not waited for, as it
//! is told nothing either; one that is heard of and does not say it in time is mute: an event names it, and nobody waits
//! for it until it speaks again.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::{Epoch, Generation, SessionId},
    id::NodeId,
    time::Timestamp,
};

use crate::{
    cluster::{awaited::Awaited, held::Held, nodes::NodeEntry},
    endpoints,
    history::Subject,
    machine::Scheduler,
    timers::Timer,
};

/// Which way an instance goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Into the table.
    In,
    /// Out of it.
    Out,
}

/// An instance on its way.
#[derive(Clone, Copy, Debug)]
struct Passage {
    way: Way,
    /// The first table that shows it; `None` = the one that this step makes.
    generation: Option<Generation>,
    /// The end of waiting.
    until: Timestamp,
}

/// All instances on their way, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Barriers {
    passages: BTreeMap<u64, Passage>,
    /// Index: those whose table is known.
    by_table: BTreeSet<(Generation, u64)>,
    /// Those whose table this step makes.
    fresh: Vec<u64>,
    /// Those that came in, as long as somebody waits to leave for them.
    arrived: BTreeSet<u64>,
}

impl Barriers {
    /// Whether this instance waits to leave.
    pub(crate) fn holds_back(&self, number: u64) -> bool {
        self.passages.get(&number).is_some_and(|passage| passage.way == Way::Out)
    }

    /// Forgets an instance.
    pub(crate) fn forget(&mut self, number: u64) {
        self.arrived.remove(&number);
        if let Some(Passage { generation: Some(generation), .. }) = self.passages.remove(&number) {
            self.by_table.remove(&(generation, number));
        }
    }

    fn begin(&mut self, number: u64, way: Way, until: Timestamp) {
        self.forget(number);
        self.passages.insert(number, Passage { way, generation: None, until });
        self.fresh.push(number);
    }

    /// The step made a table: what changed in this step is in it.
    pub(crate) fn made(&mut self, generation: Generation) {
        for number in std::mem::take(&mut self.fresh) {
            if let Some(passage) = self.passages.get_mut(&number).filter(|passage| passage.generation.is_none()) {
                passage.generation = Some(generation);
                self.by_table.insert((generation, number));
            }
        }
    }

    /// The table that is waited for longest.
    fn first(&self) -> Option<(Generation, u64)> {
        self.by_table.first().copied()
    }
}

impl Scheduler {
    /// Takes what a node's kernel holds.
    pub(crate) fn programmed(&mut self, node: &NodeId, session: SessionId, epoch: Epoch, generation: Generation) {
        // A table of an earlier run says nothing of this one's.
        if !self.heard(node, session) || epoch != self.epoch {
            return;
        }
        if self.cluster.set_programmed(node, generation) {
            self.history.add(self.now, Subject::Node(node), "table-confirmed", "it says again what its kernel holds");
        }
    }

    /// Whether an instance may be told to stop at once: no table that some node may hold shows it.
    pub(crate) fn is_unknown(&self, held: Held<'_>) -> bool {
        !held.spec().is_balanced()
            || !endpoints::is_endpoint(held)
                && !self.balancing.shows(held.workload(), &held.id())
                && self.cluster.awaited.all_hold(self.balancing.generation())
    }

    /// Takes an instance out of the table; it is told to stop once all know.
    pub(crate) fn take_out(&mut self, number: u64) {
        let until = self.now + self.settings.barrier_timeout_ms;
        self.cluster.leave(number, until);
        self.barriers.begin(number, Way::Out, until);
        self.timers.set(until, Timer::Barrier(number));
    }

    /// Whether all know an instance that serves: then what it replaces may leave the table.
    pub(crate) fn is_known(&mut self, number: u64) -> bool {
        if !self.cluster.held(number).is_some_and(|held| held.spec().is_balanced()) {
            return true;
        }
        if !self.barriers.passages.contains_key(&number) && !self.barriers.arrived.contains(&number) {
            let until = self.now + self.settings.barrier_timeout_ms;
            self.barriers.begin(number, Way::In, until);
            self.timers.set(until, Timer::Barrier(number));
        }
        self.barriers.arrived.contains(&number)
    }

    /// Lets through whom nobody is waited for any more.
    pub(crate) fn open_barriers(&mut self) {
        while let Some((_, number)) = self.first_passing() {
            let way = self.barriers.passages.get(&number).map(|passage| passage.way);
            self.barriers.forget(number);
            let Some(workload) = self.cluster.held(number).map(|held| held.workload().clone()) else { continue };
            match way {
                Some(Way::Out) => self.cluster.stop(number),
                Some(Way::In) => {
                    self.barriers.arrived.insert(number);
                    self.cluster.touched.workloads.insert(workload);
                }
                None => {}
            }
        }
    }

    /// Whether [`Self::open_barriers`] has something to do.
    pub(crate) fn first_passing(&self) -> Option<(Generation, u64)> {
        self.barriers.first().filter(|(generation, _)| self.cluster.awaited.all_hold(*generation))
    }

    /// An instance waited for long enough: nobody waits any more for those who do not speak.
    pub(crate) fn barrier_overdue(&mut self, number: u64) {
        let Some(passage) = self.barriers.passages.get(&number).filter(|passage| passage.until <= self.now) else {
            return;
        };
        let Some(generation) = passage.generation else { return };
        let seconds = self.settings.barrier_timeout_ms / 1_000;
        for node in self.cluster.set_mute(generation) {
            let message = format!(
                "it does not say that its kernel has the service table of {seconds} s ago: instances end without its word"
            );
            self.history.add(self.now, Subject::Node(&node), "table-unconfirmed", message);
        }
    }

    /// Who left the table is on its way out, and those who are waited for are counted right.
    pub(crate) fn check_barriers(&self) -> Result<(), String> {
        if let Some(held) =
            self.cluster.instances().find(|held| held.leaves_at().is_some() && !self.barriers.holds_back(held.number))
        {
            return Err(format!("{} left the table and nothing will stop it", held.id()));
        }
        let mut counted = Awaited::default();
        self.cluster.nodes.values().filter_map(NodeEntry::awaited_with).for_each(|held| counted.add(held));
        if counted != self.cluster.awaited {
            return Err("the count of nodes that are waited for differs from a rebuild".to_owned());
        }
        Ok(())
    }
}
