//! Companions: the containers beside the main one of an instance.
//!
//! They are on its node, in its network and under its slot's volumes, each with an image, a root file system, an environment and
//! limits of its own. A companion is known by its name to people, and by its place in the list to the programs.

use serde::{Deserialize, Serialize};

use crate::{container::ContainerSpec, id::Name, resources::ResourceSpec};

/// The most companions of one workload.
pub const COMPANIONS_MAX: usize = 16;

/// One container beside the main one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompanionSpec {
    /// Its name, unique in the workload.
    pub name: Name,
    /// What it is there for.
    pub role: CompanionRole,
    /// What it runs. Network and drain are those of the main container, and its files change with the instance only.
    pub container: ContainerSpec,
    /// What it gets.
    pub resources: ResourceSpec,
}

/// What a companion is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompanionRole {
    /// It runs to its successful end before each start of the main process, after the one before it in the list.
    Init,
    /// It runs as long as the instance does, beside the main process, and is started again by itself.
    Sidecar,
}

impl CompanionRole {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Sidecar => "sidecar",
        }
    }
}

impl CompanionSpec {
    /// Whether it is an init step.
    #[must_use]
    pub fn is_init(&self) -> bool {
        self.role == CompanionRole::Init
    }

    /// What people are told it is: "init step `migrate`".
    #[must_use]
    pub fn describe(&self) -> String {
        match self.role {
            CompanionRole::Init => format!("init step `{}`", self.name),
            CompanionRole::Sidecar => format!("sidecar `{}`", self.name),
        }
    }
}
