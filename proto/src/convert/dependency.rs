//! What an instance waits for.

use api_types::dependency::{Awaited, Dependency};

use super::{known, parsed, unknown};
use crate::{error::ConvertError, v1};

impl From<Dependency> for v1::Dependency {
    fn from(dependency: Dependency) -> Self {
        let awaited = match dependency.awaited {
            Awaited::Healthy => v1::Awaited::Healthy,
            Awaited::Started => v1::Awaited::Started,
            Awaited::Completed => v1::Awaited::Completed,
        };
        Self { workload: dependency.workload.to_string(), awaited: awaited.into() }
    }
}

impl TryFrom<v1::Dependency> for Dependency {
    type Error = ConvertError;

    fn try_from(wire: v1::Dependency) -> Result<Self, Self::Error> {
        let awaited = match known("awaited", wire.awaited)? {
            v1::Awaited::Unspecified => return Err(unknown("awaited", wire.awaited)),
            v1::Awaited::Healthy => Awaited::Healthy,
            v1::Awaited::Started => Awaited::Started,
            v1::Awaited::Completed => Awaited::Completed,
        };
        Ok(Self { workload: parsed("workload", &wire.workload)?, awaited })
    }
}
