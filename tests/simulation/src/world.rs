//! The world: virtual time, one queue of events, both real cores and everything around them.

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, NodeId},
    time::Timestamp,
};
use scheduler_core::Settings;

use crate::{
    Options,
    checkers::{causes::Causes, displaced::Displaced, jobs::Jobs, scaling::Scaling},
    demand::Demand,
    event::{ConnectionId, Event, NodeIndex},
    network::Connection,
    node::{SimNode, shift},
    queue::Queue,
    random::Random,
    scenario::{Noise, Scenario},
    scheduler::SimScheduler,
    story::Story,
    trace::Trace,
};

/// When every simulation starts.
pub const START: Timestamp = Timestamp(1_700_000_000_000);

/// Steps at one moment above which something spins.
const STEPS_PER_MOMENT_MAX: u64 = 20_000;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// What was asked for.
    pub options: Options,
    /// The time.
    pub now: Timestamp,
    /// What chance brings the scheduler; each node has its own.
    pub random: Random,
    /// How much goes wrong by chance.
    pub noise: Noise,
    /// What is done to it from outside.
    pub story: Story,
    /// The scheduler's daemon.
    pub scheduler: SimScheduler,
    /// The nodes.
    pub nodes: Vec<SimNode>,
    /// Their numbers by name.
    pub index: BTreeMap<NodeId, NodeIndex>,
    /// The connections that an end still holds open.
    pub connections: BTreeMap<ConnectionId, Connection>,
    /// The people.
    pub demand: Demand,
    /// Why something may be stopped.
    pub causes: Causes,
    /// Who made room for somebody more urgent that is not there yet.
    pub displaced: Displaced,
    /// How processes of jobs ended.
    pub jobs: Jobs,
    /// How services were scaled.
    pub scaling: Scaling,
    /// When each instance's process ended, of those without one.
    pub died_at: BTreeMap<InstanceId, Timestamp>,
    /// Whether faults are over.
    pub calm: bool,
    /// When all was as wanted after that.
    pub settled_at: Timestamp,
    /// Until when no image can be had.
    pub registry_away_until: Timestamp,
    /// Messages lost, of a thousand.
    pub loss: u64,
    /// How many connections there were.
    pub connection_count: u64,
    /// How many operations of nodes there were.
    pub operation_count: u64,
    /// The last process id.
    pub pid_count: u32,
    /// How many main processes were started.
    pub main_count: u32,
    /// How many things moved: starts, stops, removals, tables, sets.
    pub moves: u64,
    /// Steps of either core.
    pub steps: u64,
    /// What happened.
    pub trace: Trace,
    /// The first thing that was wrong.
    pub failure: Option<String>,
    /// Kept for its memory.
    pub agent_effects: Vec<agent_core::effect::Effect>,
    queue: Queue,
    steps_at_moment: u64,
}

impl World {
    /// A cluster at its first moment: machines without power, a scheduler that was never started.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed);
        let seed = options.seed;
        let nodes: Vec<SimNode> = (0..options.nodes).map(|index| SimNode::new(index, seed, START)).collect();
        let settings = Settings {
            cluster_range: "10.32.0.0/11".parse().expect("a range"),
            service_range: "10.64.0.0/16".parse().expect("a range"),
            // Some clusters rebalance by themselves.
            rebalance_automatic: seed.is_multiple_of(3),
            rebalance_pause_ms: 60_000,
            ..Settings::default()
        };
        let (noise, story) = match &options.scenario {
            Some(scenario) => (scenario.noise, Story::of_scenario(scenario)),
            None => (Noise { loss: None, failures: true }, Story::of_seed(seed)),
        };
        let loss = random.between(0, 3);
        Self {
            options: options.clone(),
            now: START,
            random,
            noise,
            story,
            scheduler: SimScheduler::new(settings, START),
            index: nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index)).collect(),
            nodes,
            connections: BTreeMap::new(),
            demand: Demand::default(),
            causes: Causes::default(),
            displaced: Displaced::default(),
            jobs: Jobs::default(),
            scaling: Scaling::default(),
            died_at: BTreeMap::new(),
            calm: false,
            settled_at: START,
            registry_away_until: START,
            loss: noise.loss.unwrap_or(loss),
            connection_count: 0,
            operation_count: 0,
            pid_count: 0,
            main_count: 0,
            moves: 0,
            steps: 0,
            trace: Trace::new(options.watch.clone()),
            failure: None,
            agent_effects: Vec::new(),
            queue: Queue::default(),
            steps_at_moment: 0,
        }
    }

    /// Lets something happen at a time.
    pub fn at(&mut self, at: Timestamp, event: Event) {
        // What is done from outside goes first: so a scenario happens as the seed's own story did.
        let is_later = !matches!(event, Event::Fault | Event::Demand);
        self.queue.add(at.max(self.now), is_later, event);
    }

    /// Lets something happen after so many milliseconds.
    pub fn after(&mut self, milliseconds: u64, event: Event) {
        self.at(self.now + milliseconds, event);
    }

    /// Lets time pass until `end`, or until something is wrong.
    pub fn run_until(&mut self, end: Timestamp) {
        while self.failure.is_none() {
            let Some((at, event)) = self.queue.take(end) else { break };
            if at > self.now {
                self.now = at;
                self.steps_at_moment = self.steps;
            }
            self.happen(event);
            if self.steps - self.steps_at_moment > STEPS_PER_MOMENT_MAX {
                self.fail(format!("something spins: thousands of steps, and time stands still: {}", self.overdue()));
            }
        }
        self.now = self.now.max(end);
    }

    /// Whose deadlines are due, and why: one that is handled must be over.
    fn overdue(&self) -> String {
        let scheduler = self.scheduler.core.as_ref().and_then(scheduler_core::Scheduler::next_deadline);
        let scheduler = scheduler.filter(|(at, _)| *at <= shift(self.now, self.scheduler.clock_ms()));
        let agents = self.nodes.iter().filter_map(|node| {
            let (at, why) = node.agent.as_ref()?.next_deadline()?;
            (at <= node.by_its_clock(self.now)).then(|| format!("{}: {why}", node.id))
        });
        let all = scheduler.map(|(_, why)| format!("scheduler: {why:?}")).into_iter().chain(agents);
        all.collect::<Vec<_>>().join(", ")
    }

    /// Notes the first thing that is wrong.
    pub fn fail(&mut self, what: String) {
        self.note(&format!("WRONG: {what}"));
        self.failure.get_or_insert(what);
    }

    /// Adds to the trace.
    pub fn note(&mut self, line: &str) {
        self.trace.add(self.now, line);
    }

    /// Lets things happen that waited.
    pub fn run(&mut self, waited: Vec<Event>) {
        for event in waited {
            self.happen(event);
        }
    }

    /// The story so far, as a scenario that tells it again.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        Scenario {
            seed: self.options.seed,
            nodes: self.options.nodes,
            minutes: self.options.minutes,
            noise: self.noise,
            deeds: self.story.told.clone(),
        }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn elapsed(&self) -> u64 {
        self.now.since(START)
    }

    /// Whether things go wrong by chance.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        self.noise.failures && !self.is_quiet()
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.hold_back(event) else { return };
        match event {
            Event::SchedulerTick => self.scheduler_tick(),
            Event::Committed { epoch } => self.committed(epoch),
            Event::SchedulerStart => self.start_scheduler(),
            Event::Pump(connection) => self.pump(connection),
            Event::AnswerLease(connection, said_at) => self.answer_lease(connection, said_at),
            Event::Up(connection, message) => self.up(connection, message),
            Event::Down(connection, message) => self.down(connection, message),
            Event::SchedulerNotices(connection) => self.scheduler_notices(connection),
            Event::AgentNotices(connection) => self.agent_notices(connection),
            Event::GiveUp(connection) => self.give_up(connection),
            Event::Dial(node) => self.dial(node),
            Event::Heartbeat(connection) => self.heartbeat(connection),
            Event::AgentTick(node) => self.agent_tick(node),
            Event::AgentStart(node) => self.start_agent(node),
            Event::Rejoin(node) => self.rejoin(node),
            Event::Programmed { node, life } => self.programmed(node, life),
            Event::AgentDies(node) => {
                if !self.calm {
                    self.crash_agent(node);
                    let pause = self.nodes[node].random.between(100, 15_000);
                    self.after(pause, Event::AgentStart(node));
                }
            }
            Event::AgentThaws { node, life } => {
                if self.nodes[node].life == life {
                    self.thaw_agent(node);
                }
            }
            Event::SchedulerThaws { epoch } => {
                if self.scheduler.epoch == epoch {
                    self.thaw_scheduler();
                }
            }
            Event::LookForDevices { node, life } => self.look_for_devices(node, life),
            Event::Plugged { node, device } => self.plugged(node, &device),
            Event::PowerOn(node) => self.power_on(node),
            Event::RuntimeBack(node) => self.runtime_back(node),
            Event::Done { node, operation } => self.done(node, operation),
            Event::Kept { node, life, what } => self.kept(node, life, what),
            Event::Answer { node, life, input } => self.answered(node, life, input),
            Event::Exit { node, key, pid, exit } => self.exit_unless_quiet(node, &key, pid, exit),
            Event::CompanionExit { node, key, pid, exit } => self.companion_exit(node, key, pid, exit),
            Event::Probe { node, life, key, kind } => self.probe(node, life, key, kind),
            Event::Heal(nodes) => self.heal(&nodes),
            Event::Fault => self.fault(),
            Event::Demand => self.want(),
            Event::TryAgain => self.let_rollouts_go_on(),
            Event::Reply { request, outcome } => self.replied(request, &outcome),
            Event::DemandTimeout { request } => self.demand_timeout(request),
            Event::Uncordon(node) => self.uncordon(node),
            Event::Sweep => {
                self.sweep();
                self.after(1000, Event::Sweep);
            }
        }
    }

    /// Something arrives at an agent's core; a list of a connection to containerd that is lost does not.
    fn answered(&mut self, node: NodeIndex, life: u64, input: agent_core::input::Input) {
        let sim = &self.nodes[node];
        let stale_list = sim.runtime.away && matches!(input, agent_core::input::Input::Observed { .. });
        if sim.life == life && !stale_list {
            self.step_agent(node, input);
        }
    }
}
