//! Our containers' ids and labels: how an attempt is found again; pure.

use std::collections::HashMap;

use api_types::{
    counter::Revision,
    id::{InstanceId, NodeId, WorkloadId},
};

use crate::StartRequest;

pub(crate) const NODE: &str = "wherry.node";
pub(crate) const INSTANCE: &str = "wherry.instance";
const ATTEMPT: &str = "wherry.attempt";
const WORKLOAD: &str = "wherry.workload";
const REVISION: &str = "wherry.revision";
pub(crate) const STOP_SIGNAL: &str = "wherry.stop-signal";

/// Stands for a hyphen that follows another: containerd takes no two separators in a row, and names have no capitals.
const SECOND_HYPHEN: char = 'X';

/// Gives the container's id: `web-3f9.0`; at most 74 of the 76 bytes that containerd takes.
pub(crate) fn container_id(instance: &InstanceId, attempt: u32) -> String {
    let mut id = String::with_capacity(instance.as_str().len() + 4);
    for character in instance.as_str().chars() {
        let doubled = character == '-' && id.ends_with(['-', SECOND_HYPHEN]);
        id.push(if doubled { SECOND_HYPHEN } else { character });
    }
    format!("{id}.{attempt}")
}

/// Reads a container's id back; `None` for one that is not ours.
pub(crate) fn parse_container_id(id: &str) -> Option<(InstanceId, u32)> {
    let (instance, attempt) = id.rsplit_once('.')?;
    let instance = InstanceId::new(&instance.replace(SECOND_HYPHEN, "-")).ok()?;
    let attempt = attempt.parse().ok()?;
    (container_id(&instance, attempt) == id).then_some((instance, attempt))
}

/// The labels of a new container: ours alone, from our own values. An image's labels never come here, as containerd acts
/// on some labels with the rights of root (CVE-2026-53488).
pub(crate) fn labels(node: &NodeId, request: &StartRequest<'_>, stop_signal: u32) -> HashMap<String, String> {
    let assignment = request.assignment;
    HashMap::from([
        (NODE.to_owned(), node.to_string()),
        (INSTANCE.to_owned(), assignment.instance.to_string()),
        (ATTEMPT.to_owned(), request.attempt.to_string()),
        (WORKLOAD.to_owned(), String::from(assignment.workload.clone())),
        (REVISION.to_owned(), assignment.revision.to_string()),
        (STOP_SIGNAL.to_owned(), stop_signal.to_string()),
    ])
}

/// What a container's labels say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) instance: InstanceId,
    pub(crate) attempt: u32,
    pub(crate) workload: WorkloadId,
    pub(crate) revision: Revision,
}

/// Reads the labels; `None` where they are not whole, or do not agree with the id.
pub(crate) fn identify(id: &str, labels: &HashMap<String, String>) -> Option<Identity> {
    let (instance, attempt) = parse_container_id(id)?;
    let agrees = labels.get(INSTANCE)? == instance.as_str() && labels.get(ATTEMPT)? == &attempt.to_string();
    let workload = labels.get(WORKLOAD)?.parse().ok()?;
    let revision = Revision(labels.get(REVISION)?.parse().ok()?);
    agrees.then_some(Identity { instance, attempt, workload, revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_has_an_id_that_containerd_takes_and_that_reads_back() {
        for (name, id) in [("web-3f9", "web-3f9.7"), ("a--b", "a-Xb.7"), ("a---b-c--d", "a-XXb-c-Xd.7")] {
            let instance = InstanceId::new(name).expect("a name");

            assert_eq!(container_id(&instance, 7), id);
            assert_eq!(parse_container_id(id), Some((instance, 7)));
        }
        let longest = InstanceId::new(&"a".repeat(63)).expect("a name");
        assert!(container_id(&longest, u32::MAX).len() <= 76);
    }

    #[test]
    fn a_foreign_id_is_not_ours() {
        for id in ["web", "web.x", "X.1", "web.01", "a--b.1", "../x.1", "web.1.2"] {
            assert_eq!(parse_container_id(id), None, "{id} was taken");
        }
    }
}
