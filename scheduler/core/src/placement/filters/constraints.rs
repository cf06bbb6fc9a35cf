//! A node must meet the constraints on its site, its name and its labels.

use api_types::{placement::ConstraintKey, workload::WorkloadSpec};

use crate::placement::filters::{Miss, Offer, is_about_images};

pub(super) fn check<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    let node = &offer.node.spec;
    for constraint in spec.placement.constraints.iter().filter(|constraint| !is_about_images(constraint)) {
        let value = match &constraint.key {
            ConstraintKey::Arch | ConstraintKey::Os => None,
            ConstraintKey::Site => Some(node.site.as_str()),
            ConstraintKey::Node => Some(node.id.as_str()),
            ConstraintKey::Label(name) => node.labels.get(name).map(String::as_str),
        };
        if !constraint.is_met_by(value) {
            return Err(Miss::Constraint(constraint));
        }
    }
    Ok(())
}
