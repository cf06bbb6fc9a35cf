//! The containers beside the main one of an instance.

use api_types::companion::{CompanionRole, CompanionSpec};

use super::{known, parsed, required, unknown};
use crate::{error::ConvertError, v1};

impl From<CompanionSpec> for v1::Companion {
    fn from(spec: CompanionSpec) -> Self {
        let role = match spec.role {
            CompanionRole::Init => v1::CompanionRole::Init,
            CompanionRole::Sidecar => v1::CompanionRole::Sidecar,
        };
        Self {
            name: spec.name.into(),
            role: role.into(),
            container: Some(spec.container.into()),
            resources: Some(spec.resources.into()),
        }
    }
}

impl TryFrom<v1::Companion> for CompanionSpec {
    type Error = ConvertError;

    fn try_from(wire: v1::Companion) -> Result<Self, Self::Error> {
        Ok(Self {
            name: parsed("name", &wire.name)?,
            role: match known("role", wire.role)? {
                v1::CompanionRole::Unspecified => return Err(unknown("role", wire.role)),
                v1::CompanionRole::Init => CompanionRole::Init,
                v1::CompanionRole::Sidecar => CompanionRole::Sidecar,
            },
            container: required("container", wire.container)?,
            resources: required("resources", wire.resources)?,
        })
    }
}
