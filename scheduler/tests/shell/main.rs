//! The whole shell in one process, as people and agents meet it: real TLS, real HTTP, a fake agent.

mod cluster;
mod fake_agent;
mod joining;
mod relays;
mod sessions;
mod streams;
