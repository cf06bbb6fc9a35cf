//! From answers of probes to a verdict.

use api_types::{instance::Health, probe::ProbeSpec, time::Timestamp};

/// What the probes of one attempt said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probes {
    /// The attempt that is being probed.
    pub(crate) probing: Option<u32>,
    /// Whether it ran before this program did: what the last service table says of it stands until the first answer.
    pub(crate) adopted: bool,
    verdict: Health,
    failures: u32,
    trouble: String,
}

impl Probes {
    /// Starts from nothing, for a new process.
    pub(crate) fn reset(&mut self, adopted: bool) {
        *self = Self { probing: self.probing, adopted, ..Self::default() };
    }

    /// Books one answer of the process that was started at `started_at`.
    pub(crate) fn answered(
        &mut self,
        probe: &ProbeSpec,
        now: Timestamp,
        started_at: Timestamp,
        outcome: Result<(), String>,
    ) {
        match outcome {
            Ok(()) => {
                self.verdict = Health::Healthy;
                self.failures = 0;
                self.trouble.clear();
            }
            Err(trouble) => {
                self.trouble = trouble;
                if now.since(started_at) >= probe.grace_ms {
                    self.failures = self.failures.saturating_add(1);
                }
                if self.failures >= probe.failures.max(1) {
                    self.verdict = Health::Unhealthy;
                }
            }
        }
    }

    /// Whether one more answer that all is well changes nothing.
    pub(crate) fn is_well(&self) -> bool {
        self.verdict == Health::Healthy && self.failures == 0 && self.trouble.is_empty()
    }

    /// The verdict so far.
    pub(crate) fn verdict(&self) -> Health {
        self.verdict
    }

    /// What the last probe that failed said; empty after one that did not.
    pub(crate) fn trouble(&self) -> &str {
        &self.trouble
    }
}

#[cfg(test)]
mod tests {
    use api_types::probe::ProbeCheck;

    use super::*;

    /// The verdicts after each of these answers, one second apart from the start on.
    fn verdicts(grace_ms: u64, answers: &[bool]) -> Vec<Health> {
        let probe = ProbeSpec {
            check: ProbeCheck::Tcp { port: 80 },
            interval_ms: 1000,
            timeout_ms: 500,
            failures: 2,
            grace_ms,
        };
        let (mut probes, mut now) = (Probes::default(), Timestamp(0));
        answers
            .iter()
            .map(|ok| {
                now = now + 1000;
                probes.answered(&probe, now, Timestamp(0), ok.then_some(()).ok_or_else(|| "refused".to_owned()));
                probes.verdict()
            })
            .collect()
    }

    #[test]
    fn one_success_brings_in_and_only_failures_in_a_row_put_out() {
        use Health::{Healthy, Unhealthy, Unknown};

        assert_eq!(
            verdicts(0, &[true, false, true, false, false, true]),
            [Healthy, Healthy, Healthy, Healthy, Unhealthy, Healthy]
        );
        assert_eq!(verdicts(0, &[false, false]), [Unknown, Unhealthy]);
    }

    #[test]
    fn failures_do_not_count_while_it_starts() {
        use Health::{Healthy, Unhealthy, Unknown};

        assert_eq!(verdicts(3000, &[false, false, false, false]), [Unknown, Unknown, Unknown, Unhealthy]);
        assert_eq!(verdicts(9000, &[true, false, false]), [Healthy, Healthy, Healthy]);
    }
}
