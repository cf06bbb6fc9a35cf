//! Who stays when a node returns whose instance was replaced, as a word.

use std::{fmt, str::FromStr};

use api_types::disconnect::OnReturn;

use crate::story::text::{name_of, named};

/// Whom a workload keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// Who was there first.
    Original,
    /// Who took its place.
    Replacement,
}

const NAMES: [(&str, Stays); 2] = [("original", Stays::Original), ("replacement", Stays::Replacement)];

impl Stays {
    pub(super) fn on_return(self) -> OnReturn {
        match self {
            Self::Original => OnReturn::KeepOriginal,
            Self::Replacement => OnReturn::KeepReplacement,
        }
    }
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&NAMES, *self))
    }
}

impl FromStr for Stays {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        named(&NAMES, name)
    }
}
