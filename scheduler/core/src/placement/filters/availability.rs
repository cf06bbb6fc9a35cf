//! A node takes instances while it is heard of, active, and has a container runtime.

use api_types::{
    node::{Availability, Liveness},
    workload::WorkloadSpec,
};

use crate::placement::filters::{Miss, Offer};

pub(super) fn check<'s>(offer: &Offer<'_>, _: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    let node = offer.node;
    match node.spec.availability {
        Availability::Active => {}
        Availability::Cordoned => return Err(Miss::Cordoned),
        Availability::Draining => return Err(Miss::Draining),
    }
    match node.liveness {
        Liveness::Ready => {}
        Liveness::Unreachable => return Err(Miss::Unreachable),
        Liveness::Lost => return Err(Miss::Lost),
    }
    if node.facts.is_none() {
        return Err(Miss::Unknown);
    }
    if node.runtime_trouble().is_some() { Err(Miss::RuntimeAway) } else { Ok(()) }
}
