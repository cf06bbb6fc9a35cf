//! Groups: the instances of one workload, counted per node and per place.

use crate::demand::Demand;

/// A group of equal instances, as the engine numbers them; numbers of removed ones are used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupIndex(pub u32);

/// How many instances of a group are in one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count {
    /// Those that count for evenness.
    pub counted: u32,
    /// All of them, also those that are about to go.
    pub total: u32,
}

/// One workload's demand and where its instances are.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub(crate) demand: Demand,
    pub(crate) total: u64,
}

impl Group {
    /// What each of its instances asks for.
    #[must_use]
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// How many instances it has in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}
