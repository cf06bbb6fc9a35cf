//! A node must be of the architecture and operating system that a workload asks for, if it asks.

use api_types::{placement::ConstraintKey, workload::WorkloadSpec};

use crate::placement::filters::{Miss, Offer, is_about_images};

pub(super) fn check<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    for constraint in spec.placement.constraints.iter().filter(|constraint| is_about_images(constraint)) {
        let Some(facts) = &offer.node.facts else { return Err(Miss::Unknown) };
        let value = if constraint.key == ConstraintKey::Arch { &facts.arch } else { &facts.os };
        if !constraint.is_met_by(Some(value).filter(|value| !value.is_empty()).map(String::as_str)) {
            return Err(Miss::Architecture(constraint));
        }
    }
    Ok(())
}
