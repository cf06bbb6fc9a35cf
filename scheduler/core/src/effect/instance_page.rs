//! The durable form of instances: a page holds up to 64 consecutive numbers, so that a million placements are some sixteen
//! thousand records. What follows each other regularly is written once: a run of numbers has one workload, one revision,
//! one time, and slots that count up.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    counter::Revision,
    device::DeviceGrant,
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Instance},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cluster::ids::{instance_id, is_named_after, number_in};

/// How many numbers share a page.
pub const PAGE_NUMBERS: u64 = 64;

/// The layout that this program writes.
const VERSION: u8 = 1;

/// Up to 64 instances with consecutive numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Layout")]
pub struct InstancePage {
    /// The layout's version.
    v: u8,
    /// Which page: the first number is 64 times this.
    page: u64,
    /// The nodes that the runs speak of, each once.
    nodes: Vec<NodeId>,
    /// The instances, by number.
    runs: Vec<Run>,
}

/// Instances with consecutive numbers and slots, and all else but the node alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// The first one's place in the page.
    at: u8,
    /// Whose they are.
    workload: WorkloadId,
    /// The spec they run.
    revision: Revision,
    /// The first one's slot.
    slot: u32,
    /// When they were placed.
    placed_at: Timestamp,
    /// Whether they are to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stop: bool,
    /// The node of each, as a place in the page's list.
    nodes: Vec<u8>,
    /// The devices of those that were given some, by place in the page.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    devices: BTreeMap<u8, Vec<DeviceGrant>>,
}

/// A page as it is read, before anything about it is believed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    v: u8,
    page: u64,
    nodes: Vec<NodeId>,
    runs: Vec<Run>,
}

/// Why bytes are not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PageError {
    /// A later version wrote it.
    #[error("a page of instances has layout {0}, this program knows {VERSION}: install the version that wrote it")]
    Version(u8),
    /// Its parts contradict each other.
    #[error("a page of instances is not one: {0}")]
    Broken(&'static str),
}

/// One instance with its number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PageEntry<'p> {
    pub(crate) number: u64,
    pub(crate) workload: &'p WorkloadId,
    pub(crate) revision: Revision,
    pub(crate) slot: u32,
    pub(crate) node: &'p NodeId,
    pub(crate) placed_at: Timestamp,
    pub(crate) desired: Desired,
    pub(crate) devices: &'p [DeviceGrant],
}

impl PageEntry<'_> {
    /// The whole of it, as people and agents name things.
    fn instance(&self) -> Instance {
        Instance {
            id: instance_id(self.workload, self.number),
            workload: self.workload.clone(),
            slot: self.slot,
            revision: self.revision,
            node: self.node.clone(),
            devices: self.devices.to_vec(),
            desired: self.desired,
            placed_at: self.placed_at,
        }
    }
}

impl InstancePage {
    /// Makes a page of instances that come by number.
    pub(crate) fn new<'e>(page: u64, entries: impl Iterator<Item = PageEntry<'e>>) -> Self {
        let mut this = Self { v: VERSION, page, nodes: Vec::new(), runs: Vec::new() };
        let mut known: BTreeMap<&NodeId, u8> = BTreeMap::new();
        for entry in entries {
            let node = *known.entry(entry.node).or_insert_with(|| {
                this.nodes.push(entry.node.clone());
                u8::try_from(this.nodes.len() - 1).expect("at most as many nodes as numbers")
            });
            this.push(&entry, node);
        }
        this
    }

    /// Which page it is: the first number is 64 times this.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.page
    }

    /// The instances, by number.
    pub fn instances(&self) -> impl Iterator<Item = Instance> + '_ {
        self.entries().map(|entry| entry.instance())
    }

    /// What differs between two states of a page, by number: each instance as it was and as it is. `None` = there is no page.
    #[must_use]
    pub fn differences(before: Option<&Self>, after: Option<&Self>) -> Vec<(Option<Instance>, Option<Instance>)> {
        let mut before = before.into_iter().flat_map(Self::entries).peekable();
        let mut after = after.into_iter().flat_map(Self::entries).peekable();
        let mut differences = Vec::new();
        while let Some(number) = before.peek().into_iter().chain(after.peek()).map(|entry| entry.number).min() {
            let was = before.next_if(|entry| entry.number == number);
            let is = after.next_if(|entry| entry.number == number);
            if was != is {
                differences.push((was.map(|entry| entry.instance()), is.map(|entry| entry.instance())));
            }
        }
        differences
    }

    /// The instance with this id.
    #[must_use]
    pub fn find(&self, id: &InstanceId) -> Option<Instance> {
        let number = number_in(id)?;
        let entry = self.entries().find(|entry| entry.number == number && is_named_after(id, entry.workload))?;
        self.instances().find(|instance| instance.id == instance_id(entry.workload, number))
    }

    /// The page in which an instance is durable; `None` if the id is none that a scheduler makes.
    #[must_use]
    pub fn of(id: &InstanceId) -> Option<u64> {
        Some(number_in(id)? / PAGE_NUMBERS)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = PageEntry<'_>> {
        self.runs.iter().flat_map(move |run| {
            run.nodes.iter().zip(0_u8..).map(move |(node, step)| PageEntry {
                number: self.page * PAGE_NUMBERS + u64::from(run.at + step),
                workload: &run.workload,
                revision: run.revision,
                slot: run.slot + u32::from(step),
                node: &self.nodes[usize::from(*node)],
                placed_at: run.placed_at,
                desired: if run.stop { Desired::Stop } else { Desired::Run },
                devices: run.devices.get(&(run.at + step)).map_or(&[], Vec::as_slice),
            })
        })
    }

    fn push(&mut self, entry: &PageEntry<'_>, node: u8) {
        let at = u8::try_from(entry.number - self.page * PAGE_NUMBERS).expect("a number of this page");
        let stop = entry.desired == Desired::Stop;
        let follows = |run: &&mut Run| {
            let count = u8::try_from(run.nodes.len()).expect("at most as many as a page has");
            run.at + count == at
                && run.slot.checked_add(u32::from(count)) == Some(entry.slot)
                && (run.revision, run.placed_at, run.stop) == (entry.revision, entry.placed_at, stop)
                && run.workload == *entry.workload
        };
        if self.runs.last_mut().filter(follows).is_none() {
            self.runs.push(Run {
                at,
                workload: entry.workload.clone(),
                revision: entry.revision,
                slot: entry.slot,
                placed_at: entry.placed_at,
                stop,
                nodes: Vec::new(),
                devices: BTreeMap::new(),
            });
        }
        let run = self.runs.last_mut().expect("there is one now");
        run.nodes.push(node);
        if !entry.devices.is_empty() {
            run.devices.insert(at, entry.devices.to_vec());
        }
    }
}

impl TryFrom<Layout> for InstancePage {
    type Error = PageError;

    fn try_from(layout: Layout) -> Result<Self, PageError> {
        let Layout { v, page, nodes, runs } = layout;
        if v != VERSION {
            return Err(PageError::Version(v));
        }
        if page > u64::MAX / PAGE_NUMBERS {
            return Err(PageError::Broken("its number is too great"));
        }
        if nodes.len() as u64 > PAGE_NUMBERS || nodes.iter().collect::<BTreeSet<_>>().len() != nodes.len() {
            return Err(PageError::Broken("it names a node twice, or too many"));
        }
        let mut free_from = 0;
        for run in &runs {
            let end = usize::from(run.at) + run.nodes.len();
            if usize::from(run.at) < free_from || run.nodes.is_empty() || end as u64 > PAGE_NUMBERS {
                return Err(PageError::Broken("its runs overlap, are empty or leave the page"));
            }
            free_from = end;
            let last = u32::try_from(run.nodes.len()).ok().and_then(|count| run.slot.checked_add(count - 1));
            if last.is_none() || run.nodes.iter().any(|node| usize::from(*node) >= nodes.len()) {
                return Err(PageError::Broken("a run leaves the slots or names a node that is not listed"));
            }
            if run.devices.keys().any(|at| !(usize::from(run.at)..end).contains(&usize::from(*at))) {
                return Err(PageError::Broken("devices of an instance that is not there"));
            }
        }
        Ok(Self { v, page, nodes, runs })
    }
}

#[cfg(test)]
mod tests;
