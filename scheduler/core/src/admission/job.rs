//! What a job must be, beyond what every workload must.

use api_types::{
    container::Mount,
    error::ValidationError,
    job::{COMPLETIONS_MAX, JobSpec, KEEP_MAX, KeepSpec, RETRIES_MAX},
    schedule::Overlap,
    workload::{WorkloadKind, WorkloadSpec},
};

use super::{rules::fault, schedule};

/// Checks what only jobs have, and that they have nothing of what only others do.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    schedule::check(spec)?;
    let WorkloadKind::Job(job) = &spec.kind else { return Ok(()) };
    check_numbers(job)?;
    let foreign = [
        ("ports", !spec.ports.is_empty()),
        ("balance", !spec.balance.is_default()),
        ("probe", spec.probe.is_some()),
        ("restart", !spec.restart.is_default()),
        ("update", spec.update.is_some()),
        ("ipv6", spec.ipv6),
        ("across_sites", spec.across_sites),
        ("allow_from", spec.allow_from.is_some()),
    ];
    if let Some((path, _)) = foreign.into_iter().find(|(_, is_there)| *is_there) {
        return fault(path, "it has no meaning for a job, which runs until it is done");
    }
    let allows = spec.schedule.as_ref().is_some_and(|schedule| schedule.overlap == Overlap::Allow);
    if allows && spec.mounts().any(|mount| matches!(mount, Mount::Volume { .. })) {
        return fault("schedule.overlap", "two runs at once would write to the same volume");
    }
    Ok(())
}

fn check_numbers(job: &JobSpec) -> Result<(), ValidationError> {
    let JobSpec { completions, parallelism, retries, deadline_ms, keep: KeepSpec { succeeded, failed } } = *job;
    if !(1..=COMPLETIONS_MAX).contains(&completions) {
        return fault("completions", format!("{completions} is not 1 to {COMPLETIONS_MAX}"));
    }
    if !(1..=COMPLETIONS_MAX).contains(&parallelism) {
        return fault("parallelism", format!("{parallelism} is not 1 to {COMPLETIONS_MAX}"));
    }
    if retries > RETRIES_MAX {
        return fault("retries", format!("{retries} is more than {RETRIES_MAX}"));
    }
    if deadline_ms == Some(0) {
        return fault("deadline_ms", "0 leaves no time: leave it out or say how long a run may take");
    }
    if succeeded.max(failed) > KEEP_MAX {
        return fault("keep", format!("at most {KEEP_MAX} runs of each outcome are kept"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api_types::{
        companion::{CompanionRole, CompanionSpec},
        container::ContainerSpec,
        id::Name,
        resources::ResourceSpec,
        rollout::UpdateSpec,
        schedule::ScheduleSpec,
    };

    use super::*;

    #[test]
    fn a_job_has_nothing_of_a_service_and_sensible_numbers() {
        let refused = |change: &dyn Fn(&mut WorkloadSpec, &mut JobSpec)| {
            let mut job = JobSpec::default();
            let mut spec = WorkloadSpec::job("migrate".parse().expect("an id"), "web:1", job);
            change(&mut spec, &mut job);
            spec.kind = WorkloadKind::Job(job);
            check(&spec).err().map(|error| error.path)
        };

        assert_eq!(refused(&|_, _| {}), None);
        assert_eq!(refused(&|_, job| job.completions = 0).as_deref(), Some("completions"));
        assert_eq!(refused(&|_, job| job.parallelism = 1_001).as_deref(), Some("parallelism"));
        assert_eq!(refused(&|_, job| job.retries = 1_001).as_deref(), Some("retries"));
        assert_eq!(refused(&|_, job| job.deadline_ms = Some(0)).as_deref(), Some("deadline_ms"));
        assert_eq!(refused(&|_, job| job.keep.failed = 101).as_deref(), Some("keep"));
        assert_eq!(refused(&|spec, _| spec.ipv6 = true).as_deref(), Some("ipv6"));
        assert_eq!(refused(&|spec, _| spec.update = Some(UpdateSpec::default())).as_deref(), Some("update"));
        let volume = || Mount::Volume { name: Name::new("data").expect("a name"), read_only: false };
        let mounted = |container: &mut ContainerSpec| drop(container.mounts.insert("/data".to_owned(), volume()));
        assert_eq!(refused(&|spec, _| mounted(&mut spec.container)), None);
        let allow = |spec: &mut WorkloadSpec| {
            let schedule = ScheduleSpec::at("@daily".parse().expect("a schedule"));
            spec.schedule = Some(ScheduleSpec { overlap: Overlap::Allow, ..schedule });
        };
        assert_eq!(refused(&|spec, _| allow(spec)), None);
        let step = |spec: &mut WorkloadSpec| {
            let mut container = ContainerSpec::of_image("tool:1");
            mounted(&mut container);
            let (name, role) = (Name::new("fetch").expect("a name"), CompanionRole::Init);
            spec.companions.push(CompanionSpec { name, role, container, resources: ResourceSpec::default() });
            allow(spec);
        };
        let shared = refused(&|spec, _| step(spec));
        assert_eq!(shared.as_deref(), Some("schedule.overlap"), "of a step beside it, too");
    }
}
