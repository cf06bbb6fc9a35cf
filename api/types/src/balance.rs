//! How connections are shared out: which endpoints are preferred, who stays with whom, and where a port answers.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{error::ValidationError, net::IpVersion, placement::Constraint};

/// The largest weight of an endpoint; the smallest, and that of endpoints of which nothing is said, is 1.
pub const WEIGHT_MAX: u16 = 100;

/// How a service's connections are shared out, as a person asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalanceSpec {
    /// What every node follows.
    #[serde(default, skip_serializing_if = "BalancePolicy::is_default")]
    pub policy: BalancePolicy,
    /// Weights of endpoints by their nodes: the first rule that a node meets counts; without one the weight is 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightRule>,
}

impl BalanceSpec {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a node shares out the connections of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancePolicy {
    /// Which endpoints are used first.
    #[serde(default)]
    pub prefer: Preference,
    /// Milliseconds for which a client's address stays with its endpoint after its last new connection; `None` = each
    /// connection is balanced for itself. Whoever stays longer away may meet another.
    #[serde(default)]
    pub affinity_ms: Option<u64>,
    /// Milliseconds in which the weight of an endpoint that joins others rises from a little to all of it; `None` = at once.
    #[serde(default)]
    pub slow_start_ms: Option<u64>,
    /// What clients get while no endpoint is ready.
    #[serde(default)]
    pub when_none_ready: WhenNoneReady,
}

impl BalancePolicy {
    /// Whether it is what holds where nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which endpoints are used first. Others are used only while there is none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// Those on the node where the connection arrives, then its site's, then all.
    Local,
    /// Those of the site where the connection arrives, then all.
    Site,
    /// All alike.
    #[default]
    Any,
}

impl Preference {
    /// As in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Site => "site",
            Self::Any => "any",
        }
    }
}

/// What clients get while instances run but none is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenNoneReady {
    /// Those that run, ready or not: a probe that fails everywhere is more often wrong than all instances are.
    #[default]
    Keep,
    /// A refusal at once.
    Refuse,
}

impl WhenNoneReady {
    /// As in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Refuse => "refuse",
        }
    }
}

/// The weight of endpoints on some nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRule {
    /// On which nodes.
    pub nodes: Constraint,
    /// How much of the connections each gets, in proportion to the others' weights: 1 to [`WEIGHT_MAX`].
    pub weight: u16,
}

impl fmt::Display for WeightRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weight {}", self.nodes, self.weight)
    }
}

/// The longest name of a link, in bytes (`IFNAMSIZ` less the final zero).
const LINK_NAME_BYTES_MAX: usize = 15;

/// Where a port of a node answers: at one address, or at all addresses of one link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bind {
    /// At this address only; nodes that do not have it do not answer.
    Address(IpAddr),
    /// At the addresses of the link with this name, of both versions of the protocol.
    Link(String),
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Link(name) => f.write_str(name),
        }
    }
}

impl FromStr for Bind {
    type Err = ValidationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |problem: String| Err(ValidationError::new("bind", problem));
        if let Ok(address) = text.parse::<IpAddr>() {
            return match unfit(address) {
                Some(problem) => wrong(problem),
                None => Ok(Self::Address(address)),
            };
        }
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        if !(1..=LINK_NAME_BYTES_MAX).contains(&text.len()) || !text.bytes().all(plain) || text == "." || text == ".." {
            let shown = text.escape_debug();
            let examples = "an address such as 192.0.2.7 or 2001:db8::7 nor a link such as eth0";
            return wrong(format!("`{shown}` is neither {examples}"));
        }
        if text == "lo" {
            return wrong("`lo` cannot be had: ports of a node do not answer on its loopback addresses".to_owned());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return wrong(format!("`{text}` is not an IPv4 address such as 192.0.2.7"));
        }
        Ok(Self::Link(text.to_owned()))
    }
}

/// Why nothing can be bound to an address, if that is so.
fn unfit(address: IpAddr) -> Option<String> {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() {
        return Some(format!("{address} means every address: leave it out"));
    }
    if address.to_canonical() != address {
        return Some(format!("{address} is of IPv4: write it as {}", address.to_canonical()));
    }
    if address.is_loopback() {
        return Some(format!("{address} cannot be had: ports of a node do not answer on its loopback addresses"));
    }
    if address.is_multicast() || is_broadcast {
        return Some(format!("{address} is not an address of one node"));
    }
    let is_of_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    is_of_link.then(|| format!("{address} means another node on each link: name the link, such as eth0"))
}

impl Bind {
    /// Whether anything that is bound so answers by this version of the protocol.
    #[must_use]
    pub fn has(&self, version: IpVersion) -> bool {
        match self {
            Self::Address(address) => IpVersion::of(*address) == version,
            Self::Link(_) => true,
        }
    }
}

impl TryFrom<String> for Bind {
    type Error = ValidationError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Bind> for String {
    fn from(bind: Bind) -> Self {
        bind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_answer_is_an_address_or_a_link() {
        assert_eq!("192.0.2.7".parse(), Ok(Bind::Address([192, 0, 2, 7].into())));
        assert_eq!("2001:DB8:0::7".parse::<Bind>().map(|bind| bind.to_string()).as_deref(), Ok("2001:db8::7"));
        assert_eq!("eth0.100".parse(), Ok(Bind::Link("eth0.100".to_owned())));
        for text in ["", "0.0.0.0", "127.0.0.1", "lo", "10.0.0.256", "a b", "eth0:1", "a-name-of-16-byt", "224.0.0.1"] {
            assert!(text.parse::<Bind>().is_err(), "{text}");
        }
        for text in ["::", "::1", "::ffff:192.0.2.7", "ff02::1", "fe80::1", "fe80::1%eth0", "2001:db8::/32", "2001:db8"]
        {
            assert!(text.parse::<Bind>().is_err(), "{text}");
        }
    }
}
