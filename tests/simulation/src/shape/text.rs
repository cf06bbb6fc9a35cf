//! Shapes as words that people read and change.

use std::{fmt, str::FromStr};

use crate::{
    shape::{Company, Even, Place, Shape, Urgency, Wanted},
    story::text::{Words, name_of, named},
};

impl Shape {
    /// Reads what [`fmt::Display`] wrote.
    ///
    /// # Errors
    /// Which word is missing or wrong.
    pub fn read(words: &mut Words<'_>) -> Result<Self, String> {
        Ok(Self {
            replicas: words.optional("replicas")?,
            scaled: words.optional("scaled")?,
            work: words.optional("work")?,
            steps: words.optional("steps")?.unwrap_or_default(),
            sidecars: words.optional("sidecars")?.unwrap_or_default(),
            version: words.required("version")?,
            cpu_millis: words.required("cpu")?,
            memory_mib: words.required("memory")?,
            arch: words.optional("arch")?,
            disk: words.optional("disk")?,
            tier: words.optional("tier")?,
            host_port: words.optional("host-port")?,
            per_node: words.optional("per-node")?,
            device: words.optional("device")?,
            with: words.optional("with")?,
            without: words.optional("without")?,
            even: words.optional("even")?,
            priority: words.optional("priority")?,
            bad: words.optional("bad")?,
            stays: words.optional("stays")?,
            racks: words.flag("racks"),
            volume: words.flag("volume"),
            probe: words.flag("probe"),
            never_replaced: words.flag("never-replaced"),
            flaps: words.flag("flaps"),
            exclusive: words.flag("exclusive"),
            judged: words.flag("judged"),
            ..Self::new(&words.required::<String>("workload")?, None)
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workload={}", self.name)?;
        word(f, "replicas", self.replicas.as_ref())?;
        word(f, "scaled", self.scaled.as_ref())?;
        word(f, "work", self.work.as_ref())?;
        word(f, "steps", Some(&self.steps).filter(|count| **count > 0))?;
        word(f, "sidecars", Some(&self.sidecars).filter(|count| **count > 0))?;
        write!(f, " version={} cpu={} memory={}", self.version, self.cpu_millis, self.memory_mib)?;
        word(f, "arch", self.arch.as_ref())?;
        word(f, "disk", self.disk.as_ref())?;
        word(f, "tier", self.tier.as_ref())?;
        word(f, "host-port", self.host_port.as_ref())?;
        word(f, "per-node", self.per_node.as_ref())?;
        word(f, "device", self.device.as_ref())?;
        word(f, "with", self.with.as_ref())?;
        word(f, "without", self.without.as_ref())?;
        word(f, "even", self.even.as_ref())?;
        word(f, "priority", self.priority.as_ref())?;
        word(f, "bad", self.bad.as_ref())?;
        word(f, "stays", self.stays.as_ref())?;
        let flags = [
            ("racks", self.racks),
            ("volume", self.volume),
            ("probe", self.probe),
            ("never-replaced", self.never_replaced),
            ("flaps", self.flaps),
            ("exclusive", self.exclusive),
            ("judged", self.judged),
        ];
        flags.iter().filter(|(_, is_set)| *is_set).try_for_each(|(name, _)| write!(f, " {name}"))
    }
}

fn word(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={value}"))
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Camera => f.write_str("camera"),
            Self::GpuShare => f.write_str("gpu"),
            Self::GpuMillis(millis) => write!(f, "gpu:{millis}"),
        }
    }
}

impl FromStr for Wanted {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            None if text == "camera" => Ok(Self::Camera),
            None if text == "gpu" => Ok(Self::GpuShare),
            Some(("gpu", millis)) => millis.parse().map(Self::GpuMillis).map_err(|_| ()),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Company {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.workload, self.within)
    }
}

impl FromStr for Company {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (workload, within) = text.split_once('@').ok_or(())?;
        Ok(Self { workload: workload.to_owned(), within: within.parse()? })
    }
}

impl fmt::Display for Even {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.over, self.skew)
    }
}

impl FromStr for Even {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (over, skew) = text.split_once(':').ok_or(())?;
        Ok(Self { over: over.parse()?, skew: skew.parse().map_err(|_| ())? })
    }
}

const PLACES: [(&str, Place); 3] = [("node", Place::Node), ("site", Place::Site), ("rack", Place::Rack)];
const URGENCIES: [(&str, Urgency); 3] =
    [("low", Urgency::Low), ("high", Urgency::High), ("critical", Urgency::Critical)];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&PLACES, *self))
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        named(&PLACES, name)
    }
}

impl fmt::Display for Urgency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(&URGENCIES, *self))
    }
}

impl FromStr for Urgency {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        named(&URGENCIES, name)
    }
}
