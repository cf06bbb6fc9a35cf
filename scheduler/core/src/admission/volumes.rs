//! How much volumes are meant to hold.

use api_types::workload::WorkloadSpec;

use crate::{cluster::volumes::volumes, effect::Refusal};

/// Checks that sizes are said of volumes that there are, and say something.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), Refusal> {
    let mounted = volumes(spec);
    let Some((name, bytes)) = spec.volume_sizes.iter().find(|(name, bytes)| **bytes == 0 || !mounted.contains(name))
    else {
        return Ok(());
    };
    let problem = if *bytes == 0 { "a size of 0 says nothing" } else { "none of its containers mounts it" };
    Err(Refusal::Invalid(format!("`{}`: volume_sizes: `{name}`: {problem}", spec.id)))
}
