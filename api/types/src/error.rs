//! What is wrong with a value, and where.

use std::fmt;

/// A value that was refused: the path to the field and what is wrong with it, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// The field, as a path from the root of what was given (`service.web.ports.http.publish`).
    pub path: String,
    /// What is wrong and what to write instead; lower case, no full stop.
    pub problem: String,
}

impl ValidationError {
    /// Makes an error for one field.
    #[must_use]
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for ValidationError {}
