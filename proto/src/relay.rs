//! The messages of a relay as values of our own.

use api_types::{
    counter::RequestId,
    id::InstanceId,
    relay::{RelayOutput, RelayPurpose},
};

/// A person's wish for a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRelay {
    /// Whose answer it will be.
    pub request: RequestId,
    /// To which instance.
    pub instance: InstanceId,
    /// What for.
    pub purpose: RelayPurpose,
}

/// What an agent says in a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayFromAgent {
    /// Which [`OpenRelay`] this is; the first message, once.
    Begun {
        /// Its request.
        request: RequestId,
        /// Its instance.
        instance: InstanceId,
    },
    /// What the person gets.
    Output(RelayOutput),
}
