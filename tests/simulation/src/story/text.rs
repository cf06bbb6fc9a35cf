//! Deeds as lines that people read and change: a name, then words of the form `key=value`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    shape::Shape,
    story::{Deed, Lost, Place, Way},
};

/// The words of a line, taken one by one.
#[derive(Debug)]
pub struct Words<'l>(BTreeMap<&'l str, &'l str>);

impl<'l> Words<'l> {
    fn of(line: &'l str) -> (&'l str, Self) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        (name, Self(words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect()))
    }

    /// The value of a word that must be there.
    ///
    /// # Errors
    /// When it is not there, or is not of its type.
    pub fn required<T: FromStr>(&mut self, key: &str) -> Result<T, String> {
        self.optional(key)?.ok_or_else(|| format!("`{key}=` is missing"))
    }

    /// The value of a word that may be left out.
    ///
    /// # Errors
    /// When it is not of its type.
    pub fn optional<T: FromStr>(&mut self, key: &str) -> Result<Option<T>, String> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| format!("`{key}={value}` cannot be read"))
    }

    /// Whether a word without a value is there.
    pub fn flag(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    fn end(self) -> Result<(), String> {
        self.0.keys().next().map_or(Ok(()), |key| Err(format!("`{key}` is not known here")))
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SchedulerDies { effects, down_ms, clock_ms } => {
                write!(f, "scheduler-dies after-effects={effects} for={down_ms} clock={clock_ms}")
            }
            Self::SchedulerFreezes { for_ms } => write!(f, "scheduler-freezes for={for_ms}"),
            Self::SlowDisk { for_ms } => write!(f, "slow-disk for={for_ms}"),
            Self::BlackOut { most_ms } => write!(f, "black-out at-most={most_ms}"),
            Self::RegistryAway { for_ms } => write!(f, "registry-away for={for_ms}"),
            Self::AgentDies { node, down_ms, clock_ms } => {
                write!(f, "agent-dies node={node} for={down_ms} clock={clock_ms}")
            }
            Self::AgentFreezes { node, for_ms } => write!(f, "agent-freezes node={node} for={for_ms}"),
            Self::PowerOff { node, for_ms, cpu_millis } => {
                write!(f, "power-off node={node} for={for_ms}")?;
                cpu_millis.map_or(Ok(()), |cpu| write!(f, " cpu={cpu}"))
            }
            Self::ContainerdDies { node, for_ms } => write!(f, "containerd-dies node={node} for={for_ms}"),
            Self::ContainerdHangs { node, for_ms } => write!(f, "containerd-hangs node={node} for={for_ms}"),
            Self::Cut { place, way, for_ms } => write!(f, "cut {place} way={way} for={for_ms}"),
            Self::Break { node } => write!(f, "break node={node}"),
            Self::DiskForgets { node, lost } => write!(f, "disk-forgets node={node} what={lost}"),
            Self::RemoveContainer { node, number } => write!(f, "remove-container node={node} number={number}"),
            Self::Ghost { node } => write!(f, "ghost node={node}"),
            Self::Replay { node } => write!(f, "replay node={node}"),
            Self::Look { node } => write!(f, "look node={node}"),
            Self::Apply(shape) => write!(f, "apply {shape}"),
            Self::Scale { workload, replicas } => write!(f, "scale workload={workload} replicas={replicas}"),
            Self::Delete { workload } => write!(f, "delete workload={workload}"),
            Self::Cordon { node, for_ms } => write!(f, "cordon node={node} for={for_ms}"),
            Self::Drain { node, for_ms } => write!(f, "drain node={node} for={for_ms}"),
            Self::Forget { node, for_ms } => write!(f, "forget node={node} for={for_ms}"),
            Self::Unplug { node, number, for_ms } => write!(f, "unplug node={node} number={number} for={for_ms}"),
            Self::ForgetVolume { workload, slot: None } => write!(f, "forget-volume workload={workload}"),
            Self::ForgetVolume { workload, slot: Some(slot) } => {
                write!(f, "forget-volume workload={workload} slot={slot}")
            }
            Self::Resume { site } => write!(f, "resume site={site}"),
            Self::Rebalance => f.write_str("rebalance"),
        }
    }
}

impl FromStr for Deed {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let (name, mut words) = Words::of(line);
        let deed = read(name, &mut words).map_err(|wrong| format!("{name}: {wrong}"))?;
        words.end().map_err(|wrong| format!("{name}: {wrong}"))?;
        Ok(deed)
    }
}

fn read(name: &str, words: &mut Words<'_>) -> Result<Deed, String> {
    Ok(match name {
        "scheduler-dies" => Deed::SchedulerDies {
            effects: words.required("after-effects")?,
            down_ms: words.required("for")?,
            clock_ms: words.required("clock")?,
        },
        "scheduler-freezes" => Deed::SchedulerFreezes { for_ms: words.required("for")? },
        "slow-disk" => Deed::SlowDisk { for_ms: words.required("for")? },
        "black-out" => Deed::BlackOut { most_ms: words.required("at-most")? },
        "registry-away" => Deed::RegistryAway { for_ms: words.required("for")? },
        "apply" => Deed::Apply(Box::new(Shape::read(words)?)),
        "scale" => Deed::Scale { workload: words.required("workload")?, replicas: words.required("replicas")? },
        "delete" => Deed::Delete { workload: words.required("workload")? },
        "forget-volume" => Deed::ForgetVolume { workload: words.required("workload")?, slot: words.optional("slot")? },
        "resume" => Deed::Resume { site: words.required("site")? },
        "rebalance" => Deed::Rebalance,
        "cut" => {
            let place = match words.optional("site")? {
                Some(site) => Place::Site(site),
                None => Place::Node(words.required("node")?),
            };
            Deed::Cut { place, way: words.required("way")?, for_ms: words.required("for")? }
        }
        _ => read_of_node(name, words)?,
    })
}

/// What is done to one node.
fn read_of_node(name: &str, words: &mut Words<'_>) -> Result<Deed, String> {
    let node = words.optional("node")?.ok_or("it is not known, or `node=` is missing")?;
    if name == "unplug" {
        return Ok(Deed::Unplug { node, number: words.required("number")?, for_ms: words.required("for")? });
    }
    let mut for_ms = || words.required("for");
    Ok(match name {
        "agent-dies" => Deed::AgentDies { node, down_ms: for_ms()?, clock_ms: words.required("clock")? },
        "agent-freezes" => Deed::AgentFreezes { node, for_ms: for_ms()? },
        "power-off" => Deed::PowerOff { node, for_ms: for_ms()?, cpu_millis: words.optional("cpu")? },
        "containerd-dies" => Deed::ContainerdDies { node, for_ms: for_ms()? },
        "containerd-hangs" => Deed::ContainerdHangs { node, for_ms: for_ms()? },
        "break" => Deed::Break { node },
        "disk-forgets" => Deed::DiskForgets { node, lost: words.required("what")? },
        "remove-container" => Deed::RemoveContainer { node, number: words.required("number")? },
        "ghost" => Deed::Ghost { node },
        "replay" => Deed::Replay { node },
        "look" => Deed::Look { node },
        "cordon" => Deed::Cordon { node, for_ms: for_ms()? },
        "drain" => Deed::Drain { node, for_ms: for_ms()? },
        "forget" => Deed::Forget { node, for_ms: for_ms()? },
        _ => return Err("there is no such deed".to_owned()),
    })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node={node}"),
            Self::Site(site) => write!(f, "site={site}"),
        }
    }
}

const WAYS: [(&str, Way); 3] = [("up", Way::Up), ("down", Way::Down), ("both", Way::Both)];
const LOSSES: [(&str, Lost); 3] = [("set", Lost::Set), ("table", Lost::Table), ("all", Lost::All)];

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&WAYS, *self))
    }
}

impl FromStr for Way {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        named(&WAYS, name)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&LOSSES, *self))
    }
}

impl FromStr for Lost {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        named(&LOSSES, name)
    }
}

/// The name of one of these values.
pub(crate) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, named)| *named == value).map_or("", |(name, _)| name)
}

/// The value with this name.
///
/// # Errors
/// When there is none.
pub(crate) fn named<T: Copy>(names: &[(&'static str, T)], name: &str) -> Result<T, ()> {
    names.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or(())
}
