//! A node takes at most so many instances of one workload.

use api_types::workload::{WorkloadKind, WorkloadSpec};

use crate::placement::filters::{Miss, Offer};

pub(super) fn check<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    let limit = match spec.kind {
        WorkloadKind::Service { .. } => spec.placement.per_node_max,
        WorkloadKind::Daemon => Some(1),
    };
    match limit {
        Some(limit) if offer.there >= limit => Err(Miss::PerNode(limit)),
        Some(_) | None => Ok(()),
    }
}
