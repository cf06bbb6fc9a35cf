//! What every daemon shows its operator: configuration, logging, start and end, and who it is.

pub mod config_file;
pub mod durable_file;
pub mod identity;
pub mod logging;
pub mod notify;
pub mod sealing;
pub mod shutdown;
pub mod supervisor;
