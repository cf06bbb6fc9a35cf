//! Our containers' ids and labels: how an attempt is found again; pure.

use std::collections::HashMap;

use api_types::{
    counter::Revision,
    id::{InstanceId, Name, NodeId, WorkloadId},
};

use crate::{Attempt, FIRST_COMPANION_LETTER, StartRequest};

pub(crate) const NODE: &str = "wherry.node";
pub(crate) const INSTANCE: &str = "wherry.instance";
const ATTEMPT: &str = "wherry.attempt";
const WORKLOAD: &str = "wherry.workload";
const REVISION: &str = "wherry.revision";
/// The name of a companion; the main container has none.
pub(crate) const CONTAINER: &str = "wherry.container";
pub(crate) const STOP_SIGNAL: &str = "wherry.stop-signal";

/// Stands for a hyphen that follows another: containerd takes no two separators in a row, and names have no capitals.
const SECOND_HYPHEN: char = 'X';

/// Gives the container's id: `web-3f9.0`, and `web-3f9.0b` for the second companion; at most 75 of the 76 bytes that
/// containerd takes.
pub(crate) fn container_id(instance: &InstanceId, attempt: impl Into<Attempt>) -> String {
    let mut id = String::with_capacity(instance.as_str().len() + 5);
    for character in instance.as_str().chars() {
        let doubled = character == '-' && id.ends_with(['-', SECOND_HYPHEN]);
        id.push(if doubled { SECOND_HYPHEN } else { character });
    }
    format!("{id}.{}", attempt.into())
}

/// Reads a container's id back; `None` for one that is not ours.
pub(crate) fn parse_container_id(id: &str) -> Option<(InstanceId, Attempt)> {
    let (instance, attempt) = id.rsplit_once('.')?;
    let instance = InstanceId::new(&instance.replace(SECOND_HYPHEN, "-")).ok()?;
    let number = attempt.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    let companion = match &attempt.as_bytes()[number.len()..] {
        [] => None,
        [letter] => Some(letter - FIRST_COMPANION_LETTER),
        _ => return None,
    };
    let attempt = Attempt { companion, number: number.parse().ok()? };
    (container_id(&instance, attempt) == id).then_some((instance, attempt))
}

/// The labels of a new container: ours alone, from our own values. An image's labels never come here, as containerd acts
/// on some labels with the rights of root (CVE-2026-53488).
pub(crate) fn labels(
    node: &NodeId,
    request: &StartRequest<'_>,
    name: Option<&Name>,
    stop_signal: u32,
) -> HashMap<String, String> {
    let assignment = request.assignment;
    let mut labels = HashMap::from([
        (NODE.to_owned(), node.to_string()),
        (INSTANCE.to_owned(), assignment.instance.to_string()),
        (ATTEMPT.to_owned(), request.attempt.to_string()),
        (WORKLOAD.to_owned(), String::from(assignment.workload.clone())),
        (REVISION.to_owned(), assignment.revision.to_string()),
        (STOP_SIGNAL.to_owned(), stop_signal.to_string()),
    ]);
    labels.extend(name.map(|name| (CONTAINER.to_owned(), name.to_string())));
    labels
}

/// What a container's labels say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) instance: InstanceId,
    pub(crate) attempt: Attempt,
    pub(crate) workload: WorkloadId,
    pub(crate) revision: Revision,
    /// The name of a companion; `None` = it is the main container.
    pub(crate) container: Option<Name>,
}

/// Reads the labels; `None` where they are not whole, or do not agree with the id.
pub(crate) fn identify(id: &str, labels: &HashMap<String, String>) -> Option<Identity> {
    let (instance, attempt) = parse_container_id(id)?;
    let agrees = labels.get(INSTANCE)? == instance.as_str() && labels.get(ATTEMPT)? == &attempt.to_string();
    let workload = labels.get(WORKLOAD)?.parse().ok()?;
    let revision = Revision(labels.get(REVISION)?.parse().ok()?);
    let container = labels.get(CONTAINER).map(|name| Name::new(name)).transpose().ok()?;
    let agrees = agrees && container.is_some() == attempt.companion.is_some();
    agrees.then_some(Identity { instance, attempt, workload, revision, container })
}

#[cfg(test)]
mod tests {
    use api_types::companion::COMPANIONS_MAX;

    use super::*;

    #[test]
    fn every_instance_has_an_id_that_containerd_takes_and_that_reads_back() {
        for (name, id) in [("web-3f9", "web-3f9.7"), ("a--b", "a-Xb.7"), ("a---b-c--d", "a-XXb-c-Xd.7")] {
            let instance = InstanceId::new(name).expect("a name");

            assert_eq!(container_id(&instance, 7), id);
            assert_eq!(parse_container_id(id), Some((instance.clone(), 7.into())));
            let second = Attempt { companion: Some(1), number: 7 };
            assert_eq!(container_id(&instance, second), format!("{id}b"));
            assert_eq!(parse_container_id(&format!("{id}b")), Some((instance, second)));
        }
        let longest = InstanceId::new(&"a".repeat(63)).expect("a name");
        let last = u8::try_from(COMPANIONS_MAX - 1).expect("a small number");
        for companion in [None, Some(0), Some(last)] {
            let id = container_id(&longest, Attempt { companion, number: u32::MAX });
            assert!(id.len() <= 76 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.'), "{id}");
        }
    }

    #[test]
    fn a_foreign_id_is_not_ours() {
        for id in ["web", "web.x", "X.1", "web.01", "a--b.1", "../x.1", "web.1.2", "web.1bb", "web.b", "web.1B"] {
            assert_eq!(parse_container_id(id), None, "{id} was taken");
        }
    }
}
