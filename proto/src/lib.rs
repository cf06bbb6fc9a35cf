//! What scheduler and agent say to each other: wire types, their conversion, and the changes of sets and tables.
//!
//! The protocol in prose is in this folder's `README.md`. Outside this crate, wire types ([`v1`]) are met only where a
//! stream is read or written; everything else speaks the types of [`session`] and of `api-types`.

mod convert;
pub mod error;
pub mod limits;
pub mod network;
pub mod relay;
pub mod session;
pub mod update;

/// The wire types and rpcs, version 1, generated from `v1/*.proto`.
pub mod v1 {
    #![expect(clippy::too_many_lines, clippy::allow_attributes_without_reason, reason = "generated")]
    tonic::include_proto!("wherry.v1");
}
