//! The rules of the house as checks over the tree's files; `tests/tidy.rs` runs them.

pub mod imports;
pub mod lints;
pub mod names;
pub mod texts;
pub mod tree;
