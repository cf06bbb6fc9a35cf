//! The dense table of instances: a row of 24 bytes for what was decided, one of as many for what was observed, in pages of
//! 64 consecutive numbers. A page holds the rows that are there, one behind the other.

use std::{collections::BTreeMap, net::Ipv4Addr};

use api_types::{
    device::DeviceGrant,
    instance::{Exit, Findings, Health, InstanceState, InstanceStatus, InstanceUsage},
    time::Timestamp,
};

use crate::effect::PAGE_NUMBERS;

/// Told to stop.
pub(crate) const STOPPING: u8 = 1;
/// Left the service table.
pub(crate) const LEAVING: u8 = 2;
/// Ended for good.
pub(crate) const ENDED: u8 = 4;
/// Counts for its workload's evenness, as was looked at last.
pub(crate) const COUNTED: u8 = 8;
/// Must show that it works before it counts.
pub(crate) const TRIAL: u8 = 16;
/// Ended by itself as it should: it holds nothing of its node but what it wrote.
pub(crate) const FINISHED: u8 = 32;

/// What was decided of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// When it was placed.
    pub(crate) placed_at: Timestamp,
    /// What it runs.
    pub(crate) edition: u32,
    /// The node it is on.
    pub(crate) node: u32,
    /// Its slot.
    pub(crate) slot: u32,
    /// [`STOPPING`], [`LEAVING`], [`ENDED`], [`COUNTED`], [`TRIAL`], [`FINISHED`].
    pub(crate) flags: u8,
}

/// What a node said of an instance, without the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Where in its life.
    pub(crate) state: InstanceState,
    /// The probes' verdict.
    pub(crate) health: Health,
    /// Its address.
    pub(crate) address: Option<Ipv4Addr>,
    /// Process id on the node.
    pub(crate) pid: Option<u32>,
    /// How many times its process was started again.
    pub(crate) restarts: u32,
    /// How its process last ended.
    pub(crate) last_exit: Option<Exit>,
    /// Why it is as it is.
    pub(crate) reason: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// What else its node found out.
    pub(crate) findings: Findings,
}

/// The regular part of an [`Observation`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    since: Timestamp,
    address: Ipv4Addr,
    pid: u32,
    restarts: u32,
    state: InstanceState,
    health: Health,
    flags: u8,
}

const HAS_ADDRESS: u8 = 1;
const HAS_PID: u8 = 2;
const USED_UP: u8 = 4;

/// A sample of what an instance uses; more than 32 bits hold of CPU and processes counts as that.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    memory_bytes: u64,
    cpu_millis: u32,
    pids: u32,
}

/// What few instances have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rare {
    /// It is told to stop at this time.
    pub(crate) leaves_at: Option<Timestamp>,
    /// When its node said that it ended for good.
    pub(crate) ended_at: Option<Timestamp>,
    /// The devices it was given.
    pub(crate) devices: Vec<DeviceGrant>,
    /// How its process last ended.
    last_exit: Option<Exit>,
    /// Why it is as it is.
    reason: String,
    /// What else its node found out.
    findings: Findings,
}

/// The rows of 64 consecutive numbers.
#[derive(Clone, Debug, Default)]
struct Page {
    /// One bit for each number that is there.
    present: u64,
    /// The rows that are there, by number.
    rows: Vec<Row>,
    /// As many, or none at all while nothing was said of any.
    observed: Vec<Option<Observed>>,
    /// As many, or none at all while nothing was sampled.
    samples: Vec<Sample>,
}

/// All instances by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pages: BTreeMap<u64, Page>,
    rare: BTreeMap<u64, Box<Rare>>,
    len: usize,
}

impl From<InstanceStatus> for Observation {
    fn from(status: InstanceStatus) -> Self {
        let InstanceStatus { instance: _, state, health, address, pid, restarts, last_exit, reason, since, findings } =
            status;
        Self { state, health, address, pid, restarts, last_exit, reason, since, findings }
    }
}

impl Observed {
    /// Where in its life.
    pub(crate) fn state(&self) -> InstanceState {
        self.state
    }

    /// The probes' verdict.
    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Its address.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        (self.flags & HAS_ADDRESS != 0).then_some(self.address)
    }

    /// Whether it was restarted as often in a row as its spec allows, as its node says.
    pub(crate) fn used_up(&self) -> bool {
        self.flags & USED_UP != 0
    }

    fn new(observation: &Observation) -> Self {
        let Observation { state, health, address, pid, restarts, last_exit: _, reason: _, since, findings } =
            observation;
        let mut flags = 0;
        flags |= if address.is_some() { HAS_ADDRESS } else { 0 };
        flags |= if pid.is_some() { HAS_PID } else { 0 };
        flags |= if findings.used_up { USED_UP } else { 0 };
        Self {
            since: *since,
            address: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            pid: pid.unwrap_or_default(),
            restarts: *restarts,
            state: *state,
            health: *health,
            flags,
        }
    }

    fn whole(&self, rare: Option<&Rare>) -> Observation {
        Observation {
            state: self.state,
            health: self.health,
            address: self.address(),
            pid: (self.flags & HAS_PID != 0).then_some(self.pid),
            restarts: self.restarts,
            last_exit: rare.and_then(|rare| rare.last_exit.clone()),
            reason: rare.map(|rare| rare.reason.clone()).unwrap_or_default(),
            since: self.since,
            findings: rare.map(|rare| rare.findings.clone()).unwrap_or_default(),
        }
    }
}

impl Page {
    /// Where the row of a number is; `None` if it is not there.
    fn place(&self, number: u64) -> Option<usize> {
        let bit = 1 << (number % PAGE_NUMBERS);
        (self.present & bit != 0).then(|| self.rank(bit))
    }

    /// The row of a number.
    fn get(&self, number: u64) -> Option<(&Row, Option<&Observed>)> {
        let place = self.place(number)?;
        Some((&self.rows[place], self.observed.get(place).and_then(Option::as_ref)))
    }

    /// How many rows are before this bit.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    fn insert(&mut self, number: u64, row: Row) {
        let bit = 1 << (number % PAGE_NUMBERS);
        debug_assert_eq!(self.present & bit, 0, "each number is used once");
        let place = self.rank(bit);
        self.present |= bit;
        self.rows.insert(place, row);
        if !self.observed.is_empty() {
            self.observed.insert(place, None);
        }
        if !self.samples.is_empty() {
            self.samples.insert(place, Sample::default());
        }
    }

    fn remove(&mut self, number: u64) -> Option<Row> {
        let place = self.place(number)?;
        self.present &= !(1 << (number % PAGE_NUMBERS));
        if !self.observed.is_empty() {
            self.observed.remove(place);
        }
        if !self.samples.is_empty() {
            self.samples.remove(place);
        }
        let row = self.rows.remove(place);
        if self.rows.len() * 2 < self.rows.capacity() {
            self.rows.shrink_to_fit();
            self.observed.shrink_to_fit();
            self.samples.shrink_to_fit();
        }
        Some(row)
    }

    fn numbers(&self, page: u64) -> impl Iterator<Item = u64> + use<> {
        let mut left = self.present;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            if left == 0 {
                return None;
            }
            left &= left - 1;
            Some(page * PAGE_NUMBERS + u64::from(bit))
        })
    }
}

/// Rows looked up one after the other: numbers that follow each other are in one page, which is then found once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'r> {
    rows: &'r Rows,
    latest: Option<(u64, &'r Page)>,
}

impl<'r> Reader<'r> {
    /// The row of a number.
    pub(crate) fn get(&mut self, number: u64) -> Option<(&'r Row, Option<&'r Observed>)> {
        let index = number / PAGE_NUMBERS;
        let page = match self.latest {
            Some((latest, page)) if latest == index => page,
            Some(_) | None => self.rows.pages.get(&index)?,
        };
        self.latest = Some((index, page));
        page.get(number)
    }
}

impl Rows {
    /// Looks up many.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { rows: self, latest: None }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All numbers, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.iter().flat_map(|(page, rows)| rows.numbers(*page))
    }

    /// The numbers of one page, in order.
    pub(crate) fn numbers_in(&self, page: u64) -> impl Iterator<Item = u64> + '_ {
        self.pages.get(&page).into_iter().flat_map(move |rows| rows.numbers(page))
    }

    /// The row of a number.
    pub(crate) fn get(&self, number: u64) -> Option<(&Row, Option<&Observed>)> {
        self.pages.get(&(number / PAGE_NUMBERS))?.get(number)
    }

    /// The row of a number, to change.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Row> {
        let page = self.pages.get_mut(&(number / PAGE_NUMBERS))?;
        let place = page.place(number)?;
        page.rows.get_mut(place)
    }

    /// What few have, of this one.
    pub(crate) fn rare(&self, number: u64) -> Option<&Rare> {
        self.rare.get(&number).map(Box::as_ref)
    }

    /// Changes what few have; what says nothing any more is not kept.
    pub(crate) fn change_rare(&mut self, number: u64, change: impl FnOnce(&mut Rare)) {
        let mut rare = self.rare.remove(&number).unwrap_or_default();
        change(&mut rare);
        if *rare != Rare::default() {
            self.rare.insert(number, rare);
        }
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, number: u64, row: Row) {
        self.pages.entry(number / PAGE_NUMBERS).or_default().insert(number, row);
        self.len += 1;
    }

    /// Removes a row with all that is known beside it.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Row> {
        let page = self.pages.get_mut(&(number / PAGE_NUMBERS))?;
        let row = page.remove(number)?;
        if page.rows.is_empty() {
            self.pages.remove(&(number / PAGE_NUMBERS));
        }
        self.rare.remove(&number);
        self.len -= 1;
        Some(row)
    }

    /// What was said of an instance; `None` = nothing.
    pub(crate) fn observation(&self, number: u64) -> Option<Observation> {
        let (_, observed) = self.get(number)?;
        Some(observed?.whole(self.rare(number)))
    }

    /// Takes over what was said of an instance.
    pub(crate) fn observe(&mut self, number: u64, observation: Option<Observation>) {
        let Some(page) = self.pages.get_mut(&(number / PAGE_NUMBERS)) else { return };
        let Some(place) = page.place(number) else { return };
        if page.observed.is_empty() {
            page.observed.reserve_exact(page.rows.capacity());
            page.observed.resize(page.rows.len(), None);
        }
        page.observed[place] = observation.as_ref().map(Observed::new);
        let (last_exit, reason, findings) = observation
            .map(|observation| (observation.last_exit, observation.reason, observation.findings))
            .unwrap_or_default();
        let is_rare = last_exit.is_some() || !reason.is_empty() || !findings.is_empty();
        if is_rare || self.rare.contains_key(&number) {
            self.change_rare(number, |rare| {
                (rare.last_exit, rare.reason, rare.findings) = (last_exit, reason, findings);
            });
        }
    }

    /// The last sample of what an instance uses.
    pub(crate) fn usage(&self, number: u64) -> InstanceUsage {
        let page = self.pages.get(&(number / PAGE_NUMBERS));
        let sample = page.and_then(|page| page.samples.get(page.place(number)?)).copied().unwrap_or_default();
        InstanceUsage {
            cpu_millis: sample.cpu_millis.into(),
            memory_bytes: sample.memory_bytes,
            pids: sample.pids.into(),
            new_connections_millis: None,
        }
    }

    /// Takes over a sample of what an instance uses.
    pub(crate) fn sample(&mut self, number: u64, usage: &InstanceUsage) {
        let Some(page) = self.pages.get_mut(&(number / PAGE_NUMBERS)) else { return };
        let Some(place) = page.place(number) else { return };
        if page.samples.is_empty() {
            page.samples.reserve_exact(page.rows.capacity());
            page.samples.resize(page.rows.len(), Sample::default());
        }
        page.samples[place] = Sample {
            memory_bytes: usage.memory_bytes,
            cpu_millis: u32::try_from(usage.cpu_millis).unwrap_or(u32::MAX),
            pids: u32::try_from(usage.pids).unwrap_or(u32::MAX),
        };
    }
}

#[cfg(test)]
mod tests;
