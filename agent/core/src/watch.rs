//! Neighbours watch each other: who of a node's own site can be reached, by signs of life that carry what their sender hears.
//!
//! A machine of its own, beside [`crate::Agent`]: it is driven by datagrams and its own deadlines, and only its verdict goes
//! there. What counts is a **proof**: a sign that repeats one of ours, so both ways work and it is no old one. A link that is cut
//! one way carries no connection either, and both ends see it.
//!
//! The verdict takes out, and never brings in: an endpoint that the scheduler took out stays out. It is careful: who was never
//! proven counts as reachable, and while more than half of all neighbours are in doubt at once, it is this node that is cut off,
//! or a link: nobody more is taken out then. Whose machine is being shut down says so, and is out at once.
//!
//! In a site with more nodes than one can watch, neighbours tell each other whom they cannot reach. That is no verdict: whoever hears
//! it of one that it does not watch asks that one itself, tells it further, and judges by what comes back. So a death gets
//! around the ring in the time of some datagrams, and a link that is cut, or a node that lies, takes nobody out elsewhere.

mod hearsay;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api_types::{id::NodeId, service::Peer, time::Timestamp};

use self::hearsay::Hearsay;

/// The most neighbours: half of them before this node in the order of names of its site, half after it, around the ring.
pub const NEIGHBOURS_MAX: usize = 32;

/// The most nodes of which neighbours are told in one word; where more are out of reach, they take turns.
pub const WORDS_MAX: usize = 8;

/// Milliseconds after a sign before the next may be sent because of news.
const SOON_MS: u64 = 100;

/// Up to so many neighbours, signs are sent at the short interval.
const FEW_NEIGHBOURS: usize = 8;

/// Milliseconds between two signs to each neighbour.
const INTERVAL_MS: u64 = 500;

/// The same where there are more than a few neighbours.
const LONG_INTERVAL_MS: u64 = 1000;

/// The longest interval that another node is believed.
const INTERVAL_MS_MAX: u64 = 5000;

/// How many of our own signs are remembered: an answer to an older one proves nothing.
const REMEMBERED: usize = 16;

/// A proof is at most two intervals old while nothing is lost. After so many quarters of an interval it is doubted ...
const DOUBT_QUARTERS: u64 = 11;
/// ... and after so many it is missing: two signs in a row may be lost.
const SILENT_QUARTERS: u64 = 18;

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Which run of its sender, and which sign of that run.
    pub mark: Mark,
    /// Milliseconds between two signs of its sender.
    pub interval_ms: u64,
    /// The latest sign of the receiver that its sender heard; `None` = none lately.
    pub heard: Option<Mark>,
    /// Whether its sender's machine is being shut down: nobody shall balance to it any more.
    pub leaves: bool,
}

/// Which sign of which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// A number that no two runs of an agent share.
    pub run: u64,
    /// Counts the signs of the run.
    pub count: u64,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, Default)]
struct Neighbour {
    /// The latest sign that came.
    latest: Option<(Mark, Timestamp)>,
    /// When we sent the latest sign that it repeated.
    proven_at: Option<Timestamp>,
    /// Milliseconds between two signs of its.
    interval_ms: u64,
    /// Whether it said that its machine is being shut down, and has proven nothing else since.
    left: bool,
}

/// Who watches whom, and what came of it.
#[derive(Clone, Debug)]
pub struct Watch {
    own: NodeId,
    run: u64,
    /// Our latest signs with the time of each, the latest last.
    sent: VecDeque<(u64, Timestamp)>,
    next_at: Timestamp,
    neighbours: BTreeMap<NodeId, Neighbour>,
    /// The nodes of this node's site that are not its neighbours.
    others: BTreeSet<NodeId>,
    hearsay: Hearsay,
    unreachable: BTreeSet<NodeId>,
    /// Whether this node's own machine is being shut down.
    leaves: bool,
}

impl Watch {
    /// Nobody is watched yet. `run` is a number that no two runs of the agent share.
    #[must_use]
    pub fn new(own: NodeId, run: u64, now: Timestamp) -> Self {
        let (sent, neighbours, others, unreachable) = Default::default();
        Self {
            own,
            run,
            sent,
            next_at: now,
            neighbours,
            others,
            hearsay: Hearsay::default(),
            unreachable,
            leaves: false,
        }
    }

    /// Takes over who the other nodes are; those that stay neighbours are known as before.
    pub fn follow(&mut self, peers: &[Peer]) {
        let own_site = peers.iter().find(|peer| peer.node == self.own).map(|peer| &peer.site);
        let ring: BTreeSet<&NodeId> =
            peers.iter().filter(|peer| Some(&peer.site) == own_site).map(|peer| &peer.node).collect();
        let after = || ring.range::<NodeId, _>(&self.own..).chain(ring.range::<NodeId, _>(..&self.own)).skip(1);
        let others = after().count();
        let near = NEIGHBOURS_MAX / 2;
        let chosen: BTreeSet<NodeId> = if others <= NEIGHBOURS_MAX {
            after().map(|node| (*node).clone()).collect()
        } else {
            after().take(near).chain(after().skip(others - near)).map(|node| (*node).clone()).collect()
        };
        self.others = after().filter(|node| !chosen.contains(**node)).map(|node| (*node).clone()).collect();
        self.hearsay.retain(&self.others);
        self.neighbours.retain(|node, _| chosen.contains(node));
        self.unreachable.retain(|node| chosen.contains(node) || self.others.contains(node));
        for node in chosen {
            self.neighbours.entry(node).or_default();
        }
    }

    /// Whose signs count.
    pub fn neighbours(&self) -> impl Iterator<Item = &NodeId> {
        self.neighbours.keys()
    }

    /// Those who cannot be reached.
    #[must_use]
    pub fn unreachable(&self) -> &BTreeSet<NodeId> {
        &self.unreachable
    }

    /// This node's machine is being shut down: the next signs, which are due at once, and all later ones say so.
    pub fn leave(&mut self, now: Timestamp) {
        self.leaves = true;
        self.next_at = now;
    }

    /// Whether [`Self::leave`] was called.
    #[must_use]
    pub fn leaves(&self) -> bool {
        self.leaves
    }

    /// When [`Self::tick`] is to be called; `None` = there is nobody to watch.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        (!self.neighbours.is_empty()).then_some(self.next_at)
    }

    /// A neighbour says that it cannot reach a node. One that is no neighbour of this node is asked from now on.
    pub fn told(&mut self, from: &NodeId, silent: &NodeId, now: Timestamp) {
        let is_news = self.neighbours.contains_key(from) && self.others.contains(silent);
        if is_news && self.hearsay.accuse(silent, now) {
            self.hurry(now);
        }
    }

    /// There are news for the neighbours: the next signs are due soon.
    fn hurry(&mut self, now: Timestamp) {
        let soon = self.sent.back().map_or(now, |(_, at)| (*at + SOON_MS).max(now));
        self.next_at = self.next_at.min(soon);
    }

    /// Of whom the neighbours are told that this node cannot reach them, or was told so itself: where all nodes of the site are
    /// neighbours, nobody.
    #[must_use]
    pub fn words(&self) -> Vec<NodeId> {
        if self.others.is_empty() {
            return Vec::new();
        }
        let all: BTreeSet<&NodeId> = self.unreachable.iter().chain(self.hearsay.suspects()).collect();
        let turn = self.sent.back().map_or(0, |(count, _)| *count);
        let start = usize::try_from(turn % all.len().max(1) as u64).unwrap_or_default();
        all.iter().cycle().skip(start).take(all.len().min(WORDS_MAX)).map(|node| (*node).clone()).collect()
    }

    /// A sign came, and it is from whom it says. One that is not later than the latest is ignored. Gives the answer that is due at
    /// once to who is no neighbour, and so gets no signs: it asks because it was told that this node is out of reach.
    pub fn heard(&mut self, from: &NodeId, sign: Sign, now: Timestamp) -> Option<Sign> {
        if self.neighbours.contains_key(from) {
            self.heard_neighbour(from, sign, now);
        } else if let (Some(since), Some(heard)) = (self.hearsay.asked_since(from), sign.heard) {
            let proof = self.sent.iter().find(|(count, at)| *count == heard.count && *at >= since);
            if heard.run == self.run && proof.is_some() {
                self.hearsay.proven(from, sign.leaves, now);
                self.judge(now);
            }
        } else if self.others.contains(from) && sign.heard.is_none() {
            // Only a question is answered, so that no answer is.
            return Some(Sign { heard: Some(sign.mark), ..self.sign() });
        }
        None
    }

    /// This node's latest sign, to somebody of whom it heard nothing.
    fn sign(&self) -> Sign {
        let count = self.sent.back().map_or(0, |(count, _)| *count);
        Sign { mark: Mark { run: self.run, count }, interval_ms: self.interval_ms(), heard: None, leaves: self.leaves }
    }

    fn heard_neighbour(&mut self, from: &NodeId, sign: Sign, now: Timestamp) {
        let own_interval_ms = self.interval_ms();
        let Some(neighbour) = self.neighbours.get_mut(from) else { return };
        let is_old =
            neighbour.latest.is_some_and(|(mark, _)| mark.run == sign.mark.run && mark.count >= sign.mark.count);
        let echo = sign.heard.filter(|heard| heard.run == self.run);
        let proof = echo.and_then(|heard| self.sent.iter().find(|(count, _)| *count == heard.count));
        // A run that was not heard before must prove itself: a run's number says nothing of which is later.
        let is_new_run = neighbour.latest.is_some_and(|(mark, _)| mark.run != sign.mark.run);
        let is_known_alive =
            neighbour.proven_at.is_some_and(|at| now.since(at) < limit(own_interval_ms, SILENT_QUARTERS));
        if is_old || (is_new_run && proof.is_none() && is_known_alive) {
            return;
        }
        neighbour.latest = Some((sign.mark, now));
        neighbour.interval_ms = sign.interval_ms.min(INTERVAL_MS_MAX);
        if let Some((_, at)) = proof {
            neighbour.proven_at = neighbour.proven_at.max(Some(*at));
            // Only with a proof: an old sign that is sent again by somebody else takes nobody out.
            neighbour.left = sign.leaves;
        }
        self.judge(now);
    }

    /// Time passed: judges, and gives the signs that are due, each with its receiver.
    pub fn tick(&mut self, now: Timestamp) -> Vec<(NodeId, Sign)> {
        self.judge(now);
        if now < self.next_at {
            return Vec::new();
        }
        let interval_ms = self.interval_ms();
        // After a standstill the signs that were missed are not made up for.
        self.next_at = now + interval_ms;
        let count = self.sent.back().map_or(1, |(count, _)| count + 1);
        self.sent.push_back((count, now));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        let sign = self.sign();
        let signs = self.neighbours.iter().map(|(node, neighbour)| {
            let lately = |at: Timestamp| now.since(at) < limit(neighbour.interval(interval_ms), SILENT_QUARTERS);
            let heard = neighbour.latest.filter(|(_, at)| lately(*at)).map(|(mark, _)| mark);
            (node.clone(), Sign { heard, ..sign })
        });
        signs.chain(self.hearsay.suspects().map(|node| (node.clone(), sign))).collect()
    }

    fn interval_ms(&self) -> u64 {
        if self.neighbours.len() > FEW_NEIGHBOURS { LONG_INTERVAL_MS } else { INTERVAL_MS }
    }

    fn judge(&mut self, now: Timestamp) {
        let own_interval_ms = self.interval_ms();
        if self.sent.back().is_some_and(|(_, at)| now.since(*at) > 2 * own_interval_ms) {
            // This very program was stopped: signs may lie unread, and ours are missing elsewhere. The next sign ends that.
            self.start_over(now);
            return;
        }
        let (mut proven, mut doubted, mut silent, mut left) = (0, 0, BTreeSet::new(), BTreeSet::new());
        for (node, neighbour) in &self.neighbours {
            if neighbour.left {
                left.insert(node.clone());
                continue;
            }
            let Some(at) = neighbour.proven_at else { continue };
            let interval_ms = neighbour.interval(own_interval_ms);
            let age_ms = now.since(at);
            proven += 1;
            doubted += usize::from(age_ms > limit(interval_ms, DOUBT_QUARTERS));
            if age_ms > limit(interval_ms, SILENT_QUARTERS) {
                silent.insert(node.clone());
            }
        }
        let before = std::mem::take(&mut self.unreachable);
        self.unreachable = before.intersection(&silent).cloned().collect();
        if doubted * 2 <= proven {
            self.unreachable = silent;
            if proven > 0 {
                self.hearsay.judge(now, limit(own_interval_ms, DOUBT_QUARTERS));
            }
        }
        self.unreachable.extend(self.hearsay.gone().cloned());
        // Who said so is believed, however many they are.
        self.unreachable.append(&mut left);
        if !self.others.is_empty() && !self.unreachable.is_subset(&before) {
            self.hurry(now);
        }
    }

    /// Nobody loses trust for the time in which this node stood still.
    fn start_over(&mut self, now: Timestamp) {
        self.hearsay.start_over(now);
        let unreachable = &self.unreachable;
        for (_, neighbour) in self.neighbours.iter_mut().filter(|(node, _)| !unreachable.contains(*node)) {
            neighbour.proven_at = neighbour.proven_at.map(|_| now);
        }
        if let Some((_, at)) = self.sent.back_mut() {
            *at = now;
        }
    }
}

impl Neighbour {
    /// The longer of both intervals.
    fn interval(&self, own_ms: u64) -> u64 {
        self.interval_ms.max(own_ms)
    }
}

/// So many quarters of an interval, in milliseconds.
fn limit(interval_ms: u64, quarters: u64) -> u64 {
    interval_ms * quarters / 4
}
