//! From answers of probes to verdicts: who has started, who gets connections, whose process is started again.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    instance::Health,
    probe::{ProbeFinding, ProbeKind, ProbeSpec},
    restart::RestartSpec,
    time::Timestamp,
};

/// While nothing else changes, what a probe got to hear is told at most so often.
const TOLD_AFTER_MS: u64 = 10_000;

/// The most characters that are kept of what a probe got to hear.
const OUTPUT_CHARS_MAX: usize = 200;

/// What the probes of one attempt said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    /// The attempt that is being probed, and by which probes.
    pub(crate) probing: Option<(u32, BTreeSet<ProbeKind>)>,
    /// Whether it ran before this program did: what the last service table says of it stands until the first answer.
    pub(crate) adopted: bool,
    /// When the start-up probe was well.
    started_at: Option<Timestamp>,
    voices: BTreeMap<ProbeKind, Voice>,
}

/// What one probe said.
#[derive(Clone, Debug)]
struct Voice {
    verdict: Health,
    /// Failures in a row that count.
    failures: u32,
    /// Successes in a row.
    successes: u32,
    /// Since when it fails; `None` = it does not.
    failing_since: Option<Timestamp>,
    /// Whether it was ever well.
    ever_well: bool,
    /// Whether it ever failed when that counts.
    ever_failed: bool,
    output: String,
    /// When that output was heard.
    told_at: Timestamp,
}

impl Probes {
    /// Starts from nothing, for a new process.
    pub(crate) fn reset(&mut self, adopted: bool) {
        *self = Self { probing: self.probing.take(), adopted, ..Self::default() };
    }

    /// Which probes are to be asked.
    pub(crate) fn wanted<'s>(
        &self,
        health: Option<&'s ProbeSpec>,
        restart: &'s RestartSpec,
    ) -> Vec<(ProbeKind, &'s ProbeSpec)> {
        if let Some(startup) = &restart.startup
            && !self.has_started(Some(startup))
        {
            return vec![(ProbeKind::Startup, startup)];
        }
        let health = health.map(|probe| (ProbeKind::Health, probe));
        health.into_iter().chain(restart.liveness.as_ref().map(|probe| (ProbeKind::Liveness, probe))).collect()
    }

    /// Whether the start is over.
    pub(crate) fn has_started(&self, startup: Option<&ProbeSpec>) -> bool {
        startup.is_none() || self.started_at.is_some()
    }

    /// An adopted process whose time to start is over has made it: who did not was ended then. One that this program asked
    /// must answer for itself.
    pub(crate) fn presume_started(&mut self, startup: &ProbeSpec, started_at: Timestamp, now: Timestamp) {
        let was_asked = self.voices.contains_key(&ProbeKind::Startup);
        if self.adopted && !was_asked && self.started_at.is_none() && now.since(started_at) >= startup.grace_ms {
            self.started_at = Some(started_at + startup.grace_ms);
        }
    }

    /// When the start was over, of a process that was started at `started_at`.
    pub(crate) fn well_since(&self, started_at: Timestamp) -> Timestamp {
        self.started_at.unwrap_or(started_at)
    }

    /// Books one answer of the process that was started at `started_at`.
    pub(crate) fn answered(
        &mut self,
        (kind, probe): (ProbeKind, &ProbeSpec),
        now: Timestamp,
        started_at: Timestamp,
        outcome: Result<String, String>,
    ) {
        let begun_at = self.well_since(started_at);
        let voice = self.voices.entry(kind).or_insert_with(|| Voice::new(now));
        match outcome {
            Ok(output) => {
                voice.successes = voice.successes.saturating_add(1);
                if voice.verdict != Health::Healthy && voice.successes < probe.successes {
                    let so_far = format!("{output}; {} of {} successes in a row", voice.successes, probe.successes);
                    voice.failures = 0;
                    return voice.hear(so_far, true, now);
                }
                voice.hear(output, voice.failing_since.is_some() || !voice.ever_well, now);
                voice.verdict = Health::Healthy;
                voice.failures = 0;
                voice.failing_since = None;
                voice.ever_well = true;
                if kind == ProbeKind::Startup {
                    self.started_at = Some(now);
                }
            }
            Err(trouble) => {
                voice.successes = 0;
                let was = (voice.failing_since.is_some(), voice.verdict);
                voice.failing_since = voice.failing_since.or(Some(now));
                if now.since(begun_at) >= probe.grace_ms {
                    voice.failures = voice.failures.saturating_add(1);
                    voice.ever_failed = true;
                }
                if voice.failures >= probe.failures.max(1) {
                    voice.verdict = Health::Unhealthy;
                }
                voice.hear(trouble, was != (true, voice.verdict), now);
            }
        }
    }

    /// Whether one more answer of this probe that all is well changes nothing.
    pub(crate) fn is_well(&self, kind: ProbeKind) -> bool {
        let voice = self.voices.get(&kind);
        voice.is_some_and(|voice| voice.verdict == Health::Healthy && voice.failing_since.is_none())
    }

    /// The verdict so far on whether it gets connections: none before it has started, and no good one for what is to end.
    pub(crate) fn verdict(&self, health: Option<&ProbeSpec>, restart: &RestartSpec) -> Health {
        if self.condemned().is_some() {
            Health::Unhealthy
        } else if !self.has_started(restart.startup.as_ref()) {
            Health::Unknown
        } else if health.is_none() {
            Health::Healthy
        } else {
            self.voices.get(&ProbeKind::Health).map_or(Health::Unknown, |voice| voice.verdict)
        }
    }

    /// The probe for whose sake its process is to be started again, and since when it was well before.
    pub(crate) fn condemned(&self) -> Option<(ProbeKind, Option<Timestamp>)> {
        [ProbeKind::Startup, ProbeKind::Liveness].into_iter().find_map(|kind| {
            let voice = self.voices.get(&kind).filter(|voice| voice.verdict == Health::Unhealthy)?;
            Some((kind, voice.failing_since.filter(|_| voice.ever_well)))
        })
    }

    /// Whether a probe that is about restarts fails now.
    pub(crate) fn is_in_doubt(&self) -> bool {
        [ProbeKind::Startup, ProbeKind::Liveness]
            .into_iter()
            .any(|kind| self.voices.get(&kind).is_some_and(|voice| voice.failing_since.is_some()))
    }

    /// What the probe that fails now said last, with its name unless it is about health; empty where none does. A failure
    /// of the health probe that changes no verdict yet is none.
    pub(crate) fn trouble(&self, is_unwell: bool) -> String {
        let failing = |kind: &ProbeKind| {
            let counts = *kind != ProbeKind::Health || is_unwell;
            counts && self.voices.get(kind).is_some_and(|voice| voice.failing_since.is_some())
        };
        let Some(kind) = [ProbeKind::Startup, ProbeKind::Health, ProbeKind::Liveness].into_iter().find(failing) else {
            return String::new();
        };
        let output = self.output(kind);
        if kind == ProbeKind::Health { output.to_owned() } else { format!("{}: {output}", kind.as_str()) }
    }

    /// What a probe got to hear last.
    pub(crate) fn output(&self, kind: ProbeKind) -> &str {
        self.voices.get(&kind).map_or("", |voice| &voice.output)
    }

    /// What is to be told of probes that were not always well.
    pub(crate) fn findings(&self) -> Vec<ProbeFinding> {
        let told = |voice: &Voice| voice.failing_since.is_some() || voice.ever_failed;
        let finding = |(kind, voice): (&ProbeKind, &Voice)| ProbeFinding {
            kind: *kind,
            health: voice.verdict,
            output: voice.output.clone(),
        };
        self.voices.iter().filter(|(_, voice)| told(voice)).map(finding).collect()
    }
}

impl Voice {
    fn new(now: Timestamp) -> Self {
        Self {
            verdict: Health::Unknown,
            failures: 0,
            successes: 0,
            failing_since: None,
            ever_well: false,
            ever_failed: false,
            output: String::new(),
            told_at: now,
        }
    }

    /// Keeps what was heard, if it is news: a text with a time in it is not to make a report of each answer.
    fn hear(&mut self, mut output: String, is_news: bool, now: Timestamp) {
        if !is_news && now.since(self.told_at) < TOLD_AFTER_MS {
            return;
        }
        if let Some((end, _)) = output.char_indices().nth(OUTPUT_CHARS_MAX) {
            output.truncate(end);
        }
        self.output = output;
        self.told_at = now;
    }
}

#[cfg(test)]
mod tests {
    use api_types::probe::ProbeCheck;

    use super::*;

    fn probe(grace_ms: u64) -> ProbeSpec {
        let check = ProbeCheck::Tcp { port: 80 };
        ProbeSpec { check, interval_ms: 1000, timeout_ms: 500, failures: 2, successes: 1, grace_ms }
    }

    /// The verdicts after each of these answers, one second apart from the start on.
    fn verdicts(probe: &ProbeSpec, answers: &[bool]) -> Vec<Health> {
        let (mut probes, mut now) = (Probes::default(), Timestamp(0));
        answers
            .iter()
            .map(|ok| {
                now = now + 1000;
                probes.answered((ProbeKind::Health, probe), now, Timestamp(0), said(*ok));
                probes.verdict(Some(probe), &RestartSpec::default())
            })
            .collect()
    }

    fn said(ok: bool) -> Result<String, String> {
        if ok { Ok("status 200".to_owned()) } else { Err("refused".to_owned()) }
    }

    #[test]
    fn one_success_brings_in_and_only_failures_in_a_row_put_out() {
        use Health::{Healthy, Unhealthy, Unknown};

        assert_eq!(
            verdicts(&probe(0), &[true, false, true, false, false, true]),
            [Healthy, Healthy, Healthy, Healthy, Unhealthy, Healthy]
        );
        assert_eq!(verdicts(&probe(0), &[false, false]), [Unknown, Unhealthy]);
    }

    #[test]
    fn as_many_successes_in_a_row_as_wanted_bring_in_and_back() {
        use Health::{Healthy, Unhealthy, Unknown};
        let probe = ProbeSpec { successes: 2, ..probe(0) };

        let coming = verdicts(&probe, &[true, false, true, true, false, true, false, false, true, false, true, true]);

        let well_and_not = [Healthy, Healthy, Healthy, Healthy, Unhealthy, Unhealthy, Unhealthy, Unhealthy, Healthy];
        assert_eq!(coming[..3], [Unknown; 3]);
        assert_eq!(coming[3..], well_and_not);
    }

    #[test]
    fn failures_do_not_count_while_it_starts() {
        use Health::{Healthy, Unhealthy, Unknown};

        assert_eq!(verdicts(&probe(3000), &[false, false, false, false]), [Unknown, Unknown, Unknown, Unhealthy]);
        assert_eq!(verdicts(&probe(9000), &[true, false, false]), [Healthy, Healthy, Healthy]);
    }

    #[test]
    fn nothing_but_the_start_is_asked_until_it_is_over_and_graces_count_from_there() {
        let restart =
            RestartSpec { startup: Some(probe(60_000)), liveness: Some(probe(5000)), ..RestartSpec::default() };
        let health = probe(0);
        let mut probes = Probes::default();
        let kinds = |probes: &Probes| -> Vec<ProbeKind> {
            probes.wanted(Some(&health), &restart).iter().map(|(kind, _)| *kind).collect()
        };

        let before = kinds(&probes);
        probes.answered((ProbeKind::Startup, &probe(60_000)), Timestamp(40_000), Timestamp(0), said(true));
        let after = kinds(&probes);
        for now in [41_000, 42_000, 43_000] {
            probes.answered((ProbeKind::Liveness, &probe(5000)), Timestamp(now), Timestamp(0), said(false));
        }
        let in_its_grace = probes.condemned();
        for now in [45_000, 46_000] {
            probes.answered((ProbeKind::Liveness, &probe(5000)), Timestamp(now), Timestamp(0), said(false));
        }

        assert_eq!(before, [ProbeKind::Startup]);
        assert_eq!(after, [ProbeKind::Health, ProbeKind::Liveness]);
        assert_eq!(in_its_grace, None);
        assert_eq!(probes.condemned(), Some((ProbeKind::Liveness, None)), "it was never well");
    }

    #[test]
    fn an_adopted_process_whose_time_to_start_is_over_has_started() {
        let startup = probe(60_000);
        let started = |adopted: bool, asked: bool, now: u64| {
            let mut probes = Probes::default();
            probes.reset(adopted);
            if asked {
                probes.answered((ProbeKind::Startup, &startup), Timestamp(1000), Timestamp(0), said(false));
            }
            probes.presume_started(&startup, Timestamp(0), Timestamp(now));
            probes.has_started(Some(&startup))
        };

        assert!(started(true, false, 60_000));
        assert!(!started(true, false, 59_999));
        assert!(!started(true, true, 60_000), "it was asked, and did not answer");
        assert!(!started(false, false, 60_000), "its start was seen");
    }

    #[test]
    fn what_was_heard_is_news_when_something_changes_and_else_at_times() {
        let (mut probes, probe) = (Probes::default(), probe(0));
        let mut outputs = Vec::new();
        let answers =
            [(0, Ok("a")), (1000, Err("b")), (2000, Err("c")), (3000, Err("d")), (12_000, Err("e")), (13_000, Ok("f"))];
        for (now, outcome) in answers {
            let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
            probes.answered((ProbeKind::Health, &probe), Timestamp(now), Timestamp(0), outcome);
            outputs.push(probes.output(ProbeKind::Health).to_owned());
        }

        assert_eq!(outputs, ["a", "b", "c", "c", "e", "f"]);
        assert_eq!(probes.findings().len(), 1, "what failed once is told with what it said last");
    }
}
