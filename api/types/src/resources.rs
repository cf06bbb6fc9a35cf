//! Amounts of CPU and memory.

use serde::{Deserialize, Serialize};

/// An amount of CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of one CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Resources {
    /// Adds, or gives `None` where a sum would overflow.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            cpu_millis: self.cpu_millis.checked_add(other.cpu_millis)?,
            memory_bytes: self.memory_bytes.checked_add(other.memory_bytes)?,
        })
    }

    /// Subtracts, stopping at zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }

    /// Whether `wanted` fits in this, in every dimension.
    #[must_use]
    pub fn fits(self, wanted: Self) -> bool {
        wanted.cpu_millis <= self.cpu_millis && wanted.memory_bytes <= self.memory_bytes
    }
}

/// What an instance is promised and what it may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// Promised: what placement counts.
    pub reserve: Resources,
    /// CPU above which the process is throttled, in thousandths of one CPU; `None` = no limit.
    pub cpu_millis_max: Option<u64>,
    /// Memory above which the process is killed, in bytes. There is always one.
    pub memory_bytes_max: u64,
    /// Processes and threads above which `fork` fails.
    pub pids_max: u64,
}

impl Default for ResourceSpec {
    fn default() -> Self {
        Self {
            reserve: Resources { cpu_millis: 50, memory_bytes: 32 << 20 },
            cpu_millis_max: None,
            memory_bytes_max: 256 << 20,
            pids_max: 512,
        }
    }
}
