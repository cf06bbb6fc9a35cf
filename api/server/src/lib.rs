//! HTTP for people and programs: routes, authorisation, problem bodies. Knows the scheduler only by
//! [`control_plane::ControlPlane`].

mod auth;
mod body;
pub mod control_plane;
mod explain;
mod look;
mod moves;
mod network;
mod problem;
mod relay;
mod rollouts;
mod routes;
mod secrets;
mod streams;
mod write;

#[cfg(test)]
extern crate self as api_server;
#[cfg(test)]
#[path = "../tests/fake/fake.rs"]
mod fake;

pub use routes::router;
