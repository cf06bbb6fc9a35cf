//! Realistic bugs, each planted alone in a copy of the tree, to see whether the tests and the simulation notice.

pub mod mutation;
pub mod outcome;
pub mod record;
pub mod tree;
pub mod trial;
