//! What a node is told of a schedule, so that it goes on by its own clock while it hears no scheduler, and what it did.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Overlap;
use crate::{
    assignment::Assignment,
    counter::Revision,
    id::{InstanceId, WorkloadId},
    time::Timestamp,
};

/// The most coming times of one schedule that a node is told.
pub const AHEAD_MAX: usize = 100;
/// How far ahead these are, in milliseconds: a week. The next one is told in any case.
pub const AHEAD_MS: u64 = 7 * 86_400_000;

/// A job that its node begins by its own clock while it hears no scheduler. A run is known by the time that it is for, and
/// its instance has an id before it begins: whoever begins it begins the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAhead {
    /// What each run is, but for its instance.
    pub template: Assignment,
    /// How late a run may begin, in milliseconds.
    pub late_ms: u64,
    /// What happens when a run is due while another is active.
    #[serde(default)]
    pub overlap: Overlap,
    /// The coming times, and the instance of each.
    #[serde(default, with = "pairs")]
    pub coming: BTreeMap<Timestamp, InstanceId>,
    /// Instances for times that were told and are taken back: none of them begins any more, and one that began goes on until
    /// the scheduler knows of it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub withdrawn: BTreeSet<InstanceId>,
}

impl JobAhead {
    /// Which job.
    #[must_use]
    pub fn workload(&self) -> &WorkloadId {
        &self.template.workload
    }

    /// Whether an instance is of a time that was told.
    #[must_use]
    pub fn names(&self, instance: &InstanceId) -> bool {
        self.withdrawn.contains(instance) || self.coming.values().any(|coming| coming == instance)
    }

    /// What an instance of it is assigned.
    #[must_use]
    pub fn assignment(&self, instance: InstanceId) -> Assignment {
        Assignment { instance, ..self.template.clone() }
    }
}

/// A map as a list of pairs: keys that are numbers do not survive where JSON is read as a part of something else.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::{id::InstanceId, time::Timestamp};

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<Timestamp, InstanceId>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<BTreeMap<Timestamp, InstanceId>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

/// How far a node followed a schedule by its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedAlone {
    /// What was due until then began, or was left out for good.
    pub until: Timestamp,
    /// What it began, and no set names yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub begun: BTreeMap<InstanceId, BegunAlone>,
    /// What it ended because the next run was due.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ended: BTreeSet<InstanceId>,
}

/// A run that a node began by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunAlone {
    /// When, by that clock.
    pub at: Timestamp,
    /// Which revision of the job.
    pub revision: Revision,
}
