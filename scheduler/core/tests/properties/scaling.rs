//! Autoscaling under a noisy load: it follows what is asked for, and does not run to and fro.

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, InstanceUsage},
    node::NodeUsage,
    resources::Resources,
    scale::ScaleSpec,
    workload::WorkloadSpec,
};
use scheduler_core::{
    Settings,
    input::{Change, Input},
};

use crate::{fleet::Fleet, walk::Random};

/// Thousandths of one CPU that a replica is promised; it shall use 70 % of that.
const RESERVE: u64 = 200;
const WINDOW_MS: u64 = 60_000;
const SAMPLE_MS: u64 = 10_000;

/// A cluster with one service that is scaled, and what its replicas have to do together.
struct Site {
    fleet: Fleet,
    random: Random,
    /// How many replicas were wanted after each sample.
    wanted: Vec<u32>,
}

#[test]
fn a_noisy_load_changes_the_direction_at_most_twice_in_a_window() {
    for seed in 0..20 {
        let mut site = Site::new(seed);

        site.serve(360, &mut |_| 1_400, 60);

        // To shrink takes a whole window in which nothing more was asked for, and only to grow does not.
        let windows = 360 * SAMPLE_MS / WINDOW_MS;
        let turns = turns(&site.wanted) as u64;
        assert!(turns <= 2 * windows, "seed {seed}: {turns} changes of direction: {:?}", site.wanted);
    }
}

#[test]
fn noise_within_the_tolerance_never_turns_the_direction() {
    for seed in 20..40 {
        let mut site = Site::new(seed);
        site.serve(60, &mut |_| 1_400, 8);

        site.wanted.clear();
        site.serve(360, &mut |_| 1_400, 8);

        assert_eq!(turns(&site.wanted), 0, "seed {seed}: {:?}", site.wanted);
        assert!((10..=11).contains(&site.wanted()), "seed {seed}: {:?}", site.wanted);
    }
}

#[test]
fn a_load_that_comes_and_goes_is_followed_up_and_down() {
    for seed in 40..50 {
        let mut site = Site::new(seed);

        site.serve(90, &mut |_| 1_400, 20);
        let busy = site.wanted();
        site.serve(90, &mut |_| 100, 20);

        assert!((10..=13).contains(&busy), "seed {seed}: {busy} replicas for ten times the target");
        assert_eq!(site.wanted(), 2, "seed {seed}: it shrinks to the fewest");
    }
}

#[test]
fn nothing_is_taken_away_while_a_node_is_silent() {
    for seed in 50..60 {
        let mut site = Site::new(seed);
        site.serve(60, &mut |_| 1_400, 5);
        let before = site.wanted();
        let silent = site.random.below(3);
        site.fleet.agents.get_mut(&node(silent)).expect("a node").connected = false;

        // Not for so long that its instances are replaced elsewhere.
        site.fleet.advance(5_000);
        site.say(&mut |_| 10, 5);

        assert!(site.wanted() >= before, "seed {seed}");
    }
}

impl Site {
    fn new(seed: u64) -> Self {
        let mut fleet = Fleet::new(Settings::default());
        for number in 0..3 {
            let capacity = Resources { cpu_millis: 64_000, memory_bytes: 64 << 30 };
            fleet.add_agent(&node(number), capacity, "amd64");
            let admit = Change::AdmitNode { node: node(number), site: "default".to_owned(), labels: BTreeMap::new() };
            fleet.request(admit).expect("a new node");
            fleet.connect(&node(number));
        }
        let mut spec = WorkloadSpec::service(web(), "web:1", 2);
        spec.resources.reserve.cpu_millis = RESERVE;
        spec.scale = Some(ScaleSpec {
            cpu_percent: Some(70),
            window_ms: WINDOW_MS,
            cooldown_ms: 20_000,
            ..ScaleSpec::between(2, 20)
        });
        fleet.request(Change::Apply { specs: vec![spec], expect: None }).expect("a sound spec");
        assert!(fleet.settle());
        Self { fleet, random: Random(seed), wanted: Vec::new() }
    }

    /// Lets nodes say so many times what their instances use: `demand` is shared out evenly, and each share differs by up to so
    /// many percent.
    fn serve(&mut self, samples: u64, demand: &mut dyn FnMut(u64) -> u64, noise_percent: u64) {
        for sample in 0..samples {
            let demand = demand(sample);
            self.fleet.advance(SAMPLE_MS);
            self.say(&mut |_| demand, noise_percent);
            assert!(self.fleet.settle());
            self.wanted.push(self.wanted());
        }
    }

    fn say(&mut self, demand: &mut dyn FnMut(u64) -> u64, noise_percent: u64) {
        let demand = demand(0);
        let serving: u64 = (0..3).map(|number| self.running(number).len() as u64).sum();
        let share = demand / serving.max(1);
        // All are disturbed alike: what is independent evens out.
        let noise = self.random.below(2 * noise_percent + 1);
        for (node, session) in self.fleet.connected() {
            let number = node.as_str()[1..].parse().expect("a number");
            let usage = InstanceUsage {
                cpu_millis: share * (100 + noise - noise_percent) / 100,
                memory_bytes: 1 << 20,
                pids: 1,
                new_connections_millis: None,
            };
            let instances = self.running(number).into_iter().map(|id| (id, usage.clone())).collect();
            self.fleet.step(Input::NodeReported {
                node,
                session,
                conditions: None,
                facts: None,
                usage: NodeUsage::default(),
                instances,
                requests: BTreeMap::new(),
            });
        }
    }

    fn running(&self, number: u64) -> Vec<InstanceId> {
        let set = self.fleet.scheduler.assignment_set(&node(number)).expect("a known node");
        let running = set.assignments.iter().filter(|assignment| assignment.desired == Desired::Run);
        running.map(|assignment| assignment.instance.clone()).collect()
    }

    fn wanted(&self) -> u32 {
        let views = self.fleet.scheduler.workload_views();
        views.first().expect("the service").wanted
    }
}

/// How often a number that grew begins to fall, or one that fell begins to grow.
fn turns(numbers: &[u32]) -> usize {
    let steps = numbers.windows(2).filter(|pair| pair[0] != pair[1]).map(|pair| pair[1] > pair[0]);
    let steps: Vec<bool> = steps.collect();
    steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

fn node(number: u64) -> NodeId {
    NodeId::new(&format!("n{number}")).expect("a name")
}

fn web() -> WorkloadId {
    "web".parse().expect("a name")
}
