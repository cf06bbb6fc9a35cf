//! What a partition contract must be, so that it can be kept.

use api_types::{
    disconnect::OnReturn,
    error::ValidationError,
    rollout::UpdateOrder,
    workload::{WorkloadKind, WorkloadSpec},
};

use super::rules::fault;

const YEAR_MS: u64 = 365 * 86_400_000;

/// Checks what is done about silence; `least_ms` is the shortest time in which a lease can be renewed though something of it is lost.
pub(super) fn check(spec: &WorkloadSpec, least_ms: u64) -> Result<(), ValidationError> {
    let policy = &spec.disconnect;
    let is_service = matches!(spec.kind, WorkloadKind::Service { .. });
    if !is_service && (policy.stop_after_ms.is_some() || policy.on_return.is_some()) {
        return fault("disconnect", "`stop_after` and `on_return` are for services");
    }
    let (Some(stop_after_ms), Some(fenced_after_ms)) = (policy.stop_after_ms, spec.fenced_after_ms()) else {
        return Ok(());
    };
    if !(least_ms..=YEAR_MS).contains(&stop_after_ms) {
        return fault("disconnect.stop_after_ms", format!("{least_ms}, four heartbeats, to {YEAR_MS}"));
    }
    if policy.replace_after_ms.is_some_and(|replace_after_ms| replace_after_ms < fenced_after_ms) {
        return fault(
            "disconnect.replace_after_ms",
            format!("at least {fenced_after_ms}: before that two could run at once"),
        );
    }
    if policy.on_return == Some(OnReturn::KeepOriginal) {
        return fault("disconnect.on_return", "with `stop_after` the original has ended before it could be kept");
    }
    if spec.update.as_ref().is_some_and(|update| update.order == Some(UpdateOrder::StartFirst)) {
        return fault("update.order", "with `disconnect.stop_after` two instances never run at once");
    }
    if spec.restart.max_restarts.is_some() {
        return fault("restart.max_restarts", "with `disconnect.stop_after` no other node tries beside the first");
    }
    Ok(())
}
