//! What the demo, the stories and the benches share: the image they run, the workload they apply, how they look at it.

pub mod cluster;
pub mod docker;
pub mod shop;
