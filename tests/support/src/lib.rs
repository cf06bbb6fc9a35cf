//! What tests stand on: waiting, golden files, images, and real nodes on one machine.

pub mod cluster;
pub mod containerd;
pub mod figures;
pub mod golden;
pub mod http;
pub mod load;
pub mod look_up;
pub mod netns;
pub mod node;
pub mod oci;
pub mod program;
pub mod registry;
pub mod settings;
pub mod show;
pub mod sweep;
pub mod wait;
