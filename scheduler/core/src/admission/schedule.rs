//! What the schedule of a job must be.

use api_types::{
    error::ValidationError,
    schedule::{CATCH_UP_MS_MAX, ON_TIME_MS, is_time_zone_name},
    workload::{WorkloadKind, WorkloadSpec},
};

use super::rules::fault;
use crate::{cluster::Cluster, effect::Refusal};

/// Checks what can be said of a schedule by itself.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    let Some(schedule) = &spec.schedule else { return Ok(()) };
    if !matches!(spec.kind, WorkloadKind::Job(_)) {
        return fault("schedule", "only a job has a schedule, as it runs until it is done");
    }
    if !is_time_zone_name(&schedule.time_zone) {
        return fault("schedule.time_zone", "it is not the name of a time zone: write such as `Europe/Berlin`");
    }
    if schedule.catch_up_ms.is_some_and(|late_ms| !(ON_TIME_MS..=CATCH_UP_MS_MAX).contains(&late_ms)) {
        return fault("schedule.catch_up_ms", format!("it is not {ON_TIME_MS} to {CATCH_UP_MS_MAX}"));
    }
    Ok(())
}

/// Refuses a time zone whose clock nobody here knows: a job that never ran would be noticed too late.
pub(super) fn check_zone(cluster: &Cluster, spec: &WorkloadSpec) -> Result<(), Refusal> {
    let Some(schedule) = spec.schedule.as_ref().filter(|schedule| cluster.zone(&schedule.time_zone).is_none()) else {
        return Ok(());
    };
    Err(Refusal::Invalid(format!(
        "job `{}`: the scheduler's machine knows no time zone `{}`: write it as the tz database does, such as \
         `Europe/Berlin`, or install the tz database there (package tzdata)",
        spec.id, schedule.time_zone
    )))
}

#[cfg(test)]
mod tests {
    use api_types::{job::JobSpec, schedule::ScheduleSpec};

    use super::*;

    fn job(change: impl Fn(&mut ScheduleSpec)) -> WorkloadSpec {
        let mut schedule = ScheduleSpec::at("@daily".parse().expect("a schedule"));
        change(&mut schedule);
        let spec = WorkloadSpec::job("backup".parse().expect("an id"), "web:1", JobSpec::default());
        WorkloadSpec { schedule: Some(schedule), ..spec }
    }

    #[test]
    fn a_schedule_is_a_jobs_alone_and_catches_up_within_bounds() {
        let refused = |spec: &WorkloadSpec| check(spec).err().map(|error| error.path);

        assert_eq!(refused(&job(|_| {})), None);
        assert_eq!(refused(&job(|schedule| schedule.catch_up_ms = Some(1))).as_deref(), Some("schedule.catch_up_ms"));
        let named = job(|schedule| schedule.time_zone = "../../etc".to_owned());
        assert_eq!(refused(&named).as_deref(), Some("schedule.time_zone"));
        let service = WorkloadSpec { kind: WorkloadKind::Service { replicas: 1 }, ..job(|_| {}) };
        assert_eq!(refused(&service).as_deref(), Some("schedule"));
    }

    #[test]
    fn a_time_zone_must_be_known() {
        let mut cluster = Cluster::default();
        let spec = job(|schedule| schedule.time_zone = "Europe/Berlin".to_owned());

        assert!(check_zone(&cluster, &job(|_| {})).is_ok());
        let refusal = check_zone(&cluster, &spec).expect_err("nobody knows it").to_string();
        assert!(refusal.contains("`Europe/Berlin`"), "{refusal}");
        cluster.learn_zones([("Europe/Berlin".to_owned(), crate::schedule::Zone::default())].into());
        assert!(check_zone(&cluster, &spec).is_ok());
    }
}
