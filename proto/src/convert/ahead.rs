//! Runs that a node begins by its own clock: what it is told before, and what it tells afterwards.

use std::collections::BTreeMap;

use api_types::{
    counter::Revision,
    id::{InstanceId, WorkloadId},
    schedule::{BegunAlone, FollowedAlone, JobAhead, Overlap},
    time::Timestamp,
};

use super::{known, parsed, parsed_list, required, unknown};
use crate::{error::ConvertError, v1};

impl From<Vec<JobAhead>> for v1::AllAhead {
    fn from(jobs: Vec<JobAhead>) -> Self {
        Self { jobs: jobs.into_iter().map(Into::into).collect() }
    }
}

impl From<JobAhead> for v1::JobAhead {
    fn from(job: JobAhead) -> Self {
        let overlap = match job.overlap {
            Overlap::Forbid => v1::Overlap::Forbid,
            Overlap::Replace => v1::Overlap::Replace,
            Overlap::Allow => v1::Overlap::Allow,
        };
        let coming =
            |(at, instance): (Timestamp, InstanceId)| v1::ComingRun { at_ms: at.0, instance: instance.to_string() };
        Self {
            template: Some(job.template.into()),
            late_ms: job.late_ms,
            overlap: overlap.into(),
            coming: job.coming.into_iter().map(coming).collect(),
            withdrawn: job.withdrawn.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::JobAhead> for JobAhead {
    type Error = ConvertError;

    fn try_from(wire: v1::JobAhead) -> Result<Self, Self::Error> {
        let overlap = match known("overlap", wire.overlap)? {
            v1::Overlap::Unspecified => return Err(unknown("overlap", wire.overlap)),
            v1::Overlap::Forbid => Overlap::Forbid,
            v1::Overlap::Replace => Overlap::Replace,
            v1::Overlap::Allow => Overlap::Allow,
        };
        let coming = |run: v1::ComingRun| Ok((Timestamp(run.at_ms), parsed("coming", &run.instance)?));
        Ok(Self {
            template: required("template", wire.template)?,
            late_ms: wire.late_ms,
            overlap,
            coming: wire.coming.into_iter().map(coming).collect::<Result<_, ConvertError>>()?,
            withdrawn: parsed_list("withdrawn", &wire.withdrawn)?.into_iter().collect(),
        })
    }
}

/// By job, what a node did alone.
pub(super) fn wire(jobs: BTreeMap<WorkloadId, FollowedAlone>) -> v1::RanAlone {
    let begun = |(instance, begun): (InstanceId, BegunAlone)| v1::BegunAlone {
        instance: instance.to_string(),
        at_ms: begun.at.0,
        revision: begun.revision.0,
    };
    let jobs = jobs.into_iter().map(|(workload, followed)| v1::FollowedAlone {
        workload: workload.to_string(),
        until_ms: followed.until.0,
        begun: followed.begun.into_iter().map(begun).collect(),
        ended: followed.ended.iter().map(ToString::to_string).collect(),
    });
    v1::RanAlone { jobs: jobs.collect() }
}

/// The same, as it came from a node.
pub(super) fn read(wire: v1::RanAlone) -> Result<BTreeMap<WorkloadId, FollowedAlone>, ConvertError> {
    let begun = |begun: v1::BegunAlone| {
        let how = BegunAlone { at: Timestamp(begun.at_ms), revision: Revision(begun.revision) };
        Ok((parsed("begun", &begun.instance)?, how))
    };
    let job = |job: v1::FollowedAlone| {
        let followed = FollowedAlone {
            until: Timestamp(job.until_ms),
            begun: job.begun.into_iter().map(begun).collect::<Result<_, ConvertError>>()?,
            ended: parsed_list("ended", &job.ended)?.into_iter().collect(),
        };
        Ok((parsed("workload", &job.workload)?, followed))
    };
    wire.jobs.into_iter().map(job).collect()
}
