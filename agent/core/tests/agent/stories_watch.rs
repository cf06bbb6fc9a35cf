//! Stories of neighbours that watch each other, over links that lose.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::watch::{Mark, NEIGHBOURS_MAX, Sign, Watch};
use api_types::{
    id::NodeId,
    service::Peer,
    site::{Across, Reach},
    time::Timestamp,
};

use crate::node::node_id;

/// How long a sign is under way.
const DELAY_MS: u64 = 5;

/// What is under way between two nodes.
#[derive(Clone)]
enum Said {
    Sign(Sign),
    Silent(Vec<NodeId>),
}

/// A site whose nodes watch each other.
struct Site {
    now: Timestamp,
    nodes: BTreeMap<NodeId, Watch>,
    /// Nodes without power, and links that lose: from, to.
    dead: BTreeSet<NodeId>,
    cut: BTreeSet<(NodeId, NodeId)>,
    coming: BTreeMap<(Timestamp, u64), (NodeId, NodeId, Said)>,
    count: u64,
    /// Of so many signs one is lost; 0 = none is.
    loses: u64,
}

impl Site {
    fn of(count: usize) -> Self {
        let now = Timestamp(1_000_000);
        let peers: Vec<Peer> = (0..count).map(|index| peer(index, "berlin")).collect();
        let nodes = (0..count).map(|index| {
            // They did not start together.
            let begins = now + (index as u64 * 137) % 500;
            let mut watch = Watch::new(name(index), index as u64 + 1, begins);
            watch.follow(&peers);
            (name(index), watch)
        });
        let (dead, cut, coming) = Default::default();
        let mut site = Self { now, nodes: nodes.collect(), dead, cut, coming, count: 0, loses: 0 };
        site.pass(5000);
        site
    }

    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        loop {
            let living = self.nodes.iter().filter(|(node, _)| !self.dead.contains(*node));
            let ticks = living.filter_map(|(_, watch)| watch.deadline()).min();
            let arrival = self.coming.keys().next().map(|(at, _)| *at);
            let next = [ticks, arrival].into_iter().flatten().min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            self.deliver();
            for node in self.nodes.keys().cloned().collect::<Vec<_>>() {
                self.tick(&node);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, said) = entry.remove();
            let Some(watch) = self.nodes.get_mut(&to).filter(|_| !self.dead.contains(&to)) else { continue };
            match said {
                Said::Sign(sign) => {
                    if let Some(answer) = watch.heard(&from, sign, self.now) {
                        self.say(&to, &from, Said::Sign(answer));
                    }
                }
                Said::Silent(nodes) => nodes.iter().for_each(|node| watch.told(&from, node, self.now)),
            }
        }
    }

    fn tick(&mut self, node: &NodeId) {
        let Some(watch) = self.nodes.get_mut(node).filter(|_| !self.dead.contains(node)) else { return };
        let signs = watch.tick(self.now);
        if signs.is_empty() {
            return;
        }
        let (words, told): (_, Vec<NodeId>) = (watch.words(), watch.neighbours().cloned().collect());
        for (to, sign) in signs {
            self.say(node, &to, Said::Sign(sign));
        }
        for to in told.iter().filter(|_| !words.is_empty()) {
            self.say(node, to, Said::Silent(words.clone()));
        }
    }

    fn say(&mut self, from: &NodeId, to: &NodeId, said: Said) {
        self.count += 1;
        let is_lost = self.loses > 0 && self.count.is_multiple_of(self.loses);
        if !is_lost && !self.cut.contains(&(from.clone(), to.clone())) {
            self.coming.insert((self.now + DELAY_MS, self.count), (from.clone(), to.clone(), said));
        }
    }

    /// Who of all nodes cannot reach this one.
    fn who_misses(&self, node: usize) -> usize {
        self.nodes.values().filter(|watch| watch.unreachable().contains(&name(node))).count()
    }

    /// Whom a node cannot reach.
    fn unreachable(&self, node: usize) -> Vec<String> {
        self.nodes[&name(node)].unreachable().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn a_dead_neighbour_is_out_in_two_and_a_half_seconds_and_back_when_it_is_heard() {
    let mut site = Site::of(4);
    assert_eq!(site.unreachable(0), [""; 0]);

    site.dead.insert(name(2));
    site.pass(1000);
    assert_eq!(site.unreachable(0), [""; 0], "two signs may be lost");
    site.pass(1500);
    assert_eq!([site.unreachable(0), site.unreachable(1), site.unreachable(3)], [["edge-002"]; 3]);
    site.dead.clear();
    site.pass(1600);

    assert_eq!([site.unreachable(0), site.unreachable(2)], [[""; 0]; 2]);
}

#[test]
fn a_link_that_is_cut_one_way_is_out_on_both_sides_and_only_there() {
    let mut site = Site::of(4);

    site.cut.insert((name(0), name(1)));
    site.pass(3000);

    assert_eq!([site.unreachable(0), site.unreachable(1)], [["edge-001"], ["edge-000"]]);
    assert_eq!([site.unreachable(2), site.unreachable(3)], [[""; 0]; 2]);
    site.cut.clear();
    site.pass(1600);
    assert_eq!([site.unreachable(0), site.unreachable(1)], [[""; 0]; 2]);
}

#[test]
fn who_hears_nobody_believes_itself_to_be_cut_off() {
    let mut site = Site::of(5);

    for other in 1..5 {
        site.cut.extend([(name(0), name(other)), (name(other), name(0))]);
    }
    site.pass(20_000);

    assert_eq!(site.unreachable(0), [""; 0], "the last table is kept");
    assert_eq!(site.unreachable(1), ["edge-000"]);
}

#[test]
fn when_more_than_half_fall_silent_at_once_nobody_is_taken_out() {
    let mut site = Site::of(6);

    site.dead.extend([name(1), name(2), name(3)]);
    site.pass(20_000);

    assert_eq!(site.unreachable(0), [""; 0]);
}

#[test]
fn who_was_taken_out_stays_out_when_more_fall_silent_later() {
    let mut site = Site::of(4);
    site.dead.insert(name(3));
    site.pass(10_000);

    site.dead.insert(name(2));
    site.pass(10_000);

    assert_eq!(site.unreachable(0), ["edge-003"], "two of three are in doubt");
}

#[test]
fn one_neighbour_alone_proves_nothing_by_its_silence() {
    let mut site = Site::of(2);

    site.dead.insert(name(1));
    site.pass(20_000);

    assert_eq!(site.unreachable(0), [""; 0], "it may be this node that is cut off");
}

#[test]
fn single_losses_change_nothing() {
    let mut site = Site::of(5);

    site.loses = 11;
    for _ in 0..600 {
        site.pass(100);
        assert!((0..5).all(|node| site.unreachable(node).is_empty()), "at {}", site.now);
    }
}

#[test]
fn an_agent_that_starts_again_is_not_missed() {
    let mut site = Site::of(3);
    let peers: Vec<Peer> = (0..3).map(|index| peer(index, "berlin")).collect();
    site.dead.insert(name(1));
    site.pass(700);

    let mut again = Watch::new(name(1), 77, site.now);
    again.follow(&peers);
    site.nodes.insert(name(1), again);
    site.dead.clear();

    for _ in 0..50 {
        site.pass(100);
        assert_eq!([site.unreachable(0), site.unreachable(2)], [[""; 0]; 2]);
    }
}

#[test]
fn an_agent_that_stood_still_blames_nobody() {
    let mut site = Site::of(4);

    // What is stopped neither sends nor receives; its neighbours see that.
    site.dead.insert(name(0));
    site.pass(30_000);
    assert_eq!(site.unreachable(1), ["edge-000"]);
    site.dead.clear();
    for _ in 0..50 {
        site.pass(100);
        assert_eq!(site.unreachable(0), [""; 0]);
    }

    assert_eq!(site.unreachable(1), [""; 0]);
}

#[test]
fn signs_that_are_said_again_prove_nothing() {
    let mut site = Site::of(3);
    let old = Sign {
        mark: Mark { run: 2, count: 3 },
        interval_ms: 500,
        heard: Some(Mark { run: 1, count: 3 }),
        leaves: false,
    };
    site.dead.insert(name(1));

    for _ in 0..40 {
        site.pass(100);
        let now = site.now;
        site.nodes.get_mut(&name(0)).expect("it is there").heard(&name(1), old, now);
    }

    assert_eq!(site.unreachable(0), ["edge-001"]);
}

#[test]
fn who_says_that_it_leaves_is_out_at_once_and_back_when_it_starts_again() {
    for count in [2, 4] {
        let mut site = Site::of(count);
        let peers: Vec<Peer> = (0..count).map(|index| peer(index, "berlin")).collect();

        let now = site.now;
        site.nodes.get_mut(&name(1)).expect("it is there").leave(now);
        site.pass(2 * DELAY_MS);
        assert_eq!(site.unreachable(0), ["edge-001"], "its word is enough, however few there are");
        site.dead.insert(name(1));
        site.pass(60_000);
        assert_eq!(site.unreachable(0), ["edge-001"]);
        let mut again = Watch::new(name(1), 77, site.now);
        again.follow(&peers);
        site.nodes.insert(name(1), again);
        site.dead.clear();
        site.pass(1600);

        assert_eq!([site.unreachable(0), site.unreachable(1)], [[""; 0]; 2]);
    }
}

#[test]
fn a_farewell_that_is_said_again_takes_nobody_out() {
    let mut site = Site::of(3);
    let mark = Mark { run: 2, count: 1_000_000 };
    let old = Sign { mark, interval_ms: 500, heard: Some(Mark { run: 1, count: 3 }), leaves: true };
    site.pass(20_000);

    let now = site.now;
    site.nodes.get_mut(&name(0)).expect("it is there").heard(&name(1), old, now);
    site.pass(100);

    assert_eq!(site.unreachable(0), [""; 0]);
}

#[test]
fn a_sign_from_before_a_farewell_brings_nobody_back() {
    let mut site = Site::of(4);
    site.pass(20_000);
    let now = site.now;
    site.nodes.get_mut(&name(1)).expect("it is there").leave(now);
    site.pass(2 * DELAY_MS);

    let now = site.now;
    for count in 1..=100 {
        // Whichever sign of the receiver it names, also one that is remembered.
        let heard = Some(Mark { run: 1, count });
        let old = Sign { mark: Mark { run: 2, count: 3 }, interval_ms: 500, heard, leaves: false };
        site.nodes.get_mut(&name(0)).expect("it is there").heard(&name(1), old, now);
    }

    assert_eq!(site.unreachable(0), ["edge-001"]);
}

#[test]
fn who_never_spoke_is_believed_to_be_there() {
    let mut site = Site::of(3);
    let mut alone = Watch::new(name(0), 9, site.now);
    alone.follow(&[peer(0, "berlin"), peer(1, "berlin"), peer(7, "berlin")]);
    site.nodes.insert(name(0), alone);

    site.pass(20_000);

    assert_eq!(site.unreachable(0), [""; 0], "edge-007 is of a version that is silent");
}

#[test]
fn a_node_watches_its_own_site_and_not_more_than_it_may() {
    let mut watch = Watch::new(name(1), 1, Timestamp(0));
    let mixed: Vec<Peer> = (0..6).map(|index| peer(index, if index % 2 == 1 { "bonn" } else { "berlin" })).collect();
    watch.follow(&mixed);
    assert_eq!(watch.neighbours().map(NodeId::as_str).collect::<Vec<_>>(), ["edge-003", "edge-005"]);

    let many: Vec<Peer> = (0..100).map(|index| peer(index, "bonn")).collect();
    watch.follow(&many);
    let watched: Vec<&str> = watch.neighbours().map(NodeId::as_str).collect();
    assert_eq!(watched.len(), NEIGHBOURS_MAX);
    assert!(watched.contains(&"edge-000") && watched.contains(&"edge-099") && watched.contains(&"edge-017"));
    assert!(!watched.contains(&"edge-050"));
}

#[test]
fn every_node_of_a_large_site_is_watched_by_as_many_as_it_watches() {
    let site = Site::of(100);

    for index in 0..100 {
        let watched = name(index);
        let watchers = site.nodes.values().filter(|watch| watch.neighbours().any(|node| *node == watched));
        assert_eq!(watchers.count(), NEIGHBOURS_MAX, "{watched}");
    }
}

#[test]
fn a_death_in_a_large_site_is_known_to_all_and_so_is_the_return() {
    let mut site = Site::of(100);
    assert!((0..100).all(|node| site.unreachable(node).is_empty()));

    site.dead.insert(name(50));
    site.pass(9_000);
    assert_eq!(site.who_misses(50), 99, "neighbours in five and a half seconds, all others in three more");
    assert!((0..100).filter(|node| *node != 50).all(|node| site.unreachable(node) == ["edge-050"]));
    site.dead.clear();
    site.pass(3_000);

    assert!((0..100).all(|node| site.unreachable(node).is_empty()));
}

#[test]
fn many_deaths_at_once_in_a_large_site_are_known_to_all_one_after_the_other() {
    let mut site = Site::of(100);

    // A rack whose nodes have names in a row: as many as the neighbours next to it may doubt at once.
    let rack: Vec<usize> = (40..56).collect();
    site.dead.extend(rack.iter().map(|node| name(*node)));
    site.pass(30_000);

    for node in &rack {
        assert_eq!(site.who_misses(*node), 84, "edge-{node:03}, and the dead miss nobody");
    }
}

#[test]
fn a_cut_link_of_a_large_site_takes_nobody_out_elsewhere_whoever_tells_of_it() {
    let mut site = Site::of(100);

    site.cut.insert((name(10), name(11)));
    for _ in 0..100 {
        site.pass(1_000);
        assert!((0..100).filter(|node| ![10, 11].contains(node)).all(|node| site.unreachable(node).is_empty()));
    }

    assert_eq!([site.unreachable(10), site.unreachable(11)], [["edge-011"], ["edge-010"]]);
}

#[test]
fn who_is_told_of_and_cannot_be_reached_from_here_alone_is_out_here_alone() {
    let mut site = Site::of(100);
    // Nodes that do not watch each other: nobody sees that, until some word makes one ask.
    site.cut.insert((name(60), name(0)));
    site.cut.insert((name(1), name(0)));
    site.pass(20_000);

    assert_eq!(site.unreachable(60), ["edge-000"]);
    assert!((2..100).filter(|node| *node != 60).all(|node| site.unreachable(node).is_empty()));
}

#[test]
fn a_shutdown_in_a_large_site_is_known_to_all_in_the_time_of_some_datagrams() {
    let mut site = Site::of(100);

    let now = site.now;
    site.nodes.get_mut(&name(50)).expect("it is there").leave(now);
    site.pass(1_000);

    assert_eq!(site.who_misses(50), 99);
}

#[test]
fn losses_in_a_large_site_change_nothing() {
    let mut site = Site::of(60);

    site.loses = 11;
    for _ in 0..120 {
        site.pass(1_000);
        assert!((0..60).all(|node| site.unreachable(node).is_empty()), "at {}", site.now);
    }
}

fn name(index: usize) -> NodeId {
    node_id(&format!("edge-{index:03}"))
}

fn peer(index: usize, site: &str) -> Peer {
    let last = u8::try_from(index).expect("a small site");
    let subnet = format!("10.42.{index}.0/24").parse().expect("a range");
    Peer {
        node: name(index),
        address: [192, 0, 2, last].into(),
        ipv6_address: None,
        subnet,
        site: site.to_owned(),
        reach: Reach::default(),
        across: Across::default(),
        tunnel: None,
    }
}
