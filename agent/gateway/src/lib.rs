//! The node's listener for published HTTP ports: it owns the clients' connections and shares out their requests.
//!
//! [`Gateway::follow`] is told the fronts and who stands behind each; all else happens by itself.

mod endpoint;
mod exchange;
mod front;
mod gateway;
mod headers;
mod listener;

pub use front::{Front, Upstream};
pub use gateway::{Gateway, Refused};
