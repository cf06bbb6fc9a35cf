//! What a session last sent of its node's set: enough to make the next change from, and no more than a line per instance.

use std::hash::{DefaultHasher, Hash, Hasher};

use api_types::{assignment::AssignmentSet, id::InstanceId};
use proto::{
    session::Marker,
    update::{AssignmentsUpdate, assignments_marker, whole_assignments},
};

/// A set as it was sent.
#[derive(Clone, Debug)]
pub struct SentSet {
    /// Its version.
    pub marker: Marker,
    /// Its instances, sorted, each with a digest of its assignment. Digests are compared within one run only.
    assignments: Vec<(InstanceId, u64)>,
}

impl SentSet {
    /// Notes a set.
    #[must_use]
    pub fn of(set: &AssignmentSet) -> Self {
        let assignments = set.assignments.iter().map(|assignment| (assignment.instance.clone(), digest(assignment)));
        Self { marker: assignments_marker(set), assignments: assignments.collect() }
    }

    /// What leads from here to `set`.
    #[must_use]
    pub fn update_to(&self, set: &AssignmentSet) -> AssignmentsUpdate {
        let sent = |id: &InstanceId| {
            let place = self.assignments.binary_search_by(|(known, _)| known.cmp(id)).ok()?;
            Some(self.assignments[place].1)
        };
        let is_there = |id: &InstanceId| set.assignments.binary_search_by(|known| known.instance.cmp(id)).is_ok();
        let differs =
            set.assignments.iter().filter(|assignment| sent(&assignment.instance) != Some(digest(assignment)));
        let gone = self.assignments.iter().map(|(id, _)| id).filter(|id| !is_there(id));
        AssignmentsUpdate {
            base: Some(self.marker),
            marker: assignments_marker(set),
            node: set.node.clone(),
            subnet: set.subnet,
            upserts: differs.cloned().collect(),
            removals: gone.cloned().collect(),
        }
    }
}

/// The change that brings an agent to `set`: from what it was sent, or from nothing.
#[must_use]
pub fn update_from(sent: Option<&SentSet>, set: &AssignmentSet) -> AssignmentsUpdate {
    sent.map_or_else(|| whole_assignments(set), |sent| sent.update_to(set))
}

fn digest(assignment: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    assignment.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use api_types::{
        assignment::Assignment,
        container::ContainerSpec,
        counter::{Epoch, Generation, Revision},
        id::NodeId,
        instance::Desired,
        resources::ResourceSpec,
    };
    use proto::update::{apply_assignments, diff_assignments};

    use super::*;

    fn set(generation: u64, instances: &[(&str, Desired)]) -> AssignmentSet {
        let assignment = |(id, desired): &(&str, Desired)| Assignment {
            instance: InstanceId::new(id).expect("a name"),
            workload: "web".parse().expect("a name"),
            slot: 0,
            revision: Revision(1),
            desired: *desired,
            container: ContainerSpec::of_image("registry.lan/app:1"),
            resources: ResourceSpec::default(),
            devices: Vec::new(),
            ports: Vec::new(),
            probe: None,
        };
        AssignmentSet {
            epoch: Epoch(1),
            generation: Generation(generation),
            node: NodeId::new("edge-1").expect("a name"),
            subnet: "10.42.1.0/24".parse().expect("a subnet"),
            assignments: instances.iter().map(assignment).collect(),
        }
    }

    #[test]
    fn a_change_from_what_was_noted_is_the_change_from_the_set_itself() {
        use Desired::{Run, Stop};
        let before = set(1, &[("web-a", Run), ("web-b", Run), ("web-c", Run)]);
        let after = set(2, &[("web-a", Run), ("web-c", Stop), ("web-d", Run)]);

        let update = update_from(Some(&SentSet::of(&before)), &after);

        assert_eq!(update, diff_assignments(&before, &after));
        assert_eq!(apply_assignments(Some(&before), update), Ok(after.clone()));
        assert_eq!(update_from(None, &after), whole_assignments(&after));
    }
}
