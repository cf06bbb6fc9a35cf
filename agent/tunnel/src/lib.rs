//! Connections between sites: from a listener on one node, over mutual TLS, to an instance on another.
//!
//! [`Tunnel::follow`] is told whom this node may ask and whom it answers; [`Tunnel::state`] says what can be asked now, and
//! where this node listens for it. All else happens by itself.

mod answer;
mod carry;
mod dial;
mod front;
mod identity;
mod listener;
mod offer;
mod plan;
mod pool;
mod tunnel;
mod way;
mod wire;

pub use identity::Identity;
pub use plan::{Peer, Plan, Remote, Served, State};
pub use tunnel::Tunnel;
