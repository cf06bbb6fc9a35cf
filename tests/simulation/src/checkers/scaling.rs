//! Autoscaling: always between the bounds and by no more than a step, never smaller by numbers that are missing, and never to and fro.

use std::collections::BTreeMap;

use api_types::{id::WorkloadId, instance::Desired, scale::ScaleSpec, time::Timestamp, workload::WorkloadSpec};
use scheduler_core::effect::{Effect, Record};

use crate::{checkers::oracle::SILENT_MS, load::target_of, world::World};

/// When services grew last, by what they had to do.
#[derive(Debug, Default)]
pub struct Scaling {
    grew_at: BTreeMap<WorkloadId, Timestamp>,
    /// How often one was changed by what it has to do.
    pub changes: u64,
}

impl World {
    /// What a step makes of numbers of replicas, before it is written.
    pub fn check_scales(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Persist(record) = effect else { continue };
            let Record::Scale { workload, replicas } = &**record else { continue };
            let asked = effects.iter().find_map(|effect| asked_in(effect, workload));
            let is_asked = asked.is_some();
            let known = || self.scheduler.decided.workload(workload).map(|held| &held.spec);
            let scale = asked.or_else(known).and_then(|spec| spec.scale.clone());
            let checked = match &scale {
                None => Err("it is not scaled".to_owned()),
                Some(scale) if !(scale.min..=scale.max).contains(replicas) => {
                    Err(format!("{replicas} replicas, {} to {} are asked for", scale.min, scale.max))
                }
                // Another spec is a person's wish.
                Some(_) if is_asked => Ok(()),
                Some(scale) => self.check_scale(workload, scale, *replicas),
            };
            self.causes.scaled(self.now, workload);
            if let Err(wrong) = checked {
                let workload = workload.clone();
                self.note_events_of(&workload);
                self.fail(format!("{workload} is scaled: {wrong}"));
            }
        }
    }

    fn check_scale(&mut self, id: &WorkloadId, scale: &ScaleSpec, replicas: u32) -> Result<(), String> {
        let before = self.scheduler.decided.scale(id).ok_or("it had no number of replicas")?;
        let step = |share: api_types::rollout::Share| u32::try_from(share.of(before as usize)).unwrap_or(u32::MAX);
        let (now, grew_at) = (self.now, &mut self.scaling.grew_at);
        self.scaling.changes += 1;
        if replicas > before {
            grew_at.insert(id.clone(), now);
            let most = before.saturating_add(step(scale.step_up));
            return if replicas <= most { Ok(()) } else { Err(format!("from {before} to {replicas} at once")) };
        }
        if replicas < before.saturating_sub(step(scale.step_down)) {
            return Err(format!("from {before} to {replicas} at once"));
        }
        let grew_ms = grew_at.get(id).map(|at| now.since(*at));
        if let Some(grew_ms) = grew_ms.filter(|grew_ms| *grew_ms < scale.window_ms) {
            return Err(format!("from {before} to {replicas}, {grew_ms} ms after it grew"));
        }
        let of_it = self.scheduler.decided.of(id).filter(|held| held.desired == Desired::Run);
        let silent =
            of_it.filter_map(|held| self.node_of(&held.node)).find(|node| now.since(node.last_heard) > SILENT_MS);
        silent.map_or(Ok(()), |node| Err(format!("from {before} to {replicas}, while {} is silent", node.id)))
    }

    /// In the end a service has as many replicas as its load asks for, if that misses the target by more than the tolerance.
    pub(super) fn check_scaled(&self, spec: &WorkloadSpec) -> Result<(), String> {
        let (Some(scale), Some(replicas)) = (&spec.scale, self.scheduler.disk.scale(&spec.id)) else { return Ok(()) };
        let (placed, target) = (self.replicas_placed(&spec.id), target_of(spec, scale));
        // As much as all of them use together: shares are whole numbers, and who has no room uses nothing.
        let (load, full) = (self.share_of(spec) * placed, target * placed);
        let tolerance = u64::from(scale.tolerance_percent);
        let enough = u32::try_from(load.div_ceil(target)).unwrap_or(u32::MAX).clamp(scale.min, scale.max);
        let is_less = load * 100 > full * (100 + tolerance) && replicas < enough;
        let is_more = load * 100 < full * (100 - tolerance) && replicas > enough;
        if is_less || is_more {
            return Err(format!("{}: {replicas} replicas, {enough} are enough for its load of {load}", spec.id));
        }
        Ok(())
    }
}

/// The spec of a workload that a person asked for in this step.
pub(super) fn asked_in<'e>(effect: &'e Effect, id: &WorkloadId) -> Option<&'e WorkloadSpec> {
    let Effect::Persist(record) = effect else { return None };
    let Record::Workload(workload) = &**record else { return None };
    (workload.spec.id == *id).then_some(&workload.spec)
}
