//! Releases that do not work, whatever their nodes do: as a word, and as a part of their image's name.

use std::{fmt, str::FromStr};

use crate::story::text::{name_of, named};

/// What is wrong with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Its processes end at once.
    Crashes,
    /// Its processes run, and never answer a probe.
    Mute,
}

const NAMES: [(&str, Bad); 2] = [("crashes", Bad::Crashes), ("mute", Bad::Mute)];

impl Bad {
    /// What is wrong with an image.
    #[must_use]
    pub fn of_image(image: &str) -> Option<Self> {
        let is_part = |(name, _): &&(&str, Self)| image.split('/').any(|part| part == *name);
        NAMES.iter().find(is_part).map(|(_, bad)| *bad)
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&NAMES, *self))
    }
}

impl FromStr for Bad {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        named(&NAMES, name)
    }
}
