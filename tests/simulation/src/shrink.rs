//! Makes a story that fails shorter, as long as it still fails in the same way: fewer nodes, less chance, fewer deeds.

use std::time::{Duration, Instant};

use crate::{Failure, Options, run, scenario::Scenario};

/// How many words of a failure must stay, without names and numbers, for it to be the same one.
const WORDS_SAME: usize = 5;

/// A search for the shortest story.
#[derive(Debug)]
struct Search {
    best: Scenario,
    failure: Box<Failure>,
    kind: String,
    until: Instant,
    /// How many stories were told.
    tries: u64,
}

/// The shortest story found that fails as `failure` does, with its own failure, and how many were tried.
///
/// The bound is real time: it is for people who wait.
#[must_use]
pub fn shrink(failure: Box<Failure>, most: Duration) -> (Scenario, Box<Failure>, u64) {
    let kind = kind_of(&failure.what);
    let best = failure.scenario.clone();
    let mut search = Search { best, failure, kind, until: Instant::now() + most, tries: 0 };
    // As a scenario it may end otherwise: then the seed is all there is to give.
    if !search.attempt(search.best.clone()) {
        return (search.best, search.failure, search.tries);
    }
    loop {
        let before = search.best.clone();
        search.calm_the_world();
        search.drop_deeds();
        if search.best == before || search.is_late() {
            return (search.best, search.failure, search.tries);
        }
    }
}

impl Search {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Tells a story; one that still fails is the best so far.
    fn attempt(&mut self, candidate: Scenario) -> bool {
        self.tries += 1;
        match run(&Options::of_scenario(candidate.clone())) {
            Err(failure) if kind_of(&failure.what) == self.kind => {
                (self.best, self.failure) = (candidate, failure);
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// Without chance, with fewer nodes, in less time.
    fn calm_the_world(&mut self) {
        let mut quiet = self.best.clone();
        quiet.noise.loss = Some(0);
        quiet.noise.failures = false;
        if quiet != self.best && !self.attempt(quiet) {
            let mut lossless = self.best.clone();
            lossless.noise.loss = Some(0);
            if lossless != self.best {
                self.attempt(lossless);
            }
        }
        while self.best.nodes > 1 && !self.is_late() {
            let fewer = Scenario { nodes: self.best.nodes / 2, ..self.best.clone() };
            if !self.attempt(fewer) {
                break;
            }
        }
        let last = self.best.deeds.last().map_or(0, |(at, _)| at / 60_000 + 1);
        if last < self.best.minutes {
            self.attempt(Scenario { minutes: last, ..self.best.clone() });
        }
    }

    /// Drops halves, quarters, ... and single deeds, the latest first.
    fn drop_deeds(&mut self) {
        let mut size = self.best.deeds.len().div_ceil(2);
        while size > 0 {
            let mut end = self.best.deeds.len();
            while end > 0 {
                if self.is_late() {
                    return;
                }
                let start = end.saturating_sub(size);
                let mut fewer = self.best.clone();
                fewer.deeds.drain(start..end);
                self.attempt(fewer);
                end = start.min(self.best.deeds.len());
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }
}

/// What kind of failure this is: its first words that are no names or numbers.
fn kind_of(what: &str) -> String {
    let is_plain = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == ',');
    what.split_whitespace().filter(is_plain).take(WORDS_SAME).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_kind_differ_in_names_only() {
        let one = kind_of("edge-3: ends web-1af attempt 2, which runs and is wanted");

        assert_eq!(one, kind_of("edge-117: ends service-4-9b attempt 0, which runs and is wanted"));
        assert_ne!(one, kind_of("edge-3 balances to web-1af on edge-9, which is dead for long"));
    }
}
