//! The adapter on a real kernel: nodes in network namespaces of their own, real sockets. Needs root.

mod changes;
mod closed;
mod door;
mod faults;
mod firewalld;
mod in_node;
mod instances;
mod ipv6;
mod ipv6_ports;
mod isolation;
mod kubernetes;
mod legacy;
mod others;
mod others_ipv6;
mod policy;
mod ports;
mod reach;
mod server;
mod services;
mod ways;
mod world;
