//! Names and identifiers: newtypes that cannot be mixed, parsed once, safe in a path, a label and a DNS name.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::error::ValidationError;

/// The longest name, in bytes: one DNS label (RFC 1035 §2.3.4).
pub const NAME_BYTES_MAX: usize = 63;

/// A name as people write it: lower-case letters, digits and hyphens, 1 to 63 bytes, a letter or digit at both ends.
///
/// Every name in the system passes through [`Name::new`], so none can climb out of a path or a label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// When it is empty, too long, or holds anything but `a-z`, `0-9` and inner hyphens.
    pub fn new(text: &str) -> Result<Self, ValidationError> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edges = !text.starts_with('-') && !text.ends_with('-');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !edges || !text.bytes().all(inner) {
            return Err(ValidationError::new(
                "name",
                format!(
                    "`{}` is not a name: use a-z, 0-9 and inner hyphens, at most 63 characters",
                    text.chars().take(80).collect::<String>().escape_debug()
                ),
            ));
        }
        Ok(Self(text.into()))
    }

    /// Gives the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

macro_rules! name_newtype {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Name);

        impl $type {
            /// Checks and wraps a name; see [`Name::new`].
            ///
            /// # Errors
            /// When the text is not a [`Name`].
            pub fn new(text: &str) -> Result<Self, ValidationError> {
                Name::new(text).map(Self)
            }

            /// Gives the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = ValidationError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }
    };
}

name_newtype! {
    /// A node's name, unique in the cluster; fixed when the node joins.
    NodeId
}

name_newtype! {
    /// One run of a workload on one node: placed once, never revived under the same id.
    ///
    /// The scheduler makes it from the workload's name and a counter that never repeats (`web-3f9`), and cuts the
    /// name so that the whole stays a [`Name`].
    InstanceId
}

/// The namespace of a manifest that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

macro_rules! name_in_namespace {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type {
            /// The namespace; `default` where nobody said one.
            pub namespace: Name,
            /// The name inside the namespace.
            pub name: Name,
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.namespace.as_str() == DEFAULT_NAMESPACE {
                    write!(f, "{}", self.name)
                } else {
                    write!(f, "{}/{}", self.namespace, self.name)
                }
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = ValidationError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
                Ok(Self { namespace: Name::new(namespace)?, name: Name::new(name)? })
            }
        }

        impl TryFrom<String> for $type {
            type Error = ValidationError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.to_string()
            }
        }
    };
}

name_in_namespace! {
    /// A workload: its namespace and its name in there. Shown as `web` in the namespace `default`, else as `prod/web`.
    WorkloadId
}

name_in_namespace! {
    /// A secret: its namespace and its name in there; written like a [`WorkloadId`].
    SecretId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_climb_out_of_a_path() {
        for text in ["", "-a", "a-", "a/b", "..", "a.b", "A", "a\0", "ä", &"a".repeat(64)] {
            assert!(Name::new(text).is_err(), "{text:?} was accepted");
        }
        for text in ["a", "0", "web-1", &"a".repeat(63)] {
            assert_eq!(Name::new(text).map(|name| name.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_workload_id_reads_back_as_it_is_shown() {
        for text in ["web", "prod/web"] {
            assert_eq!(text.parse::<WorkloadId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        assert!("a/b/c".parse::<WorkloadId>().is_err());
    }
}
