//! Makes the kernel of one node equal to a plan: instance networks, routes and service balancing, by netlink alone.
//!
//! [`Network`] works in the network namespace of the threads that call it, so an agent that was started inside a
//! node's own namespace changes nothing outside it.

mod balancer;
mod collection;
mod conntrack;
mod door;
mod element;
mod error;
mod family;
mod foreign;
mod guard;
mod host_port;
mod in_node;
mod instance;
mod kernel;
mod loopback;
mod memory;
mod message;
mod mirror;
mod namespace;
mod network;
mod node_port;
mod passes;
mod peers;
mod plan;
mod reach;
mod route;
mod rule;
mod self_check;
mod shares;
mod slots;
mod socket;
mod sysctl;
mod table;
mod vxlan;
mod wanted;

pub use error::Error;
pub use host_port::listener_of;
pub use loopback::connect_inside;
pub use network::Network;
pub use plan::{
    ClosedInstance, Firewall, HostPort, Plan, PortConflict, Programmed, Settings, TableGuard, UnboundPort,
    UnreachablePeer, Verified,
};
pub use reach::{Asker, Outcome, Try};
pub use sysctl::Switched;
