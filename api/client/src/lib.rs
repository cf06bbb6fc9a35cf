//! A typed client of the HTTP API, and how it finds its scheduler.

pub mod client;
pub mod context;
pub mod error;
mod transport;

pub use crate::{
    client::{Client, Lines, LogQuery, RelayReader, RelayWriter},
    error::ClientError,
};
