//! A process that runs: who asks it how it is, when it is ended because it does not answer, and when its past is forgiven.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{
    assignment::Assignment,
    id::InstanceId,
    instance::{Exit, Findings, LAST_LINES_BYTES_MAX},
    probe::{ProbeKind, ProbeSpec},
    time::Timestamp,
};

use crate::{
    Settings,
    attempts::Attempt,
    effect::{Effect, Effects},
    images::Images,
    instances::{Claim, Instance},
    lifecycle::Surroundings,
};

impl Instance {
    /// Notes what time alone decides of a process that runs: that it has started, and that its past is forgiven.
    pub(crate) fn mature(&mut self, settings: &Settings, now: Timestamp) {
        if let Some((_, started_at)) = self.running_since()
            && let Some(startup) = self.assignment().and_then(|assignment| assignment.restart.startup.clone())
        {
            self.probes.presume_started(&startup, started_at, now);
        }
        if self.settles_at(settings).is_some_and(|at| at <= now) {
            self.restart.settled();
            self.last_lines = None;
        }
        self.mature_companions(settings, now);
    }

    /// When the process has run for so long that earlier exits are forgiven; `None` = there is nothing to forgive, or it is
    /// not well.
    pub(crate) fn settles_at(&self, settings: &Settings) -> Option<Timestamp> {
        let (_, started_at) = self.running_since()?;
        let startup = self.assignment().and_then(|assignment| assignment.restart.startup.as_ref());
        let is_noted = self.restart.is_unsettled() || self.last_lines.is_some();
        (is_noted && self.probes.has_started(startup) && !self.probes.is_in_doubt())
            .then(|| self.probes.well_since(started_at) + settings.stable_after_ms)
    }

    /// Emits what makes the running process, and only it, be probed.
    pub(crate) fn advance_probes(&mut self, id: &InstanceId, settings: &Settings, effects: &mut Effects) {
        let wanted = self.wanted_probes(settings);
        let kinds: BTreeSet<ProbeKind> = wanted.iter().flat_map(|(_, _, probes)| probes.keys().copied()).collect();
        let (attempt, asked) = self.probes.probing.take().unwrap_or_default();
        let goes_on = wanted.as_ref().is_some_and(|(wanted, _, _)| *wanted == attempt);
        for kind in asked.iter().filter(|kind| !goes_on || !kinds.contains(kind)) {
            effects.push(Effect::StopProbe { instance: id.clone(), kind: *kind });
        }
        let Some((attempt, address, probes)) = wanted else { return };
        for (kind, probe) in probes.into_iter().filter(|(kind, _)| !goes_on || !asked.contains(kind)) {
            effects.push(Effect::StartProbe { instance: id.clone(), attempt, kind, address, probe });
        }
        self.probes.probing = Some((attempt, kinds));
    }

    /// The attempt that is to be probed, where, and by what; `None` = none.
    fn wanted_probes(&self, settings: &Settings) -> Option<(u32, Ipv4Addr, BTreeMap<ProbeKind, ProbeSpec>)> {
        let Claim::Run(assignment) = &self.claim else { return None };
        if self.is_fenced() {
            return None;
        }
        let ((attempt, _), address) = (self.running()?, self.reached_at(settings)?);
        let probes = self.probes.wanted(assignment.probe.as_ref(), &assignment.restart);
        (!probes.is_empty())
            .then(|| (attempt, address, probes.into_iter().map(|(kind, probe)| (kind, probe.clone())).collect()))
    }

    /// Books one answer of a probe that is asked; one that comes late is not heard.
    pub(crate) fn probed(&mut self, (number, kind): (u32, ProbeKind), outcome: Result<String, String>, now: Timestamp) {
        let Some(assignment) = self.assignment().cloned() else { return };
        let Some((_, started_at)) = self.running_since().filter(|(running, _)| *running == number) else { return };
        let mut wanted = self.probes.wanted(assignment.probe.as_ref(), &assignment.restart).into_iter();
        if let Some(probe) = wanted.find(|(wanted, _)| *wanted == kind) {
            self.probes.answered(probe, now, started_at, outcome);
        }
    }

    /// Asks a process to end whose start-up or liveness probe failed; when nothing is left of it, another one is started, as
    /// after a crash. What does not end in time is removed as it is.
    pub(crate) fn end_the_unwell(
        &mut self,
        id: &InstanceId,
        assignment: &Assignment,
        surroundings: &mut Surroundings<'_>,
    ) {
        let (settings, now) = (surroundings.settings, surroundings.now);
        for attempt in self.attempts.held.values_mut() {
            if matches!(attempt, Attempt::Stopping { overdue_at } if *overdue_at <= now) {
                *attempt = Attempt::Ended;
            }
        }
        let (Some((kind, well_until)), Some((number, started_at))) = (self.probes.condemned(), self.running_since())
        else {
            return;
        };
        // Asked for a second time after containerd was away, it is one end all the same.
        if self.given_up != Some(number) {
            let ran_ms = well_until.map_or(0, |at| at.since(self.probes.well_since(started_at)));
            let exit = Exit::Probe(kind);
            let how = format!("{}: {}", exit.describe(), self.probes.output(kind));
            self.restart.exited(settings, now, ran_ms, how, self.attempts.next);
            self.last_exit = Some(exit);
            self.lines_wanted = Some((number, started_at));
            self.given_up = Some(number);
        }
        let grace_ms = assignment.container.stop_grace_ms;
        let overdue_at = now + grace_ms + settings.stop_overdue_ms;
        self.attempts.held.insert(number, Attempt::Stopping { overdue_at });
        let signal = assignment.container.stop_signal.clone();
        surroundings.effects.push(Effect::Stop { instance: id.clone(), attempt: number, signal, grace_ms });
        self.advance_probes(id, settings, surroundings.effects);
    }

    /// Takes over what the process of an attempt wrote last.
    pub(crate) fn last_lines(&mut self, number: u32, lines: String) {
        let is_late = self.last_lines.as_ref().is_some_and(|(known, _)| *known > number);
        if is_late || !self.attempts.knows(number) || lines.is_empty() {
            return;
        }
        self.last_lines = Some((number, last_words(&lines)));
    }

    /// What is told of it beside its state.
    pub(crate) fn findings(&self, images: &Images) -> Findings {
        let restarts_max = self.assignment().and_then(|assignment| assignment.restart.max_restarts);
        let (crash_loop, used_up) = self.sidecars_findings(restarts_max);
        let last_lines = self.last_lines.as_ref().map_or(self.companions_last_lines(), |(_, lines)| lines);
        // What was not there before it came may be there by now: only a try since then tells.
        let needed = self.assignment().into_iter().flat_map(|assignment| assignment.container.images());
        let tried = needed.filter_map(|image| images.missing_since(image)).max();
        let no_image = self.running().is_none() && tried.is_some_and(|at| at >= self.status.since);
        Findings {
            probes: if self.running().is_some() { self.probes.findings() } else { Vec::new() },
            last_lines: last_lines.to_owned(),
            crash_loop: crash_loop || self.restart.is_crash_loop(),
            used_up: used_up || self.restart.is_used_up(restarts_max),
            no_image,
        }
    }
}

/// The end of what a process wrote, as much of it as is told.
pub(crate) fn last_words(lines: &str) -> String {
    let over = lines.len().saturating_sub(LAST_LINES_BYTES_MAX);
    let from = (over..lines.len()).find(|at| lines.is_char_boundary(*at)).unwrap_or_default();
    lines[from..].to_owned()
}
