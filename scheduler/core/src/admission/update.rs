//! What the way of rolling out a change must be.

use api_types::{
    error::ValidationError,
    rollout::{CANARY_WEIGHT_MAX, CANARY_WEIGHT_MIN, Share, WAVES_MAX},
    workload::WorkloadSpec,
};

use super::rules::fault;

const DEADLINE_MS_MAX: u64 = 86_400_000;
const SITE_BYTES_MAX: usize = 256;

/// Checks how changes are rolled out.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let Some(update) = &spec.update else { return Ok(()) };
    if update.deadline_ms > DEADLINE_MS_MAX || update.healthy_for_ms >= update.deadline_ms {
        return fault("update.healthy_for_ms", "shorter than the deadline, and that not longer than a day");
    }
    let is_site = |site: &String| !site.is_empty() && site.len() <= SITE_BYTES_MAX;
    if update.waves.as_ref().is_some_and(|sites| sites.len() > WAVES_MAX || !sites.iter().all(is_site)) {
        return fault("update.waves", format!("at most {WAVES_MAX} names of sites"));
    }
    let weights = CANARY_WEIGHT_MIN..=CANARY_WEIGHT_MAX;
    if update.canary_weight.is_some_and(|percent| update.canary.is_none() || !weights.contains(&percent)) {
        return fault("update.canary_weight", "1 to 99, and only with a canary");
    }
    let is_share = |share: &Share| match share {
        Share::Count(count) => *count > 0,
        Share::Percent(percent) => (1..=100).contains(percent),
    };
    if !update.parallel.iter().chain(&update.canary).all(is_share) {
        return fault("update.parallel", "at least 1, or 1% to 100%");
    }
    Ok(())
}
