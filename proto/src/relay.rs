//! The messages of a relay as values of our own.

use api_types::{
    counter::RequestId,
    relay::{RelayOutput, RelayRequest, RelayTarget},
};

/// A person's wish for a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRelay {
    /// Whose answer it will be.
    pub request: RequestId,
    /// To what, and what for.
    pub wanted: RelayRequest,
}

/// What an agent says in a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayFromAgent {
    /// Which [`OpenRelay`] this is; the first message, once.
    Begun {
        /// Its request.
        request: RequestId,
        /// Its other end.
        target: RelayTarget,
    },
    /// What the person gets.
    Output(RelayOutput),
}
