//! What an instance waits for before its first process on its node is started.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::WorkloadId;

/// The most services that one workload waits for.
pub const DEPENDENCIES_MAX: usize = 16;

/// "Not before that service is there."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// A service with a port that leads to all of its instances: of others, nodes are not told how they are.
    pub workload: WorkloadId,
    /// What is awaited of it.
    pub awaited: Awaited,
}

/// What is awaited of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// An instance of it is healthy.
    Healthy,
}

impl Awaited {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is {}", self.workload, self.awaited.as_str())
    }
}

/// Finds services that wait for each other: the first circle, from some service to itself; `None` = there is none.
///
/// `waits_for` gives what a service waits for.
pub fn circle<'a, W>(
    services: impl IntoIterator<Item = &'a WorkloadId>,
    waits_for: impl Fn(&WorkloadId) -> W,
) -> Option<Vec<&'a WorkloadId>>
where
    W: IntoIterator<Item = &'a WorkloadId>,
{
    services.into_iter().find_map(|start| {
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

    /// The circle of services that wait for each other like this.
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
