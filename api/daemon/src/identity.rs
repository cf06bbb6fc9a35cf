//! Who a program is: tokens, pins of keys, and the rules of every TLS handshake in the system.

pub mod clock;
mod peer_verifier;
pub mod pin;
pub mod tls;
pub mod token;
mod verifier;

/// The name in every certificate of the scheduler. Addresses may change freely; this does not.
pub const SERVER_NAME: &str = "scheduler.wherry.internal";
