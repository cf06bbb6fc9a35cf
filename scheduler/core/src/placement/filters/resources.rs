//! What instances are promised must fit into what a node can give away.

use api_types::workload::WorkloadSpec;

use crate::placement::filters::{Miss, Offer};

pub(super) fn check<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    let wanted = spec.resources.reserve;
    if offer.free.fits(wanted) { Ok(()) } else { Err(Miss::Resources(wanted.saturating_sub(offer.free))) }
}
