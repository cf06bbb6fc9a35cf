//! Where instances may and should run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Rules for choosing a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSpec {
    /// All must hold.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// Over what to spread, the most important first.
    pub spread: Vec<SpreadKey>,
    /// Most instances of this workload on one node.
    #[serde(default)]
    pub per_node_max: Option<u32>,
}

impl Default for PlacementSpec {
    fn default() -> Self {
        Self { constraints: Vec::new(), spread: vec![SpreadKey::Site, SpreadKey::Node], per_node_max: None }
    }
}

/// Something that instances are spread over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpreadKey {
    /// The sites.
    Site,
    /// The nodes.
    Node,
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
    /// `>`: as integers.
    Greater,
    /// `<`: as integers.
    Less,
}

/// One rule that a node must meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// What is looked at.
    pub key: ConstraintKey,
    /// How it is compared.
    pub operator: Operator,
    /// With what; empty for [`Operator::Has`], one value for the others but the two lists.
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
            Operator::Greater => compared().is_some_and(std::cmp::Ordering::is_gt),
            Operator::Less => compared().is_some_and(std::cmp::Ordering::is_lt),
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
            Operator::Greater => write!(f, "{} > {values}", self.key),
            Operator::Less => write!(f, "{} < {values}", self.key),
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
        assert!(met(Operator::Greater, &["9"], Some("10")) && !met(Operator::Greater, &["9"], Some("x")));
        assert!(met(Operator::Less, &["9"], Some("-1")) && !met(Operator::Less, &["9"], None));
    }
}
