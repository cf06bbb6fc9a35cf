//! Names of services, instances and nodes, answered on each node from the table it holds; all other names are passed on.
//!
//! [`Zone`] knows the names, [`Server`] listens. The table is asked for at each question, so there is nothing to refresh.

mod answer;
mod cache;
mod forward;
mod resolver;
mod server;
mod zone;

pub use resolver::Upstream;
pub use server::{Directory, Server, Settings};
pub use zone::{ORIGIN, Own, Zone};
