//! What autoscaling must be.

use api_types::{
    container::NetworkMode,
    error::ValidationError,
    rollout::Share,
    scale::ScaleSpec,
    workload::{REPLICAS_MAX, WorkloadKind, WorkloadSpec},
};

use super::rules::fault;

const PERCENT_MAX: u32 = 1_000;
const TOLERANCE_PERCENT_MAX: u32 = 50;
const HOUR_MS: u64 = 3_600_000;

/// Checks how many replicas there may be, and by what.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let Some(scale) = &spec.scale else { return Ok(()) };
    if !matches!(spec.kind, WorkloadKind::Service { .. }) {
        return fault("scale", "only a service has a number of replicas");
    }
    if scale.min == 0 || scale.min > scale.max || scale.max > REPLICAS_MAX {
        return fault("scale.max", format!("1 <= min <= max <= {REPLICAS_MAX}"));
    }
    check_targets(spec, scale)?;
    if scale.tolerance_percent > TOLERANCE_PERCENT_MAX {
        return fault("scale.tolerance_percent", format!("at most {TOLERANCE_PERCENT_MAX}"));
    }
    if scale.window_ms > HOUR_MS || scale.cooldown_ms > HOUR_MS {
        return fault("scale.window_ms", "at most an hour, and so is the cooldown");
    }
    let is_share = |share: &Share| match share {
        Share::Count(count) => *count > 0,
        Share::Percent(percent) => (1..=100).contains(percent),
    };
    if !is_share(&scale.step_up) || !is_share(&scale.step_down) {
        return fault("scale.step_up", "at least 1, or 1% to 100%; and so is step_down");
    }
    Ok(())
}

fn check_targets(spec: &WorkloadSpec, scale: &ScaleSpec) -> Result<(), ValidationError> {
    let reserve = spec.resources.reserve;
    if scale.targets().next().is_none() {
        return fault("scale", "by what? give cpu_percent, memory_percent, requests or new_connections");
    }
    let is_percent = |percent: &u32| (1..=PERCENT_MAX).contains(percent);
    if !scale.cpu_percent.iter().chain(&scale.memory_percent).all(is_percent) {
        return fault("scale.cpu_percent", format!("1 to {PERCENT_MAX}, and so is memory_percent"));
    }
    if scale.cpu_percent.is_some() && reserve.cpu_millis == 0 {
        return fault("scale.cpu_percent", "a percentage of what is promised, and no CPU is");
    }
    if scale.memory_percent.is_some() && reserve.memory_bytes == 0 {
        return fault("scale.memory_percent", "a percentage of what is promised, and no memory is");
    }
    if let Some(requests) = scale.requests {
        if requests == 0 {
            return fault("scale.requests", "at least 1 each second");
        }
        if !spec.ports.iter().any(|port| port.http && port.publish.is_some()) {
            return fault("scale.requests", "counted at a published HTTP port, and there is none");
        }
    }
    if let Some(connections) = scale.new_connections {
        if connections == 0 {
            return fault("scale.new_connections", "at least 1 each second");
        }
        if spec.container.network == NetworkMode::Host {
            return fault("scale.new_connections", "counted in a network of its own, and it is in the node's");
        }
    }
    Ok(())
}
