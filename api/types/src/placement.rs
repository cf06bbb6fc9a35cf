//! Where instances may and should run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::WorkloadId;

/// Rules for choosing a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSpec {
    /// All must hold.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// Over what to spread, the most important first.
    pub spread: Vec<Spread>,
    /// Most instances of this workload on one node.
    #[serde(default)]
    pub per_node_max: Option<u32>,
    /// With which other workloads instances share a place, and with which they do not. All must hold.
    #[serde(default)]
    pub affinities: Vec<Affinity>,
    /// Who goes first, and who gives way, where there is not room for all: what fits nowhere displaces services of a lower
    /// priority, never equals and never daemons.
    #[serde(default)]
    pub priority: Priority,
}

impl Default for PlacementSpec {
    fn default() -> Self {
        Self {
            constraints: Vec::new(),
            spread: vec![Spread::soft(Domain::Site), Spread::soft(Domain::Node)],
            per_node_max: None,
            affinities: Vec::new(),
            priority: Priority::default(),
        }
    }
}

/// One rule of evenness.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Over what.
    pub over: Domain,
    /// By how many instances the fullest place may exceed the emptiest that could take one; at least 1. Nodes that would
    /// exceed it take none. `None`: as even as there is room for.
    #[serde(default)]
    pub skew_max: Option<u32>,
}

impl Spread {
    /// As even as there is room for.
    #[must_use]
    pub fn soft(over: Domain) -> Self {
        Self { over, skew_max: None }
    }
}

/// What nodes have in common that makes them one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// The site.
    Site,
    /// Each node is a place of its own.
    Node,
    /// The value of a label; nodes without it are one place together.
    Label(String),
}

/// The longest name of a label that a spec can speak of, in bytes.
pub const LABEL_NAME_BYTES_MAX: usize = 63;

/// Whether a spec can speak of a label of this name: letters, digits, `-`, `_`, `.` and `/`, 1 to 63.
#[must_use]
pub fn is_label_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    (1..=LABEL_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(inner)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site => f.write_str("site"),
            Self::Node => f.write_str("node"),
            Self::Label(name) => write!(f, "label.{name}"),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.skew_max {
            Some(skew) => write!(f, "{} skew {skew}", self.over),
            None => write!(f, "{}", self.over),
        }
    }
}

/// A rule about the instances of another workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// The other workload, in the same namespace unless said otherwise; it need not exist (yet).
    pub workload: WorkloadId,
    /// What counts as one place.
    pub within: Domain,
    /// Whether one of its instances must be there, or none may be. *None may be* holds in both directions: neither is
    /// placed where the other is.
    pub relation: Relation,
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = match self.relation {
            Relation::With => "with",
            Relation::Without => "without",
        };
        write!(f, "{relation} {} on one {}", self.workload, self.within)
    }
}

/// Which way an [`Affinity`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// At least one of its instances is in the same place.
    With,
    /// None of its instances is in the same place.
    Without,
}

/// Who goes first where there is not room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// After everybody else.
    Low,
    /// What most things are.
    #[default]
    Normal,
    /// Before normal and low ones.
    High,
    /// Before all others: what a site cannot be without.
    Critical,
}

impl Priority {
    /// As in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// A property of a node that a constraint looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKey {
    /// CPU architecture as images name it: `amd64`, `arm64`, `arm`.
    Arch,
    /// Operating system as images name it: `linux`.
    Os,
    /// The node's site.
    Site,
    /// The node's name.
    Node,
    /// One of the node's labels.
    Label(String),
}

impl fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arch => f.write_str("arch"),
            Self::Os => f.write_str("os"),
            Self::Site => f.write_str("site"),
            Self::Node => f.write_str("node"),
            Self::Label(name) => write!(f, "label.{name}"),
        }
    }
}

/// How a constraint compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`; also true where the property is absent.
    NotEqual,
    /// `in`: one of the values.
    In,
    /// `notin`: none of the values; also true where the property is absent.
    NotIn,
    /// `has`: the property is there.
    Has,
    /// `hasnot`: the property is absent.
    HasNot,
    /// `>`: as integers.
    Greater,
    /// `<`: as integers.
    Less,
    /// `>=`: as integers.
    AtLeast,
    /// `<=`: as integers.
    AtMost,
}

/// One rule that a node must meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// What is looked at.
    pub key: ConstraintKey,
    /// How it is compared.
    pub operator: Operator,
    /// With what; empty for [`Operator::Has`] and [`Operator::HasNot`], one value for the others but the two lists.
    #[serde(default)]
    pub values: Vec<String>,
}

impl Constraint {
    /// Whether a node meets it, given the node's value for the key (`None` = the node has no such property).
    #[must_use]
    pub fn is_met_by(&self, value: Option<&str>) -> bool {
        let first = self.values.first().map(String::as_str);
        let listed = || value.is_some_and(|value| self.values.iter().any(|candidate| candidate == value));
        let compared =
            || -> Option<std::cmp::Ordering> { Some(value?.parse::<i64>().ok()?.cmp(&first?.parse::<i64>().ok()?)) };
        match self.operator {
            Operator::Equal => value.is_some() && value == first,
            Operator::NotEqual => value != first,
            Operator::In => listed(),
            Operator::NotIn => !listed(),
            Operator::Has => value.is_some(),
            Operator::HasNot => value.is_none(),
            Operator::Greater => compared().is_some_and(std::cmp::Ordering::is_gt),
            Operator::Less => compared().is_some_and(std::cmp::Ordering::is_lt),
            Operator::AtLeast => compared().is_some_and(std::cmp::Ordering::is_ge),
            Operator::AtMost => compared().is_some_and(std::cmp::Ordering::is_le),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(", ");
        match self.operator {
            Operator::Equal => write!(f, "{} == {values}", self.key),
            Operator::NotEqual => write!(f, "{} != {values}", self.key),
            Operator::In => write!(f, "{} in [{values}]", self.key),
            Operator::NotIn => write!(f, "{} notin [{values}]", self.key),
            Operator::Has => write!(f, "has {}", self.key),
            Operator::HasNot => write!(f, "hasnot {}", self.key),
            Operator::Greater => write!(f, "{} > {values}", self.key),
            Operator::Less => write!(f, "{} < {values}", self.key),
            Operator::AtLeast => write!(f, "{} >= {values}", self.key),
            Operator::AtMost => write!(f, "{} <= {values}", self.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_property_meets_only_negations() {
        let met = |operator, values: &[&str], value| {
            let values = values.iter().map(|&value| value.to_owned()).collect();
            Constraint { key: ConstraintKey::Site, operator, values }.is_met_by(value)
        };

        assert!(met(Operator::Equal, &["a"], Some("a")) && !met(Operator::Equal, &["a"], None));
        assert!(met(Operator::NotEqual, &["a"], None) && !met(Operator::NotEqual, &["a"], Some("a")));
        assert!(met(Operator::In, &["a", "b"], Some("b")) && !met(Operator::In, &["a"], None));
        assert!(met(Operator::NotIn, &["a"], None) && !met(Operator::NotIn, &["a"], Some("a")));
        assert!(met(Operator::Has, &[], Some("")) && !met(Operator::Has, &[], None));
        assert!(met(Operator::HasNot, &[], None) && !met(Operator::HasNot, &[], Some("")));
        assert!(met(Operator::Greater, &["9"], Some("10")) && !met(Operator::Greater, &["9"], Some("x")));
        assert!(met(Operator::Less, &["9"], Some("-1")) && !met(Operator::Less, &["9"], None));
        assert!(met(Operator::AtLeast, &["9"], Some("9")) && !met(Operator::AtLeast, &["9"], Some("8")));
        assert!(met(Operator::AtMost, &["9"], Some("9")) && !met(Operator::AtMost, &["9"], None));
    }
}
