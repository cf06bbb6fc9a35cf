//! What an instance waits for before its first process on its node is started.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{id::WorkloadId, workload::WorkloadKind};

/// The most workloads that one waits for.
pub const DEPENDENCIES_MAX: usize = 16;

/// "Not before that workload is so far."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// Who is waited for.
    pub workload: WorkloadId,
    /// What is awaited of it.
    pub awaited: Awaited,
}

/// What is awaited of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// An instance of a service or daemon is healthy.
    Healthy,
    /// A process of a service or daemon runs.
    Started,
    /// A run of a job succeeded, of the job as it was applied last.
    Completed,
}

impl Awaited {
    /// All that can be awaited.
    pub const ALL: [Self; 3] = [Self::Healthy, Self::Started, Self::Completed];

    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Started => "started",
            Self::Completed => "completed",
        }
    }

    /// Why this never comes to pass with a workload of that kind, and what does; `None` = it can.
    #[must_use]
    pub fn misfit(self, kind: &WorkloadKind) -> Option<&'static str> {
        let is_job = matches!(kind, WorkloadKind::Job(_));
        match self {
            Self::Completed if !is_job => Some("it is not a job: wait until it is healthy or started"),
            Self::Healthy | Self::Started if is_job => Some("it is a job: wait until it is completed"),
            Self::Healthy | Self::Started | Self::Completed => None,
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}", self.workload, self.awaited.as_str())
    }
}

/// Finds workloads that wait for each other: the first circle, from some workload to itself; `None` = there is none.
///
/// `waits_for` gives what a workload waits for.
pub fn circle<'a, W>(
    workloads: impl IntoIterator<Item = &'a WorkloadId>,
    waits_for: impl Fn(&WorkloadId) -> W,
) -> Option<Vec<&'a WorkloadId>>
where
    W: IntoIterator<Item = &'a WorkloadId>,
{
    workloads.into_iter().find_map(|start| {
        let mut way = vec![(start, waits_for(start).into_iter())];
        let mut seen = std::collections::BTreeSet::new();
        while let Some((_, next)) = way.last_mut() {
            match next.next() {
                Some(found) if found == start => {
                    return Some(way.into_iter().map(|(id, _)| id).chain([start]).collect());
                }
                Some(found) if seen.insert(found) => way.push((found, waits_for(found).into_iter())),
                Some(_) => {}
                None => drop(way.pop()),
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn id(name: &str) -> WorkloadId {
        name.parse().expect("an id")
    }

    /// The circle of workloads that wait for each other like this.
    fn circle_of(waits: &[(&str, &[&str])]) -> Option<String> {
        let waits: BTreeMap<WorkloadId, Vec<WorkloadId>> = waits
            .iter()
            .map(|(service, others)| (id(service), others.iter().map(|other| id(other)).collect()))
            .collect();
        let found = circle(waits.keys(), |id| waits.get(id).into_iter().flatten());
        found.map(|ids| ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_circle_is_found_wherever_it_is_and_nothing_else_is_one() {
        assert_eq!(circle_of(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &["nobody"])]), None);
        assert_eq!(circle_of(&[("a", &["a"])]).as_deref(), Some("a a"));
        assert_eq!(circle_of(&[("a", &["b"]), ("b", &["x", "c"]), ("c", &["b"])]).as_deref(), Some("b c b"));
        assert_eq!(circle_of(&[("a", &["b", "c"]), ("c", &["a"])]).as_deref(), Some("a c a"));
    }
}
