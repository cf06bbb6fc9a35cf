//! What companions mean for their instance: its health, and what people are told.

use api_types::{companion::CompanionSpec, instance::Health};

use super::{Companion, placed};
use crate::{images::Images, instances::Instance};

impl Instance {
    /// The sidecars that are to run, each with what is known of it.
    fn sidecars(&self) -> impl Iterator<Item = (&CompanionSpec, Option<&Companion>)> {
        let assignment = self.assignment().into_iter();
        let sidecars = assignment.flat_map(|assignment| placed(assignment)).filter(|(_, spec)| !spec.is_init());
        sidecars.map(|(index, spec)| (spec, self.companions.get(&index)))
    }

    /// What its sidecars let it be: healthy when all run, unhealthy when one ended or could not be started.
    pub(crate) fn sidecars_health(&self) -> Health {
        let health = |sidecar: Option<&Companion>| match sidecar {
            Some(sidecar) if sidecar.attempts.running_since().is_some() => Health::Healthy,
            Some(sidecar) if !sidecar.restart.reason().is_empty() => Health::Unhealthy,
            Some(_) | None => Health::Unknown,
        };
        let all = self.sidecars().map(|(_, sidecar)| health(sidecar));
        all.fold(Health::Healthy, |sum, one| match (sum, one) {
            (Health::Unhealthy, _) | (_, Health::Unhealthy) => Health::Unhealthy,
            (Health::Unknown, _) | (_, Health::Unknown) => Health::Unknown,
            (Health::Healthy, Health::Healthy) => Health::Healthy,
        })
    }

    /// What is wrong with a sidecar, for people; empty when all run well.
    pub(crate) fn sidecars_trouble(&self, images: &Images) -> String {
        let trouble = |(spec, sidecar): (&CompanionSpec, Option<&Companion>)| {
            let reason = sidecar.map_or("", |sidecar| sidecar.restart.reason());
            let is_there = sidecar.is_some_and(|sidecar| sidecar.attempts.running_since().is_some());
            let mut missing = spec.container.images().map(|image| images.reason(image));
            match (reason, missing.find(|reason| !reason.is_empty()).unwrap_or("")) {
                ("", _) if is_there => None,
                ("", "") => Some(format!("{} is being started", spec.describe())),
                ("", image) => Some(format!("{}: {image}", spec.describe())),
                (reason, _) => Some(format!("{}: {reason}", spec.describe())),
            }
        };
        self.sidecars().find_map(trouble).unwrap_or_default()
    }

    /// What the main process waits for: the step that runs; empty when none does.
    pub(crate) fn step_under_way(&self) -> String {
        let is_busy = |index: &u8| self.companions.get(index).is_some_and(Companion::is_busy);
        let mut steps = self.assignment().into_iter().flat_map(|assignment| placed(assignment));
        let busy = steps.find(|(index, spec)| spec.is_init() && is_busy(index));
        busy.map(|(_, spec)| format!("{} is under way", spec.describe())).unwrap_or_default()
    }

    /// Whether a sidecar ended again and again shortly after its start, and whether one was restarted as often as allowed.
    pub(crate) fn sidecars_findings(&self, restarts_max: Option<u32>) -> (bool, bool) {
        let books = || self.sidecars().filter_map(|(_, sidecar)| sidecar);
        let used_up = books().any(|sidecar| sidecar.restart.is_used_up(restarts_max));
        (books().any(|sidecar| sidecar.restart.is_crash_loop()), used_up)
    }

    /// What a companion wrote last before it last ended; empty when none did.
    pub(crate) fn companions_last_lines(&self) -> &str {
        let mut all = self.companions.values().map(|companion| companion.last_lines.as_str());
        all.find(|lines| !lines.is_empty()).unwrap_or("")
    }
}
