//! Why a message could not be read.

use std::fmt::Display;

use thiserror::Error;

/// A message of the other side that cannot be read: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {reason}")]
pub struct ConvertError {
    /// The field, as a path from the root of the message (`report.statuses[3].address`).
    pub path: String,
    /// What is wrong with it; lower case, no full stop.
    pub reason: String,
}

impl ConvertError {
    /// Makes an error for one field.
    pub fn new(path: impl Into<String>, reason: impl Display) -> Self {
        Self { path: path.into(), reason: reason.to_string() }
    }

    /// Makes an error for a field that must be there and is not.
    pub fn missing(path: impl Into<String>) -> Self {
        Self::new(path, "is missing")
    }

    /// Puts the field below another one.
    #[must_use]
    pub fn within(self, parent: impl Display) -> Self {
        let path = if self.path.is_empty() { parent.to_string() } else { format!("{parent}.{}", self.path) };
        Self { path, reason: self.reason }
    }
}
