//! Which workloads may ask a workload's instances.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    error::ValidationError,
    id::{Name, WorkloadId},
};

/// What everybody is called.
const EVERYBODY: &str = "*";
/// How a namespace is marked.
const NAMESPACE: &str = "namespace:";

/// Who may ask: written `*`, `namespace:shop` or `shop/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// Every instance of the cluster.
    Everybody,
    /// The instances of all workloads of a namespace.
    Namespace(Name),
    /// The instances of one workload.
    Workload(WorkloadId),
}

impl Source {
    /// Whether instances of this workload are meant.
    #[must_use]
    pub fn is(&self, workload: &WorkloadId) -> bool {
        match self {
            Self::Everybody => true,
            Self::Namespace(namespace) => *namespace == workload.namespace,
            Self::Workload(id) => id == workload,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str(EVERYBODY),
            Self::Namespace(namespace) => write!(f, "{NAMESPACE}{namespace}"),
            Self::Workload(id) => write!(f, "{}/{}", id.namespace, id.name),
        }
    }
}

impl FromStr for Source {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(NAMESPACE) {
            _ if text == EVERYBODY => Ok(Self::Everybody),
            Some(namespace) => Name::new(namespace).map(Self::Namespace),
            None => text.parse().map(Self::Workload),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

/// Who may ask the instances of a workload, and from which addresses they ask themselves. In a service table only while
/// some workload of the cluster admits only some others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access {
    /// Who may ask, besides the workload's own instances and the nodes; `None`: everybody.
    pub allow_from: Option<Vec<Source>>,
    /// The addresses of all its instances, whether they serve or not, sorted.
    pub instances: Vec<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_everybody_a_namespace_or_a_workload() {
        let read = |text: &str| text.parse::<Source>().expect("a source");
        let [web, api] = ["shop/web", "default/api"].map(|id| id.parse::<WorkloadId>().expect("an id"));

        assert!(read("*").is(&web) && read("*").is(&api));
        assert!(read("namespace:shop").is(&web) && !read("namespace:shop").is(&api));
        assert!(read("shop/web").is(&web) && !read("shop/web").is(&api));
        for text in ["*", "namespace:shop", "shop/web", "default/api"] {
            assert_eq!(read(text).to_string(), text);
        }
        assert!("namespace:".parse::<Source>().is_err() && "shop/".parse::<Source>().is_err());
    }
}
