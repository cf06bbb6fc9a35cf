//! Counters that fence: newtypes over `u64` that cannot be mixed.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl $type {
            /// Gives the value after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

counter! {
    /// Which run of the scheduler speaks. Durable, one more at each start; an agent refuses a lower one.
    Epoch
}
counter! {
    /// Version of a node's assignment set or of the service table, within one [`Epoch`].
    Generation
}
counter! {
    /// Version of a workload's spec; one more at each change that a person applies.
    Revision
}
counter! {
    /// One connection of an agent, from hello to loss; the newest wins.
    SessionId
}
counter! {
    /// A request from a person that waits for its answer.
    RequestId
}
