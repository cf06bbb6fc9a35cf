//! Sites: groups of nodes that are close to each other, and how instances are reached inside one and from others.

use serde::{Deserialize, Serialize};

/// What an operator said of a site. One of which nothing was said is as [`SiteSpec::of`] makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSpec {
    /// Its name.
    pub name: String,
    /// How its nodes reach each other's instances.
    pub reach: Reach,
    /// How nodes of other sites reach its instances.
    pub across: Across,
}

impl SiteSpec {
    /// A site of which nothing was said.
    #[must_use]
    pub fn of(name: impl Into<String>) -> Self {
        Self { name: name.into(), reach: Reach::default(), across: Across::default() }
    }
}

/// How nodes of one site reach each other's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// By a route to each node: all nodes must be on one link. Nothing is wrapped.
    #[default]
    Routes,
    /// Wrapped in UDP (VXLAN, RFC 7348): the nodes may be on different networks, with routers between them.
    Vxlan,
}

impl Reach {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Vxlan => "vxlan",
        }
    }

    /// Whether it is what is meant where nobody said anything.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How nodes of other sites reach a site's instances. Two sites are apart if one of them says so, and else have a tunnel if
/// one of them says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Across {
    /// As if they were of one site: by a route, on a link that both sites share.
    #[default]
    Routes,
    /// Not at all: no packet passes between instances of the site and others.
    Apart,
    /// By connections between the agents, over mutual TLS: for services that ask for it alone, and TCP alone. One of both
    /// nodes must reach the other.
    Tunnel,
}

impl Across {
    /// The word people write.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Apart => "apart",
            Self::Tunnel => "tunnel",
        }
    }

    /// Whether it is what is meant where nobody said anything.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
