//! A port of a node leads to one instance only.

use api_types::workload::WorkloadSpec;

use crate::placement::filters::{Miss, Offer};

pub(super) fn check<'s>(offer: &Offer<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    for port in &spec.ports {
        let Some(number) = port.host else { continue };
        let holder = offer.node.host_ports.get(&(number, port.protocol));
        if offer.given || holder.is_some_and(|holder| offer.without != Some(*holder)) {
            return Err(Miss::HostPort(number, port.protocol));
        }
    }
    Ok(())
}
