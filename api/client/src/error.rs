//! What can go wrong between here and the scheduler, and what to do about it.

use api_types::view::Problem;
use thiserror::Error;

/// Why a call gave no answer, or the answer no.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers at the address.
    #[error("cannot reach the scheduler at {server}: {reason}")]
    Unreachable {
        /// The address as configured.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// Somebody answers who is not this cluster's scheduler.
    #[error("the scheduler at {server} is not the one of this context: {reason}")]
    Untrusted {
        /// The address as configured.
        server: String,
        /// What the check said.
        reason: String,
    },
    /// Nothing came in time.
    #[error("the scheduler at {server} did not answer within {seconds} s")]
    Timeout {
        /// The address as configured.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection broke, or what came is not what this version understands.
    #[error("the answer of the scheduler at {server} makes no sense: {reason}")]
    Garbled {
        /// The address as configured.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// The scheduler answered: no.
    #[error("{}", .0.title)]
    Refused(Problem),
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Upload(String),
    /// The CA of the context is not a certificate.
    #[error("the CA of this context is not a PEM certificate: {0}")]
    Ca(String),
}

impl ClientError {
    /// What to do next, in one line; may be empty.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Unreachable { .. } => {
                "is wherry-scheduler running, and is the address right? `wherry context show` says where it comes from"
            }
            Self::Untrusted { .. } => {
                "compare address and CA with those that `wherry-scheduler init` wrote; `wherry context show` lists them"
            }
            Self::Timeout { .. } => "look into the scheduler's log; try again",
            Self::Garbled { .. } => "compare the versions: `wherry version`",
            Self::Refused(problem) => &problem.hint,
            Self::Upload(_) => "",
            Self::Ca(_) => "copy it anew from the scheduler's context file",
        }
    }
}
