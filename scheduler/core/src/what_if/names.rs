//! The name that was probably meant.

use api_types::id::NodeId;

use crate::{effect::Refusal, machine::Scheduler, spelling::distance};

/// Says that there is no such node, and which one was probably meant.
pub(super) fn unknown_node(scheduler: &Scheduler, asked: &NodeId) -> Refusal {
    let known = scheduler.cluster.nodes.iter().map(|(id, _)| id);
    let near = known.map(|id| (distance(asked.as_str(), id.as_str()), id)).min();
    match near {
        Some((distance, nearest)) if distance <= 1 + asked.as_str().len() / 4 => {
            Refusal::MisspeltNode { asked: asked.clone(), nearest: nearest.clone() }
        }
        Some(_) | None => Refusal::UnknownNode(asked.clone()),
    }
}
